"""Encode the motion of a pose for the web viewer.

16-bit integers, differences in time, deflate.

The viewer's ``decode.js`` reads what :func:`encode_pose` writes; the byte layout is in its docstring.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.pose import Person3D, Pose3D
from vp3d_cli.render.palette import Color, person_colors
from vp3d_cli.render.view import filming_rotation
from vp3d_cli.types import DoubleArray

FORMAT_VERSION = 1
MISSING, NOT_SEEN, SEEN = 0, 1, 2  # state of a joint in a frame

# Far below what a lifter is sure of; coarser only where a person is over 3.2 m from hip to hand, which is a fault.
_STEP_M = 1e-4
_INT16_MAX, _INT32_MAX = 2**15 - 1, 2**31 - 1
# Below this confidence a detector guesses; half way between a guess and certainty in the drawn overlays.
_SEEN_SCORE = 0.3
# Joints that no 2D keypoint is named after, and the keypoints that show where they are: any of them, or all of them.
_SHOWN_BY_ANY: dict[str, tuple[str, ...]] = {
    "neck": ("nose", "left_ear", "right_ear"),
    "head": ("nose", "left_eye", "right_eye", "left_ear", "right_ear"),
}
_SHOWN_BY_ALL: dict[str, tuple[str, ...]] = {
    "hip": ("left_hip", "right_hip"),
    "pelvis": ("left_hip", "right_hip"),
    "spine": ("left_hip", "right_hip", "left_shoulder", "right_shoulder"),
    "thorax": ("left_shoulder", "right_shoulder"),
}

Array = NDArray[Any]


class QuantizedMotion(NamedTuple):
    """Joints as integers: ``joints = step_m * (root[:, None] + offsets)``.

    Attributes:
        step_m: metres for each integer step.
        root: (t, 3) int32, the root joint in world space; where it is missing, as in the frame before.
        offsets: (t, J, 3) int16 from the root; where a joint is missing, as in the frame before.
    """

    step_m: float
    root: NDArray[np.int32]
    offsets: NDArray[np.int16]


def encode_pose(pose: Pose3D) -> dict[str, Any]:
    """Encode a pose as an object that JSON can hold, with the arrays in base64.

    ``data`` is a zlib stream (RFC 1950) of, in this order, all little-endian:

    - the T frame times, float64 seconds;
    - for each person: ``states`` (t, J) bytes, :data:`MISSING`, :data:`NOT_SEEN` or :data:`SEEN`;
      ``root`` (3, t) int32; ``offsets`` (J, 3, t) int16, as in :class:`QuantizedMotion`.

    Along time each integer is stored as the difference to the one before (the first to 0), modulo its range; an
    array is stored as the lowest byte of every number, then the next higher byte of every number, and so on.

    Args:
        pose: the motion in world space; J joints.

    Returns:
        the object; the maximum error of a coordinate is half of a person's ``step`` in metres.
    """
    arrays: list[bytes] = [pose.frame_times_s.astype("<f8").tobytes()]
    people: list[dict[str, Any]] = []
    for person in pose.people:
        states = joint_states(person, pose.joint_names_3d, pose.joint_names_2d)
        motion = quantize(person.joints_world, _root_of(pose.parents_3d))
        arrays += [states.tobytes(), _packed(motion.root.T), _packed(motion.offsets.transpose(1, 2, 0))]
        people.append(_person_facts(person, motion.step_m))
    return {
        "version": FORMAT_VERSION,
        "fps": pose.fps,
        "frames": pose.num_frames,
        "size": list(pose.video_size_wh),
        "joints": list(pose.joint_names_3d),
        "parents": list(pose.parents_3d),
        "camera": filming_camera(pose),
        "people": people,
        "data": base64.b64encode(zlib.compress(b"".join(arrays), 9)).decode("ascii"),
    }


def quantize(joints: Array, root: int = 0) -> QuantizedMotion:
    """Round world positions to integers, with missing values held from the frame before.

    Args:
        joints: (t, J, 3) metres; NaN or infinite where missing.
        root: index of the joint that the others are stored relative to.
    """
    values = _held(np.asarray(joints, np.float64))
    root_m = values[:, root]
    offsets_m = values - root_m[:, None]
    step_m = max(_STEP_M, _peak(offsets_m) / (_INT16_MAX - 1), _peak(root_m) / (_INT32_MAX - 1))
    root_steps = np.rint(root_m / step_m)
    # Against the rounded root: then its rounding error does not add to that of the joint.
    offsets = np.rint(values / step_m - root_steps[:, None])
    return QuantizedMotion(step_m, root_steps.astype(np.int32), offsets.astype(np.int16))


def joint_states(person: Person3D, joint_names: Sequence[str], keypoint_names: Sequence[str]) -> NDArray[np.uint8]:
    """(t, J) whether each 3D joint was seen by the detector: MISSING, NOT_SEEN or SEEN.

    A joint counts as seen where its keypoint is observed with a confidence of at least 0.3. Joints without a keypoint
    of their name go by the keypoints around them, and those without such keypoints count as seen.
    """
    seen_2d = person.observed & (np.nan_to_num(person.scores) >= _SEEN_SCORE)
    place = {name: i for i, name in enumerate(keypoint_names)}
    columns = [_seen(seen_2d, place, name) for name in joint_names]
    seen = np.stack(columns, axis=1) if columns else np.zeros((len(person), 0), bool)
    states = np.where(seen, SEEN, NOT_SEEN)
    return np.where(np.isfinite(person.joints_world).all(axis=-1), states, MISSING).astype(np.uint8)


def filming_camera(pose: Pose3D) -> dict[str, Any] | None:
    """Return position, axes and intrinsics of the filming camera in world space.

    None where they are not known.

    The position is the median over all people and frames of root in the world minus root from the camera.
    """
    axes = filming_rotation(pose)
    root = _root_of(pose.parents_3d)
    places = [person.joints_world[:, root] - person.root @ axes.T for person in pose.people]
    found = np.concatenate([np.asarray(place, np.float64) for place in places] or [np.zeros((0, 3))])
    found = found[np.isfinite(found).all(axis=-1)]
    if len(found) == 0:
        return None
    position = np.median(found, axis=0)
    return {
        "position": position.round(4).tolist(),
        "axes": axes.round(6).tolist(),  # columns: right, down and forward
        "intrinsics": [float(value) for value in pose.intrinsics],
    }


def _root_of(parents: Sequence[int]) -> int:
    return parents.index(-1) if -1 in parents else 0


def _person_facts(person: Person3D, step_m: float) -> dict[str, Any]:
    colors = person_colors(person.id)
    return {
        "id": person.id,
        "name": f"Person {person.id}",
        "first": person.track.first,
        "frames": len(person),
        "step": step_m,
        "colors": {side: _web(getattr(colors, side)) for side in ("left", "right", "core")},
    }


def _web(color: Color) -> str:
    blue, green, red = color
    return f"#{red:02x}{green:02x}{blue:02x}"


def _seen(seen_2d: Array, place: dict[str, int], joint: str) -> Array:
    """(t,) whether one joint was seen."""
    if joint in place:
        return np.asarray(seen_2d[:, place[joint]])
    for table, combine in ((_SHOWN_BY_ANY, np.any), (_SHOWN_BY_ALL, np.all)):
        columns = [place[name] for name in table.get(joint, ()) if name in place]
        if columns:
            return np.asarray(combine(seen_2d[:, columns], axis=1))
    return np.ones(len(seen_2d), bool)


def _held(joints: DoubleArray) -> DoubleArray:
    """Fill missing positions with those of the last frame that has them.

    Before the first such frame, its positions are used; 0 if there is none.
    """
    if joints.size == 0:
        return joints
    flat = joints.reshape(len(joints), -1)
    known = np.isfinite(flat)
    rows = np.arange(len(flat))[:, None]
    last = np.maximum.accumulate(np.where(known, rows, -1), axis=0)
    source = np.where(last < 0, np.argmax(known, axis=0)[None], last)
    held: DoubleArray = np.take_along_axis(flat, source, axis=0)
    held[:, ~known.any(axis=0)] = 0.0
    return np.asarray(held.reshape(joints.shape))


def _peak(values: DoubleArray) -> float:
    return float(np.abs(values).max()) if values.size else 0.0


def _packed(values: Array) -> bytes:
    """Differences along the last axis, modulo the integer's range, as byte planes."""
    kind = np.dtype(f"<u{values.dtype.itemsize}")
    numbers = np.ascontiguousarray(values).view(kind.newbyteorder("=")).astype(kind)
    differences = np.diff(numbers, axis=-1, prepend=np.zeros((*numbers.shape[:-1], 1), kind))
    planes: NDArray[np.uint8] = (
        np.ascontiguousarray(differences).reshape(-1).view(np.uint8).reshape(-1, kind.itemsize).T
    )
    return planes.tobytes()
