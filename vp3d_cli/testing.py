"""Contract tests of detectors, lifters, exporters and keypoint readers.

For this project and for other packages.

Each function runs the contract of one kind on one part, and raises :class:`AssertionError` with what is broken:

    from vp3d_cli.testing import check_exporter
    def test_my_exporter(tmp_path): check_exporter(EXPORTER, tmp_path)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vp3d_cli.detect.base import Detector, DetectorInfo
from vp3d_cli.errors import InputError, OutputError
from vp3d_cli.io.keypoints.base import KeypointReader
from vp3d_cli.io.keypoints.instances import ReaderOptions
from vp3d_cli.io.keypoints.source import Source
from vp3d_cli.io.poses.base import Exporter
from vp3d_cli.lift.base import Lifter, LifterPlugin
from vp3d_cli.pose import Person3D, Pose3D
from vp3d_cli.refine.rig import add_rigs
from vp3d_cli.skeletons import COCO17, H36M17
from vp3d_cli.types import FrameBGR, Keypoints2D, Track2D

_SIZE_WH = (640, 480)
_INTRINSICS = (554.0, 554.0, 320.0, 240.0)
_FPS = 30.0


def check_detector(detector: Detector, frames: Sequence[FrameBGR] | None = None) -> None:
    """Check that a detector keeps its contract.

    Args:
        detector: loaded.
        frames: (H, W, 3) BGR images of one video; None takes grey ones, in which nobody need be found.

    Raises:
        AssertionError: it does not; says what is wrong.
    """
    images = list(frames) if frames is not None else [np.full((*_SIZE_WH[::-1], 3), 128, np.uint8)] * 5
    _check(bool(detector.name), "name is empty")
    _check(detector.batch_size >= 1, f"batch_size is {detector.batch_size}, expected at least 1")
    detector.reset()
    together = detector.detect(images)
    _check(len(together) == len(images), f"detect() gave {len(together)} results for {len(images)} frames")
    for people in together:
        _check_people(people)
    detector.reset()
    apart = [detector.detect([image])[0] for image in images]
    for one, other in zip(together, apart, strict=True):
        same = one.keypoints.shape == other.keypoints.shape and np.allclose(
            one.keypoints, other.keypoints, atol=1e-3, equal_nan=True
        )
        _check(same, "the result changes when frames are handed over one by one")
    _check(detector.detect([]) == [], "detect([]) must give []")


def _check_people(people: Keypoints2D) -> None:
    for name in ("keypoints", "scores", "boxes_xyxy", "person_scores"):
        values = getattr(people, name)
        _check(values.dtype == np.float32, f"{name} is {values.dtype}, expected float32")
    scores = people.scores[np.isfinite(people.scores)]
    _check(bool(((scores >= 0) & (scores <= 1)).all()), "scores must lie in 0..1")
    joints = people.skeleton.joints
    _check(len(set(joints)) == len(joints), f"skeleton {people.skeleton.name} names a joint twice")


def check_detector_info(info: DetectorInfo) -> Detector:
    """Check the registry entry of a detector, and load it on the CPU.

    Raises:
        AssertionError: it is incomplete; says what is wrong.
    """
    _check(isinstance(info, DetectorInfo), f"{info!r} is not a DetectorInfo")
    _check(bool(info.name and info.summary and info.licence), "name, summary and licence must be given")
    _check("\n" not in info.summary, "the summary must be one line")
    info.require()
    return info.load("cpu")


def check_lifter(info: LifterPlugin) -> None:
    """Check that a lifter keeps its contract: a walk in 2D gives finite joints of human size.

    Raises:
        AssertionError: it does not; says what is wrong.
    """
    _check(isinstance(info, LifterPlugin), f"{info!r} is not a LifterPlugin")
    _check(bool(info.name and info.summary and info.licence), "name, summary and licence must be given")
    lifter: Lifter = info.load("cpu")
    _check(lifter.rate_hz > 0, f"rate_hz is {lifter.rate_hz}, expected a positive number")
    for frames in (1, 7, 40):
        track = _walker(frames)
        joints = lifter.lift(track.keypoints, track.scores, _INTRINSICS, _SIZE_WH)
        expected = (frames, H36M17.num_joints, 3)
        _check(joints.shape == expected, f"lift() gave shape {joints.shape}, expected {expected}")
        _check(bool(np.isfinite(joints).all()), "lift() gave values that are not finite")
        _check(bool(np.abs(joints[:, 0]).max() < 1e-3), "joints must be relative to the hip, joint 0")
        _check(bool(np.abs(joints).max() < 3.0), "joints lie more than 3 m from the hip; the unit is metres")


def check_exporter(exporter: Exporter, folder: Path) -> Path:
    """Check the contract of an exporter: it writes a file, and replaces one only when told to.

    Args:
        exporter: to check.
        folder: an empty one.

    Returns:
        The file that it wrote, of one person who walks.

    Raises:
        AssertionError: it does not; says what is wrong.
    """
    _check(isinstance(exporter, Exporter), f"{exporter!r} is not an Exporter")
    _check(exporter.suffix.startswith("."), f"suffix is {exporter.suffix!r}, expected one that begins with a dot")
    _check(bool(exporter.name and exporter.summary), "name and summary must be given")
    path = folder / f"pose{exporter.suffix}"
    pose = add_rigs(example_pose()) if exporter.needs_rig else example_pose()
    exporter.write(pose, path, False)
    _check(path.is_file() and path.stat().st_size > 0, f"write() left no file {path}")
    before = path.read_bytes()
    _refuses(OutputError, lambda: exporter.write(pose, path, False), "write() replaced a file without overwrite")
    _check(path.read_bytes() == before, "write() changed a file that it refused to replace")
    exporter.write(pose, path, True)
    nowhere = folder / "no such folder" / path.name
    _refuses(OutputError, lambda: exporter.write(pose, nowhere, False), "write() into a missing folder must fail")
    left = sorted({file.name for file in folder.iterdir()} - {file.name for file in exporter.files(path)})
    _check(not left, f"write() left other files: {left}")
    return path


def check_keypoint_reader(reader: KeypointReader, good: Path, bad: Path) -> None:
    """Check that a keypoint reader keeps its contract.

    Args:
        reader: to check.
        good: a file of its format.
        bad: a damaged file that still looks like its format.

    Raises:
        AssertionError: it does not; says what is wrong.
    """
    _check(isinstance(reader, KeypointReader), f"{reader!r} is not a KeypointReader")
    _check(bool(reader.name and reader.title), "name and title must be given")
    source = Source(good)
    _check(reader.matches(source), f"matches() does not recognise {good}")
    raw = reader.read(source, ReaderOptions())
    count, joints = len(raw), raw.layout.num_joints
    _check(
        raw.points.shape == (count, joints, 2), f"points have shape {raw.points.shape}, expected ({count}, {joints}, 2)"
    )
    _check(raw.scores.shape == (count, joints), f"scores have shape {raw.scores.shape}, expected ({count}, {joints})")
    _check(not len(raw) or int(raw.frames.min()) >= 0, "frames must be numbered from 0 or 1")
    damaged = Source(bad)
    if reader.matches(damaged):
        _refuses(InputError, lambda: reader.read(damaged, ReaderOptions()), "read() of a damaged file must fail")


def example_pose(frames: int = 40) -> Pose3D:
    """One person who walks past the camera, 40 frames at 30 per second, by simple trigonometry."""
    track = _walker(frames)
    joints = _joints(frames)
    root = np.tile(np.array([0.0, 0.0, 4.0], np.float32), (frames, 1))
    world = joints[..., [0, 2, 1]] * np.array([1, 1, -1]) + np.array([0.0, 4.0, 0.95])
    person = Person3D(track, joints, root, world.astype(np.float32))
    return Pose3D(
        people=(person,),
        frame_times_s=np.arange(frames) / _FPS,
        fps=_FPS,
        video_size_wh=_SIZE_WH,
        intrinsics=_INTRINSICS,
        joint_names_3d=H36M17.joints,
        parents_3d=H36M17.parents,
        joint_names_2d=COCO17.joints,
        provenance={"version": "test"},
    )


# Metres from the hip, x right, y down, of a person who stands and faces the camera; limbs swing in depth.
_STANDING: dict[str, tuple[float, float]] = {
    "hip": (0.0, 0.0), "spine": (0.0, -0.24), "thorax": (0.0, -0.48), "neck": (0.0, -0.58), "head": (0.0, -0.72),
    "right_hip": (-0.12, 0.0), "right_knee": (-0.12, 0.44), "right_ankle": (-0.12, 0.87),
    "left_hip": (0.12, 0.0), "left_knee": (0.12, 0.44), "left_ankle": (0.12, 0.87),
    "right_shoulder": (-0.17, -0.46), "right_elbow": (-0.2, -0.18), "right_wrist": (-0.2, 0.07),
    "left_shoulder": (0.17, -0.46), "left_elbow": (0.2, -0.18), "left_wrist": (0.2, 0.07),
    "nose": (0.0, -0.62), "left_eye": (0.03, -0.65), "right_eye": (-0.03, -0.65), "left_ear": (0.07, -0.63),
    "right_ear": (-0.07, -0.63),
}  # fmt: skip
_SWING = {"knee": 0.2, "ankle": 0.4, "elbow": 0.12, "wrist": 0.25}


def _positions(names: Sequence[str], frames: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(T, J, 3) metres, camera axes, relative to the hip."""
    phase = 2 * np.pi * np.arange(frames) / _FPS
    places = np.zeros((frames, len(names), 3))
    for i, name in enumerate(names):
        side, _, part = name.partition("_")
        places[:, i, :2] = _STANDING[name]
        swing = _SWING.get(part, 0.0) * (1 if side == "left" else -1) * (1 if part in ("knee", "ankle") else -1)
        places[:, i, 2] = swing * np.sin(phase)
    return places


def _joints(frames: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return _positions(H36M17.joints, frames).astype(np.float32)


def _walker(frames: int) -> Track2D:
    """The same person in 2D."""
    places = _positions(COCO17.joints, frames) + [0.0, 0.0, 4.0]
    fx, fy, cx, cy = _INTRINSICS
    pixels = np.stack([fx * places[..., 0] / places[..., 2] + cx, fy * places[..., 1] / places[..., 2] + cy], axis=-1)
    points = pixels.astype(np.float32)
    boxes = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
    shape = points.shape[:2]
    return Track2D(1, points, np.full(shape, 0.9, np.float32), boxes, np.ones(shape, np.bool_))


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def _refuses(error: type[Exception], call: Any, message: str) -> None:
    try:
        call()
    except error:
        return
    raise AssertionError(message)
