"""weights.py: manifests, hashes, the user's folder, remote files."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from vp3d_cli import weights
from vp3d_cli.errors import WeightsError
from vp3d_cli.weights import (
    add_to_manifest,
    add_weights,
    find_weights,
    list_weights,
    read_manifest,
    sha256_of,
    user_weights_dir,
    verify_weights,
    weights_dir,
)

# sha256 of b"abc", from FIPS 180-4's examples
ABC_SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
ENTRY = {"kind": "pose", "licence": "MIT", "source": "a test", "trained_on": "nothing"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder of its own for each test."""
    monkeypatch.setenv("VP3D_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the weights that ship, with one file ``abc``."""
    folder = tmp_path / "bundled"
    folder.mkdir()
    (folder / "abc.bin").write_bytes(b"abc")
    add_to_manifest(folder, "abc.bin", "abc", kind="pose", licence="MIT", source="a test", trained_on="nothing")
    monkeypatch.setattr(weights, "weights_dir", lambda: folder)
    return folder


def set_entry(folder: Path, name: str, **changes: object) -> None:
    """Change fields of an entry in a manifest, as somebody with an editor would."""
    path = folder / "manifest.json"
    entries = json.loads(path.read_text())
    entries.setdefault(name, {**ENTRY, "file": f"{name}.bin", "sha256": ABC_SHA256, "bytes": 3}).update(changes)
    path.write_text(json.dumps(entries))


def test_everything_that_ships_is_whole() -> None:
    assert (weights_dir() / "manifest.json").is_file()
    results = verify_weights()
    assert {"movenet-thunder", "movenet-lightning", "movenet-multipose"} <= {entry.name for entry, _ in results}
    assert [problem for _, problem in results if problem] == []


def test_shipped_entries_say_where_they_come_from() -> None:
    for entry in list_weights():
        assert entry.licence
        assert entry.source
        assert entry.trained_on
        assert entry.present == (entry.path.exists())
        if entry.present:
            assert entry.bytes == entry.path.stat().st_size


def test_sha256_of(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == ABC_SHA256
    with pytest.raises(WeightsError, match="cannot read"):
        sha256_of(tmp_path / "none")


def test_find_gives_the_entry(bundled: Path) -> None:
    entry = find_weights("abc")
    assert (entry.path, entry.sha256, entry.bytes) == (bundled / "abc.bin", ABC_SHA256, 3)
    assert entry.bundled
    assert entry.licence == "MIT"


@pytest.mark.usefixtures("bundled")
def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(WeightsError, match="no weights named 'xyz'; known: abc"):
        find_weights("xyz")


def test_damaged_file_is_refused(bundled: Path) -> None:
    (bundled / "abc.bin").write_bytes(b"abd")
    with pytest.raises(WeightsError, match=r"expected ba7816bf8f01\.\.\.") as caught:
        find_weights("abc")
    assert "\n" not in str(caught.value)
    [(entry, problem)] = verify_weights()
    assert entry.name == "abc"
    assert problem == str(caught.value)


def test_missing_file_is_reported(bundled: Path) -> None:
    (bundled / "abc.bin").unlink()
    with pytest.raises(WeightsError, match="is missing"):
        find_weights("abc")


@pytest.mark.parametrize(
    "text", ["", "[]", '{"abc": {}}', '{"abc": 1}', '{"abc": {"file": "../../etc/passwd", "sha256": ""}}']
)
def test_broken_manifest_is_one_clear_line(bundled: Path, text: str) -> None:
    (bundled / "manifest.json").write_text(text)
    with pytest.raises(WeightsError, match=r"manifest\.json: invalid manifest"):
        list_weights()


def test_user_weights_are_copied_and_found(bundled: Path, home: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(b"mine")
    added = add_weights(mine, "my-lifter", kind="pose")
    mine.unlink()
    assert added.path == home / "weights" / "my-lifter.safetensors"
    assert find_weights("my-lifter") == added
    assert not added.bundled
    assert [entry.name for entry in list_weights()] == ["abc", "my-lifter"]
    assert read_manifest(bundled).keys() == {"abc"}
    assert sorted(p.name for p in added.path.parent.iterdir()) == ["manifest.json", "my-lifter.safetensors"]


@pytest.mark.usefixtures("bundled")
def test_user_entry_wins_over_the_shipped_one(home: Path) -> None:
    (home / "weights").mkdir(parents=True)
    (home / "weights" / "new.bin").write_bytes(b"new")
    add_to_manifest(home / "weights", "new.bin", "abc", kind="pose", licence="", source="", trained_on="")
    assert find_weights("abc").path.read_bytes() == b"new"
    assert len(list_weights()) == 1


@pytest.mark.usefixtures("bundled")
def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    file = tmp_path / "new"
    file.write_bytes(b"new")
    add_weights(file, "mine", kind="pose")
    file.write_bytes(b"newer")
    with pytest.raises(WeightsError, match=r"weights named mine already exist; .*--overwrite"):
        add_weights(file, "mine", kind="pose")
    assert find_weights("mine").path.read_bytes() == b"new"
    add_weights(file, "mine", kind="pose", overwrite=True)
    assert find_weights("mine").path.read_bytes() == b"newer"


@pytest.mark.parametrize("name", ["abc", "default", "open"])
@pytest.mark.usefixtures("bundled")
def test_names_of_vp3ds_own_weights_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"new")
    with pytest.raises(WeightsError, match=f"the name {name} belongs to weights of vp3d; give another --name"):
        add_weights(tmp_path / "new", name, kind="pose", overwrite=True)


def test_a_file_that_cannot_be_fetched_is_added_by_hand(bundled: Path, tmp_path: Path) -> None:
    set_entry(bundled, "remote", url="file:///nowhere/at/all.bin")
    (tmp_path / "wrong").write_bytes(b"something else")
    with pytest.raises(WeightsError, match="belongs to weights of vp3d"):
        add_weights(tmp_path / "wrong", "remote", kind="pose")
    (tmp_path / "right").write_bytes(b"abc")
    add_weights(tmp_path / "right", "remote", kind="pose")
    assert find_weights("remote").path.read_bytes() == b"abc"


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "ä"])
def test_bad_names_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(WeightsError, match="invalid name"):
        add_weights(tmp_path / "file", name, kind="pose")
    assert not user_weights_dir().exists() or not list(user_weights_dir().iterdir())


