"""VideoPose3D's archives: what others wrote is read, what we write others can read, and hostile files are refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vp3d_cli.errors import InputError, OutputError
from vp3d_cli.paper.datasets.archives import (
    read_positions_2d,
    read_positions_3d,
    write_positions_2d,
    write_positions_3d,
)
from vp3d_cli.skeletons import COCO17, H36M17, HOURGLASS16, HUMANEVA15, MPII16, SKELETONS, Skeleton

H36M_METADATA = {"num_joints": 17, "keypoints_symmetry": [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]]}


def random(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def save(path: Path, **values: Any) -> Path:
    """As VideoPose3D's scripts write: dicts pickled into object arrays."""
    np.savez_compressed(path, **values)
    return path


def test_joints_that_others_wrote(tmp_path: Path) -> None:
    joints = {"S1": {"Walking 1": random(5, 32, 3)}, "S9": {"Eating": random(3, 32, 3).astype(np.float64)}}
    read = read_positions_3d(save(tmp_path / "data_3d_h36m.npz", positions_3d=joints)).subjects
    assert list(read) == ["S1", "S9"]
    assert np.array_equal(read["S1"]["Walking 1"], joints["S1"]["Walking 1"])
    assert read["S9"]["Eating"].dtype == np.float32


def test_joints_round_trip(tmp_path: Path) -> None:
    joints = {"Train/S1": {"Walking 1 chunk0": random(4, 15, 3)}}
    write_positions_3d(tmp_path / "a.npz", joints)
    assert np.array_equal(
        read_positions_3d(tmp_path / "a.npz").subjects["Train/S1"]["Walking 1 chunk0"],
        joints["Train/S1"]["Walking 1 chunk0"],
    )
    numpy_reads = np.load(tmp_path / "a.npz", allow_pickle=True)["positions_3d"].item()
    assert numpy_reads["Train/S1"]["Walking 1 chunk0"].shape == (4, 15, 3)
    with pytest.raises(OutputError, match="exists already"):
        write_positions_3d(tmp_path / "a.npz", joints)
    write_positions_3d(tmp_path / "a.npz", joints, overwrite=True)


@pytest.mark.parametrize(
    ("name", "skeleton"),
    [("h36m", H36M17), ("coco", COCO17), ("humaneva15", HUMANEVA15), ("mpii", MPII16), ("hourglass16", HOURGLASS16)],
)
def test_layouts_by_name(tmp_path: Path, name: str, skeleton: Skeleton) -> None:
    keypoints = {"S1": {"Walking": [random(4, skeleton.num_joints, 2), random(6, skeleton.num_joints, 2)]}}
    write_positions_2d(tmp_path / "a.npz", keypoints, skeleton.name)
    stored = np.load(tmp_path / "a.npz", allow_pickle=True)["metadata"].item()
    assert stored["layout_name"] == name
    read = read_positions_2d(tmp_path / "a.npz")
    assert (read.layout, read.num_joints) == (skeleton.name, skeleton.num_joints)
    assert read.symmetry == (skeleton.left, skeleton.right)
    assert [len(camera) for camera in read.subjects["S1"]["Walking"]] == [4, 6]


def test_layout_without_a_name_is_told_by_left_and_right(tmp_path: Path) -> None:
    keypoints = {"S1": {"Walking": [random(4, 17, 2)]}}
    read = read_positions_2d(save(tmp_path / "gt.npz", positions_2d=keypoints, metadata=H36M_METADATA))
    assert read.layout == "h36m17"
    # VideoPose3D's archives of Stacked Hourglass.
    hourglass = {"num_joints": 16, "keypoints_symmetry": [[4, 5, 6, 10, 11, 12], [1, 2, 3, 13, 14, 15]]}
    sixteen = {"S1": {"Walking": [random(4, 16, 2)]}}
    read = read_positions_2d(save(tmp_path / "sh.npz", positions_2d=sixteen, metadata=hourglass))
    assert read.layout == "hourglass16"
    coco = {"num_joints": 17, "keypoints_symmetry": [list(COCO17.left), list(COCO17.right)]}
    assert read_positions_2d(save(tmp_path / "c.npz", positions_2d=keypoints, metadata=coco)).layout == "coco17"
    other = {"num_joints": 17, "keypoints_symmetry": [[1], [2]]}
    assert read_positions_2d(save(tmp_path / "o.npz", positions_2d=keypoints, metadata=other)).layout == ""


