"""Build the web viewer's page: one HTML file that needs no network.

It holds the motion, the viewer and the video.
"""

from __future__ import annotations

import base64
import html
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from vp3d_cli.pose import Pose3D
from vp3d_cli.render.viewer.encode import encode_pose

# No address but the page itself: a page that holds a stranger's file names and motion cannot load or send anything.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; media-src blob:{media}; base-uri 'none'; form-action 'none'"
)
_FULL_PAGE = "html, body { height: 100%; margin: 0; }"


@dataclass(frozen=True)
class Footage:
    """The video beside the motion; one of ``mp4`` and ``link``.

    Attributes:
        start_s: the pose's time, seconds, at which the video begins.
        mp4: a whole mp4 file that browsers play, to be held in the page.
        link: path of a video relative to the page, with slashes, to be loaded from there.
    """

    start_s: float
    mp4: bytes | None = None
    link: str | None = None


def viewer_page(pose: Pose3D, title: str, footage: Footage | None = None) -> str:
    """The web viewer as a whole HTML page.

    Args:
        pose: the motion to show.
        title: of the page, such as the video's name; escaped here.
        footage: the video beside it.

    Returns:
        HTML that needs no network; characters beyond ASCII only in the title.
    """
    body = viewer_element(pose, footage, full_page=True)
    return whole_page(title, body, f"{viewer_style()}\n{_FULL_PAGE}", linked=footage is not None and bool(footage.link))


def whole_page(title: str, body: str, style: str, *, linked: bool = False) -> str:
    """Return an HTML page that may load nothing, except with ``linked`` a video beside it.

    The title is escaped here.
    """
    policy = _POLICY.format(media=" 'self' file:" if linked else "")
    parts = {"POLICY": policy, "TITLE": html.escape(title), "STYLE": style, "BODY": body}
    return _filled(_resource("page.html"), parts)


def viewer_style() -> str:
    """The CSS that the viewer's element needs."""
    return _resource("viewer.css")


def viewer_element(pose: Pose3D, footage: Footage | None = None, *, full_page: bool = False) -> str:
    """The viewer as HTML elements to stand in a page once: the controls, the data, the script.

    Args:
        pose: the motion to show.
        footage: the video beside it.
        full_page: the viewer is all there is on the page, so that it hears every key.
    """
    parts = {
        "MODE": " data-page" if full_page else "",
        "FOOTAGE": _footage_element(footage) if footage else "",
        "VIDEO_BUTTON": '<button data-command="video" title="Video (V)">Video</button>' if footage else "",
    }
    # In a script element only "<" could end it, or begin what the parser takes for a comment.
    data = json.dumps(encode_pose(pose), allow_nan=False).replace("<", "\\u003c")
    elements = [
        _filled(_resource("viewer.html"), parts),
        f'<script type="application/json" id="vp3d-data">{data}</script>',
    ]
    if footage and footage.mp4 is not None:
        packed = base64.b64encode(footage.mp4).decode("ascii")
        elements.append(f'<script type="text/plain" id="vp3d-video">{packed}</script>')
    return "\n".join([*elements, f"<script>{_resource('viewer.js')}</script>"])


def _footage_element(footage: Footage) -> str:
    source = f' src="{html.escape(quote(footage.link))}"' if footage.link else ""
    return (
        f'<div class="vp3d-footage"><video muted playsinline preload="auto" data-start="{footage.start_s!r}"'
        f"{source}></video></div>"
    )


def _filled(template: str, parts: dict[str, str]) -> str:
    """The template with each %NAME% replaced; what is filled in is not searched again."""
    pieces = template.split("%")
    known = [parts[piece] if place % 2 else piece for place, piece in enumerate(pieces)]
    return "".join(known)


@cache
def _resource(name: str) -> str:
    return Path(str(files(__package__) / name)).read_text(encoding="utf-8")