def test_bad_kind_and_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such weight file"):
        add_weights(tmp_path / "none", "x", kind="pose")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(WeightsError, match="unknown kind"):
        add_weights(tmp_path / "file", "x", kind="poses")


def test_unwritable_folder_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"x")
    monkeypatch.setenv("VP3D_HOME", str(tmp_path / "file"))  # a file where a folder must be made
    with pytest.raises(WeightsError, match="cannot write"):
        add_weights(tmp_path / "file", "x", kind="pose")


def test_remote_weights_are_fetched_once(bundled: Path, home: Path, tmp_path: Path) -> None:
    served = tmp_path / "served.bin"
    served.write_bytes(b"abc")
    set_entry(bundled, "remote", url=served.as_uri())
    [_, (entry, problem)] = verify_weights()
    assert not entry.present
    assert problem is None
    assert find_weights("remote").path == home / "weights" / "remote.bin"
    served.unlink()
    assert find_weights("remote").path.read_bytes() == b"abc"


def test_remote_weights_with_a_wrong_hash_leave_nothing(bundled: Path, home: Path, tmp_path: Path) -> None:
    served = tmp_path / "served.bin"
    served.write_bytes(b"something else")
    set_entry(bundled, "remote", url=served.as_uri())
    with pytest.raises(WeightsError, match=r"has sha256 .* expected ba7816bf8f01"):
        find_weights("remote")
    assert list((home / "weights").iterdir()) == []