def test_cameras_in_object_arrays_with_confidence_and_left_out(tmp_path: Path) -> None:
    cameras = np.empty(3, object)
    cameras[:] = [random(4, 17, 2), random(5, 17, 3), None]
    path = save(tmp_path / "a.npz", positions_2d={"S1": {"Box 1 chunk0": cameras}}, metadata=H36M_METADATA)
    read = read_positions_2d(path).subjects["S1"]["Box 1 chunk0"]
    assert [camera.shape for camera in read] == [(4, 17, 2), (5, 17, 2), (0, 17, 2)]


def test_custom_archive(tmp_path: Path) -> None:
    videos = {"clip.mp4": {"w": 1920, "h": 1080}}
    write_positions_2d(
        tmp_path / "a.npz", {"clip.mp4": {"custom": [random(9, 17, 2)]}}, "coco17", video_metadata=videos
    )
    assert read_positions_2d(tmp_path / "a.npz").video_metadata == videos


class Hostile:
    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._marker),)


@pytest.mark.parametrize("key", ["positions_3d", "positions_2d"])
def test_hostile_archives_are_refused_and_do_nothing(tmp_path: Path, key: str) -> None:
    marker = tmp_path / "done"
    values: dict[str, Any] = {key: {"S1": {"Walking": Hostile(marker)}}, "metadata": H36M_METADATA}
    path = save(tmp_path / "a.npz", **values)
    with pytest.raises(InputError, match=r"refused, it asks for (posix|nt)\.mkdir"):
        read_positions_3d(path) if key == "positions_3d" else read_positions_2d(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"positions_2d": {}}, "has no positions_3d, but positions_2d"),
        ({"positions_3d": {}}, "positions_3d is empty"),
        ({"positions_3d": {"S1": random(3, 32, 3)}}, "is not {subject: {action"),
        ({"positions_3d": {"S1": {"Eating": random(3, 32, 2)}}}, r"S1, Eating: expected numbers \(T, J, 3\)"),
        ({"positions_3d": {"S1": {"A": random(3, 32, 3), "B": random(3, 17, 3)}}}, r"numbers of joints \(17, 32\)"),
        ({"positions_3d": {"S1": {"A": np.array([["x"]])}}}, "expected numbers"),
    ],
)
def test_broken_archives_of_joints(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_positions_3d(save(tmp_path / "a.npz", **values))


@pytest.mark.parametrize(
    ("cameras", "metadata", "message"),
    [
        ([random(3, 17, 2)], None, "has no metadata"),
        ([random(3, 17, 2)], {"keypoints_symmetry": [[1], [2]]}, "no number of joints"),
        ([random(3, 17, 2)], {"num_joints": 17}, "no left and right joints"),
        ([random(3, 17, 2)], {"num_joints": 17, "keypoints_symmetry": [[1, 2], [3]]}, "does not pair"),
        ([random(3, 17, 2)], {"num_joints": 17, "keypoints_symmetry": [[1], [17]]}, "beyond the 17"),
        ([random(3, 16, 2)], H36M_METADATA, "S1, Eating, camera 1: 16 keypoints, but metadata says 17"),
        (7, H36M_METADATA, "S1, Eating: expected a list"),
        ([random(3, 17)], H36M_METADATA, "camera 1: expected numbers"),
    ],
)
def test_broken_archives_of_keypoints(tmp_path: Path, cameras: Any, metadata: Any, message: str) -> None:
    values = {"positions_2d": {"S1": {"Eating": cameras}}, **({} if metadata is None else {"metadata": metadata})}
    with pytest.raises(InputError, match=message):
        read_positions_2d(save(tmp_path / "a.npz", **values))


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 nothing")
    for path in (tmp_path / "a.npz", tmp_path / "missing.npz"):
        with pytest.raises(InputError, match=rf"{path.name}: (not a whole numpy archive|no such file)"):
            read_positions_3d(path)


def test_writing_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="S1, A: h36m17 has 17 joints"):
        write_positions_2d(tmp_path / "a.npz", {"S1": {"A": [random(3, 15, 2)]}}, "h36m17")
    with pytest.raises(InputError, match="unknown layout 'dog'"):
        write_positions_2d(tmp_path / "a.npz", {}, "dog")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=str)
def test_every_skeleton_is_symmetric(skeleton: Skeleton) -> None:
    assert [skeleton.flip_order[i] for i in skeleton.flip_order] == list(range(skeleton.num_joints))
    parents = skeleton.parents
    if skeleton is not COCO17:  # whose nose has neither
        assert all(
            parents[skeleton.flip_order[i]] == (skeleton.flip_order[p] if p >= 0 else -1) for i, p in enumerate(parents)
        )
