"""The pose file: what is written is what is read, and what cannot be read says why on one line."""

from __future__ import annotations

import errno
import os
import zipfile
from collections.abc import Callable
from dataclasses import fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from poses import arrays_of, walking_pose, with_arrays

from vp3d_cli.errors import ConfigError, OutputError, PoseFileError
from vp3d_cli.io.poses import export_pose, exporter_for, npz
from vp3d_cli.io.poses.npz import SCHEMA, read_npz, write_npz
from vp3d_cli.plugins import EXPORTERS
from vp3d_cli.pose import POSE_ARRAYS, Pose3D, Rig
from vp3d_cli.testing import check_exporter

# The schema as it is documented: key -> dtype and number of dimensions. "U" is text.
DOCUMENTED = {
    "schema": ("U", 0),
    "joints_3d": ("float32", 4),
    "trajectory": ("float32", 3),
    "joints_world": ("float32", 4),
    "keypoints_2d": ("float32", 4),
    "scores_2d": ("float32", 3),
    "boxes_xyxy": ("float32", 3),
    "observed": ("bool", 3),
    "frame_times_s": ("float64", 1),
    "fps": ("float64", 0),
    "video_size_wh": ("int32", 1),
    "intrinsics": ("float64", 1),
    "person_ids": ("int32", 1),
    "joint_names_3d": ("U", 1),
    "parents_3d": ("int32", 1),
    "joint_names_2d": ("U", 1),
    "provenance": ("U", 0),
}


def assert_same(a: Pose3D, b: Pose3D) -> None:
    names = [field.name for field in fields(Pose3D) if field.name != "people"]
    for name in [*names, *POSE_ARRAYS, "person_ids"]:
        mine, other = getattr(a, name), getattr(b, name)
        if isinstance(mine, np.ndarray):
            assert mine.dtype == other.dtype, name
            np.testing.assert_array_equal(mine, other, err_msg=name)
        else:
            assert mine == other, name
    assert [person.track.frames for person in a.people] == [person.track.frames for person in b.people]