@pytest.mark.parametrize("url", ["file:///nowhere/at/all.bin", "http://127.0.0.1:9/x.bin", "not a url"])
def test_failed_download_is_one_clear_line(bundled: Path, home: Path, url: str) -> None:
    set_entry(bundled, "remote", url=url)
    with pytest.raises(WeightsError, match="cannot download") as caught:
        find_weights("remote")
    assert "\n" not in str(caught.value)
    assert list((home / "weights").iterdir()) == []


def test_user_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert user_weights_dir() == tmp_path / "home" / "weights"
    monkeypatch.delenv("VP3D_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert user_weights_dir() == tmp_path / "data" / "vp3d" / "weights"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_weights_dir() == tmp_path / ".local" / "share" / "vp3d" / "weights"


def zipped(folder: Path, *members: str) -> str:
    """URL of a zip archive in which each member holds ``abc``."""
    with zipfile.ZipFile(folder / "served.zip", "w") as archive:
        for member in members:
            archive.writestr(member, b"abc")
    return (folder / "served.zip").as_uri()


def test_remote_weights_in_an_archive(bundled: Path, home: Path, tmp_path: Path) -> None:
    url = zipped(tmp_path, "2023/model/end2end.onnx", "2023/model/detail.json")
    set_entry(bundled, "remote", url=url, member="end2end.onnx", bytes=0)
    [_, (entry, _)] = verify_weights()
    assert (entry.member, entry.bytes) == ("end2end.onnx", 0)
    found = find_weights("remote")
    assert found.path.read_bytes() == b"abc"
    assert [path.name for path in (home / "weights").iterdir()] == ["remote.bin"]
    assert list_weights()[-1].bytes == 3


@pytest.mark.parametrize("members", [(), ("other.onnx",), ("a/end2end.onnx", "b/end2end.onnx")])
def test_archive_without_the_file_is_one_clear_line(
    bundled: Path, home: Path, tmp_path: Path, members: tuple[str, ...]
) -> None:
    set_entry(bundled, "remote", url=zipped(tmp_path, *members), member="end2end.onnx")
    with pytest.raises(WeightsError, match=r"cannot download .*the archive has \d files named end2end\.onnx"):
        find_weights("remote")
    assert list((home / "weights").iterdir()) == []


def test_what_is_no_archive_is_one_clear_line(bundled: Path, home: Path, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<html>gone</html>")
    set_entry(bundled, "remote", url=(tmp_path / "page.html").as_uri(), member="end2end.onnx")
    with pytest.raises(WeightsError, match=r"cannot download .*not a zip archive") as caught:
        find_weights("remote")
    assert "\n" not in str(caught.value)
    assert list((home / "weights").iterdir()) == []


def test_of_other_kinds_nothing_is_known() -> None:
    with pytest.raises(WeightsError, match=r"no weights named 'movenet-thunder'; known: (?!.*movenet).*pose-27"):
        find_weights("movenet-thunder", ["pose", "trajectory"])


def test_weights_that_are_not_part_of_the_installed_package(bundled: Path, tmp_path: Path) -> None:
    set_entry(bundled, "separate", separate=True, licence="CC-BY-NC-4.0")
    with pytest.raises(
        WeightsError, match=r"separate \(CC-BY-NC-4.0\) are not part of the installed package.*weights add"
    ):
        find_weights("separate")
    assert [problem for _, problem in verify_weights()] == [None, None]
    file = tmp_path / "separate.bin"
    file.write_bytes(b"abc")
    add_weights(file, "separate", kind="pose")
    assert find_weights("separate").path.parent == user_weights_dir()


def test_what_the_installed_package_has_is_free_for_any_use() -> None:
    for entry in read_manifest(weights_dir()).values():
        assert entry.separate == ("NC" in entry.licence), entry.name
