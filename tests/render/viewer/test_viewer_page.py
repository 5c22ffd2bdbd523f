"""The viewer's page as text: what it holds, what it refuses to load, and that its script was built from its source."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from poses import walking_pose

from vp3d_cli.render.viewer.encode import encode_pose
from vp3d_cli.render.viewer.page import Footage, viewer_page

ROOT = Path(__file__).resolve().parents[3]
VIEWER = ROOT / "vp3d_cli" / "render" / "viewer"
SOURCES = ROOT / "tools" / "build_viewer"


class Page(HTMLParser):
    """Start tags with their attributes, and the text of the title and of each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.title = ""
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "title":
            self.title += data
        elif self._inside == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = attributes, text + data


def test_page_holds_the_motion_and_loads_nothing() -> None:
    pose = walking_pose(people=2, frames=5)
    page = Page(viewer_page(pose, "walk.mp4"))
    assert page.title == "walk.mp4"
    held, script = (text for _, text in page.scripts)
    assert json.loads(held) == encode_pose(pose)
    assert script.startswith("/* vp3d viewer")
    for tag, attributes in page.tags:
        assert "src" not in attributes, tag
        assert attributes.get("href", "data:,") == "data:,", tag
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "http" not in policy


@pytest.mark.parametrize("title", ["</title><script>alert(1)</script>", "a & b < c", '"quoted" %TITLE% %BODY%', "Zoë"])
def test_title_is_text(title: str) -> None:
    page = Page(viewer_page(walking_pose(people=1, frames=2), title))
    assert page.title == title
    assert len(page.scripts) == 2


def test_names_in_the_data_cannot_end_the_script() -> None:
    from dataclasses import replace

    pose = walking_pose(people=1, frames=2)
    joints = ("</script><script>alert(1)", "<!--", *pose.joint_names_3d[2:])
    page = Page(viewer_page(replace(pose, joint_names_3d=joints), "t"))
    assert len(page.scripts) == 2
    assert json.loads(page.scripts[0][1])["joints"] == list(joints)


def test_video_is_held_or_linked() -> None:
    pose = walking_pose(people=1, frames=2)
    held = Page(viewer_page(pose, "t", Footage(1.5, mp4=b"\0mp4\xff")))
    assert [a["data-start"] for tag, a in held.tags if tag == "video"] == ["1.5"]
    assert base64.b64decode(held.scripts[1][1]) == b"\0mp4\xff"
    linked = Page(viewer_page(pose, "t", Footage(0.0, link='../a "b" & #1?.mp4')))
    assert [a["src"] for tag, a in linked.tags if tag == "video"] == ["../a%20%22b%22%20%26%20%231%3F.mp4"]
    assert len(linked.scripts) == 2


def test_script_was_built_from_its_sources() -> None:
    stated = re.search(r"Sources: ([0-9a-f]{64})", (VIEWER / "viewer.js").read_text(encoding="ascii")[:400])
    assert stated is not None
    digest = hashlib.sha256()
    for source in sorted((SOURCES / "src").iterdir()):
        digest.update(f"{source.name}\0".encode() + source.read_bytes())
    digest.update((SOURCES / "package.json").read_bytes())
    assert stated[1] == digest.hexdigest(), "run npm ci && npm run build in tools/build_viewer"


def test_licence_of_what_is_bundled_is_there() -> None:
    version = json.loads((SOURCES / "package.json").read_text(encoding="utf-8"))["devDependencies"]["three"]
    assert f"three.js {version}, MIT" in (VIEWER / "viewer.js").read_text(encoding="ascii")[:400]
    licence = (VIEWER / "LICENSE-three.txt").read_text(encoding="utf-8")
    assert "The MIT License" in licence
    assert "three.js authors" in licence