def stored(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def only_file(folder: Path) -> str:
    (path,) = folder.iterdir()
    return path.name


@pytest.fixture
def written(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    path = folder / "pose.npz"
    write_npz(walking_pose(), path)
    return path


def rewritten(path: Path, **changes: Any) -> Path:
    """The same archive with some arrays exchanged; None removes one."""
    arrays = stored(path) | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_round_trip_keeps_every_field(tmp_path: Path) -> None:
    pose = walking_pose(people=3)
    arrays = arrays_of(pose)
    for name in ("joints_3d", "trajectory", "joints_world", "keypoints_2d", "boxes_xyxy"):
        arrays[name][1, 4:9] = arrays[name][2, :7] = np.nan
    for name in ("observed", "scores_2d"):
        arrays[name][1, 4:9] = arrays[name][2, :7] = 0
    pose = with_arrays(pose, **arrays)
    assert [person.track.first for person in pose.people] == [0, 0, 7]
    path = tmp_path / "ein Gang mit Ümläuten.npz"
    write_npz(pose, path)
    assert_same(read_npz(path), pose)
    assert_same(read_npz(str(path)), pose)


@settings(max_examples=15)
@given(people=st.integers(1, 4), frames=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
def test_round_trip_of_any_size(tmp_path_factory: pytest.TempPathFactory, people: int, frames: int, seed: int) -> None:
    pose = walking_pose(people, frames)
    rng = np.random.default_rng(seed)
    joints = rng.normal(size=pose.joints_3d.shape).astype(np.float32)
    pose = with_arrays(pose, joints_3d=joints, observed=rng.random(pose.observed.shape) < 0.5)
    path = tmp_path_factory.mktemp("any") / "pose.npz"
    write_npz(pose, path)
    assert_same(read_npz(path), pose)


def test_the_file_is_what_is_documented(written: Path) -> None:
    arrays = stored(written)
    assert set(arrays) == set(DOCUMENTED)
    for key, (dtype, dimensions) in DOCUMENTED.items():
        kind = arrays[key].dtype.kind if dtype == "U" else arrays[key].dtype.name
        assert (kind, arrays[key].ndim) == (dtype, dimensions), key
    assert arrays["schema"].item() == SCHEMA == "vp3d-pose/1"
    assert arrays["joints_3d"].shape == (2, 20, 17, 3)


def test_equal_poses_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        write_npz(walking_pose(), tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_later_keys_and_wider_floats_are_read(written: Path) -> None:
    wide = stored(written)["joints_3d"].astype(np.float64)
    pose = read_npz(rewritten(written, joints_3d=wide, hands=np.zeros(3)))
    assert pose.joints_3d.dtype == np.float32


# Writing that fails.


def test_existing_file_is_kept_without_overwrite(written: Path) -> None:
    before = written.read_bytes()
    with pytest.raises(OutputError, match="--overwrite"):
        write_npz(walking_pose(people=1), written)
    assert written.read_bytes() == before
    write_npz(walking_pose(people=1), written, overwrite=True)
    assert read_npz(written).num_people == 1
    assert only_file(written.parent) == "pose.npz"


def test_missing_folder_and_folder_as_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        write_npz(walking_pose(), tmp_path / "no" / "pose.npz")
    with pytest.raises(OutputError, match="is a folder"):
        write_npz(walking_pose(), tmp_path, overwrite=True)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "disk is full"),
        (errno.EACCES, "not writable"),
        (errno.EIO, "I/O"),
    ],
)
def test_a_write_that_fails_leaves_the_older_file(
    written: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def fail(file: Any, _: Any) -> None:
        file.write(b"half of it")
        raise OSError(number, os.strerror(number).replace("Input/output", "I/O"))

    before = written.read_bytes()
    monkeypatch.setattr(npz, "write_archive", fail)
    with pytest.raises(OutputError, match=words) as raised:
        write_npz(walking_pose(), written, overwrite=True)
    assert str(written) in str(raised.value)
    assert written.read_bytes() == before
    assert only_file(written.parent) == "pose.npz"


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(file: Any, _: Any) -> None:
        file.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(npz, "write_archive", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_npz(walking_pose(), tmp_path / "pose.npz")
    assert list(tmp_path.iterdir()) == []


def test_provenance_must_be_json(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="provenance"):
        write_npz(replace(walking_pose(), provenance={"when": object()}), tmp_path / "pose.npz")
    assert list(tmp_path.iterdir()) == []


# Files that cannot be read.


def _missing(path: Path) -> None:
    path.unlink()


def _text(path: Path) -> None:
    path.write_text("not an archive")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _flipped_bits(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[200:400] = bytes(byte ^ 0xFF for byte in data[200:400])
    path.write_bytes(data)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _other_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


def _text_in_place_of_an_array(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("schema.npy", "hello")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_missing, "no such file"),
        (_text, "no numpy .npz archive"),
        (_empty, "no numpy .npz archive"),
        (_cut_short, "cut short"),
        (_flipped_bits, "damaged"),
        (_folder, "is a folder"),
        (_other_zip, "not a pose file of vp3d, missing: schema, joints_3d"),
        (_text_in_place_of_an_array, ""),
    ],
)
def test_broken_files(written: Path, spoil: Callable[[Path], None], words: str) -> None:
    spoil(written)
    with pytest.raises(PoseFileError) as raised:
        read_npz(written)
    assert str(written) in str(raised.value)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_foreign_archive_says_which_keys_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "foreign.npz"
    np.savez(path, positions_2d=np.zeros((3, 17, 2)), fps=np.float64(30))
    with pytest.raises(PoseFileError, match="missing: schema, joints_3d, trajectory") as raised:
        read_npz(path)
    assert "fps" not in str(raised.value)


def test_pickled_objects_are_never_loaded(written: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    arrays = stored(written)
    arrays["joints_3d"] = np.array([Trap()], dtype=object)
    np.savez(written, **arrays)
    with pytest.raises(PoseFileError, match=r"joints_3d holds pickled Python objects"):
        read_npz(written)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": np.asarray("vp3d-pose/2")}, "reads vp3d-pose/1"),
        ({"schema": np.asarray("vp3d-pose/2"), "joints_3d": None}, "reads vp3d-pose/1"),
        ({"schema": np.asarray("other")}, "'other'"),
        ({"observed": None}, "missing: observed"),
        (
            {"trajectory": np.zeros((2, 19, 3), np.float32)},
            r"trajectory: expected shape \(2, 20, 3\), got \(2, 19, 3\)",
        ),
        ({"person_ids": np.arange(3)}, "person_ids: expected shape"),
        ({"parents_3d": np.zeros(16, np.int32)}, "parents_3d: expected shape"),
        ({"parents_3d": np.full(17, 99)}, "outside the skeleton"),
        ({"person_ids": np.array([1, 1])}, "not unique"),
        ({"observed": np.zeros((2, 20, 17), np.float32)}, "observed: expected bool values, got float32"),
        ({"joints_3d": np.zeros((2, 20, 17, 3), np.int64)}, "expected float32 values, got int64"),
        ({"frame_times_s": np.zeros(20)}, "do not increase"),
        ({"frame_times_s": np.full(20, np.nan)}, "do not increase"),
        ({"fps": np.float64(0)}, "fps is 0"),
        ({"fps": np.float64(np.inf)}, "fps is inf"),
        ({"video_size_wh": np.array([640, 0])}, "640x0"),
        ({"intrinsics": np.array([0.0, 1, 2, 3])}, "intrinsics"),
        ({"provenance": np.asarray("{")}, "not JSON"),
        ({"provenance": np.asarray("[1]")}, "not a JSON object"),
    ],
)
def test_wrong_contents(written: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(PoseFileError, match=words) as raised:
        read_npz(rewritten(written, **changes))
    assert "\n" not in str(raised.value)


# The registry.


@pytest.mark.parametrize("name", list(EXPORTERS))
def test_every_exporter_keeps_the_contract(tmp_path: Path, name: str) -> None:
    if name == "rerun" and find_spec("rerun") is None:
        pytest.skip("rerun-sdk is not installed: 170 MB")
    exporter = EXPORTERS.get(name)
    assert exporter.name == name
    check_exporter(exporter, tmp_path)


def test_format_by_ending_or_by_name(tmp_path: Path) -> None:
    assert exporter_for(Path("a.NPZ")).name == "npz"
    export_pose(walking_pose(), tmp_path / "pose.data", "npz")
    assert_same(read_npz(tmp_path / "pose.data"), walking_pose())
    with pytest.raises(ConfigError, match="known: npz"):
        exporter_for(Path("a.npz"), "docx")
    with pytest.raises(ConfigError, match="docx"):
        exporter_for(Path("a.docx"))


# The rig: keys that came later.


def rigged(pose: Pose3D) -> Pose3D:
    """The first person with a rig of unit quaternions, the others without."""
    first = pose.people[0]
    frames, joints = first.joints.shape[:2]
    rotations = np.zeros((frames, joints, 4), np.float32)
    rotations[..., 0] = 1
    rig = Rig(rotations, np.full((joints, 3), 0.25, np.float32), first.joints_world[:, 0])
    return replace(pose, people=(replace(first, rig=rig), *pose.people[1:]))


def test_rig_is_kept_for_those_who_have_one(tmp_path: Path) -> None:
    arrays = arrays_of(walking_pose(people=2))
    for name in ("joints_3d", "trajectory", "joints_world", "keypoints_2d", "boxes_xyxy"):
        arrays[name][0, :5] = np.nan
    for name in ("observed", "scores_2d"):
        arrays[name][0, :5] = 0
    pose = rigged(with_arrays(walking_pose(people=2), **arrays))
    path = tmp_path / "rig.npz"
    write_npz(pose, path)
    first, second = read_npz(path).people
    assert second.rig is None
    assert first.rig is not None
    assert first.rig.rotations.shape == (15, 17, 4)
    for name in ("rotations", "bone_offsets", "root"):
        np.testing.assert_array_equal(getattr(first.rig, name), getattr(pose.people[0].rig, name))
    arrays = stored(path)
    assert arrays["rotations"].shape == (2, 20, 17, 4)
    assert np.isnan(arrays["rotations"][0, :5]).all()
    assert np.isnan(arrays["rotations"][1]).all()
    assert arrays["bone_offsets"].shape == (2, 17, 3)
    assert arrays["schema"].item() == SCHEMA


def test_rig_of_wrong_shape_is_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "rig.npz"
    write_npz(rigged(walking_pose()), path)
    with pytest.raises(PoseFileError, match=r"bone_offsets: expected shape \(2, 17, 3\), got \(2, 16, 3\)"):
        read_npz(rewritten(path, bone_offsets=np.zeros((2, 16, 3), np.float32)))


def test_confidence_of_joints_is_kept_and_older_files_lack_it(tmp_path: Path) -> None:
    pose = walking_pose(people=2)
    confidence = [np.full(p.joints.shape[:2], 0.1 * (i + 1), np.float32) for i, p in enumerate(pose.people)]
    people = tuple(replace(p, confidence=c) for p, c in zip(pose.people, confidence, strict=True))
    write_npz(replace(pose, people=people), tmp_path / "with.npz")
    read = read_npz(tmp_path / "with.npz")
    for person, expected in zip(read.people, confidence, strict=True):
        assert person.confidence is not None
        np.testing.assert_array_equal(person.confidence, expected)
    write_npz(pose, tmp_path / "without.npz")
    assert read_npz(tmp_path / "without.npz").confidence_3d is None
