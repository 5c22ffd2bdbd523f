"""Keypoint layouts: the joint that each keypoint of a file stands for.

A layout is named by the file, by its format, or by the user; never by a number of joints alone, since COCO and
Human3.6M both have 17. Geometry never chooses a layout, but it may refuse one: :func:`layout_problem`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.skeletons import ARM, LEG, SKELETONS, Skeleton, both_sides, one_side, skeleton_of
from vp3d_cli.types import DoubleArray, FloatArray


@dataclass(frozen=True)
class Layout:
    """A keypoint layout: an order of joints.

    Attributes:
        name: name in results and for ``--layout``.
        title: usual name, for messages.
        joints: J names; those of COCO are spelled as in :data:`~vp3d_cli.skeletons.COCO17`.
    """

    name: str
    title: str
    joints: tuple[str, ...]

    @property
    def num_joints(self) -> int:
        """J, the number of joints."""
        return len(self.joints)

    @cached_property
    def skeleton(self) -> Skeleton:
        """The joints with their parents and bones."""
        return skeleton_of(self.name, self.joints)

    def indices(self, *joints: str) -> list[int]:
        """Indices of those of the named joints that this layout has."""
        return [self.joints.index(joint) for joint in joints if joint in self.joints]


_TITLES = {
    "coco17": "COCO, 17 keypoints",
    "h36m17": "Human3.6M, 17 joints",
    "body25": "OpenPose BODY_25",
    "coco18": "OpenPose COCO, 18 keypoints",
    "mpii16": "MPII, 16 joints",
    "halpe26": "HALPE_26: COCO with head, neck, hip and feet",
    "mediapipe33": "MediaPipe Pose, 33 landmarks",
    "body25b": "OpenPose BODY_25B",
    "coco133": "COCO-WholeBody, 133 keypoints",
    "halpe136": "Halpe-FullBody, 136 keypoints",
}
LAYOUTS: dict[str, Layout] = {name: Layout(name, title, SKELETONS[name].joints) for name, title in _TITLES.items()}
# How VideoPose3D and MMPose spell the layouts above.
_ALIASES = {
    "coco": "coco17", "h36m": "h36m17", "human36m": "h36m17", "mpii": "mpii16", "halpe": "halpe136",
    "cocowholebody": "coco133", "mediapipe": "mediapipe33", "blazepose": "mediapipe33", "openpose25": "body25",
    "openpose18": "coco18", "openposecoco": "coco18", "openposecoco18": "coco18",
}  # fmt: skip


def find_layout(name: str) -> Layout | None:
    """Layout by name, however spelled (``HALPE_26``, ``coco-17``); None if unknown."""
    key = re.sub(r"[^a-z0-9]", "", name.lower())
    return LAYOUTS.get(_ALIASES.get(key, key))


def list_layouts() -> str:
    """All layouts, for messages."""
    return ", ".join(f"{layout.name} ({layout.title})" for layout in LAYOUTS.values())


def choose_layout(
    path: object, num_joints: int, *, asked: str | None, stated: Layout | None = None, implied: Sequence[str] = ()
) -> Layout:
    """Choose the layout of a file.

    Args:
        path: the file, for messages.
        num_joints: joints of each person in it.
        asked: what the user says, if anything.
        stated: what the file itself says, if anything.
        implied: layouts that the format may have; decides if just one of them has ``num_joints``.

    Raises:
        InputError: it is unknown, has another number of joints, contradicts the file, or remains open.
    """
    if asked is not None:
        wanted = find_layout(asked)
        if wanted is None:
            raise InputError(f"{path}: unknown layout {asked!r}; known: {list_layouts()}")
        if stated is not None and stated.joints != wanted.joints:
            raise InputError(f"{path}: says itself that its layout is {stated.name}, not {wanted.name}; drop --layout")
        stated = wanted
    if stated is not None:
        if stated.num_joints != num_joints:
            raise InputError(
                f"{path}: has {num_joints} keypoints a person, but layout {stated.name} has {stated.num_joints}; "
                f"known layouts: {list_layouts()}"
            )
        return stated
    fitting = [LAYOUTS[name] for name in implied if LAYOUTS[name].num_joints == num_joints]
    if len(fitting) == 1:
        return fitting[0]
    candidates = [layout.name for layout in LAYOUTS.values() if layout.num_joints == num_joints]
    if not candidates:
        raise InputError(f"{path}: no known layout has {num_joints} keypoints; known: {list_layouts()}")
    raise InputError(
        f"{path}: {num_joints} keypoints a person, but the file does not say in which layout; "
        f"give --layout {' or --layout '.join(candidates)} (known layouts: {list_layouts()})"
    )


def joint_name(text: str) -> str:
    """A joint's name as this module spells it: ``RBigToe``, ``big toe right``, ``right-big-toe`` are one."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", text)]
    side, rest = "", []
    for word in words:
        match = re.fullmatch(r"(left|right)(.*)", word) or re.fullmatch(r"([lr])()", word)
        if match and not side:
            side = {"l": "left", "r": "right"}.get(match[1], match[1])
            rest += [match[2]] if match[2] else []
        else:
            rest.append(word)
    return "_".join(([side] if side else []) + rest)


def layout_from_names(name: str, names: Sequence[str]) -> Layout:
    """The layout of a file that names its joints: a known one if all agree, else one of its own.

    Human3.6M's "foot" is the ankle in the 17-joint set, so a foot stands for the ankle where there is none.
    """
    joints = tuple(joint_name(text) for text in names)
    for side in ("left", "right"):
        if f"{side}_ankle" not in joints:
            joints = tuple(f"{side}_ankle" if joint == f"{side}_foot" else joint for joint in joints)
    known = find_layout(name)
    if known is not None and tuple(map(joint_name, known.joints)) == joints:
        return known
    for layout in LAYOUTS.values():
        if tuple(map(joint_name, layout.joints)) == joints:
            return layout
    return Layout(name, f"the file's own {len(joints)} joints", joints)


# Shape of a person, lengths as fractions of the diagonal of all their keypoints, medians over a video. The limits
# lie beyond everything in four hours of motion capture (dance, climbing, crawling, acrobatics; half a million frames
# from random cameras, in windows of 150 frames), in brackets.
_HEAD_MAX = 0.38  # spread of nose, eyes and ears (0.33)
_ARM_MAX = 0.70  # shoulder to elbow to wrist (0.59)
_LEG_MIN, _LEG_MAX = 0.13, 0.85  # hip to knee to ankle (0.19 to 0.72)
_LEGS_RATIO_MAX = 3.2  # longer leg to shorter leg (2.8)
_ARM_TO_LEG_MAX = 2.5  # longer arm to shorter leg (2.1)
_MIDHIP_MAX = 0.15  # middle of the hips from the midpoint of both (0 by definition)
_CONFIDENT = 0.3  # below, tools guess
MIN_PEOPLE = 5  # fewer say nothing about the layout


def layout_problem(layout: Layout, points: FloatArray, scores: FloatArray) -> str | None:
    """Explain why keypoints cannot be in a layout, by median body proportions; None if they can.

    Args:
        layout: the layout that they are said to have.
        points: (M, J, 2) pixels, NaN where missing.
        scores: (M, J) confidence.
    """
    seen = np.where((scores >= _CONFIDENT)[..., None], points, np.nan).astype(np.float64)
    shoulders, hips = layout.indices(*both_sides("shoulder")), layout.indices(*both_sides("hip"))
    torso = np.isfinite(seen[:, shoulders, 0]).any(axis=1) & np.isfinite(seen[:, hips, 0]).any(axis=1)
    size = _spread(seen)
    seen, size = seen[torso & (size > 0)], size[torso & (size > 0)]
    if len(seen) < MIN_PEOPLE:
        return None
    if _median(_spread(seen[:, layout.indices("nose", *both_sides("eye", "ear"))]) / size) > _HEAD_MAX:
        return "nose, eyes and ears lie as far apart as a body is long"
    for middle in layout.indices("hip", "mid_hip", "pelvis"):
        offset = np.linalg.norm(seen[:, middle] - seen[:, hips].mean(axis=1), axis=1)
        if _median(offset / size) > _MIDHIP_MAX:
            return "the middle of the hips is not between the hips"
    arms, legs = (
        np.array([_limb(seen, layout.indices(*one_side(side, *limb)), size) for side in ("left", "right")])
        for limb in (ARM, LEG)
    )
    if (arms > _ARM_MAX).any():
        return "shoulder, elbow and wrist are too far apart for an arm"
    if (legs < _LEG_MIN).any() or (legs > _LEG_MAX).any() or legs.max() > _LEGS_RATIO_MAX * legs.min():
        return "hip, knee and ankle do not make two legs"
    return "the arms are much longer than the legs" if arms.max() > _ARM_TO_LEG_MAX * legs.min() else None


def _limb(points: DoubleArray, joints: Sequence[int], size: DoubleArray) -> float:
    """Median length along three joints; NaN, which no limit is beyond, where the layout or the file lacks them."""
    if len(joints) < 3:
        return float("nan")
    return _median(np.linalg.norm(np.diff(points[:, joints], axis=1), axis=2).sum(axis=1) / size)


def _spread(points: DoubleArray) -> DoubleArray:
    """(M,) diagonal of the box around each row's points; NaN with fewer than two."""
    finite = np.isfinite(points)
    if points.shape[1] == 0:
        return np.full(len(points), np.nan)
    low = np.where(finite, points, np.inf).min(axis=1)
    high = np.where(finite, points, -np.inf).max(axis=1)
    several = finite[..., 0].sum(axis=1) >= 2
    spread = np.full(len(points), np.nan)
    spread[several] = np.linalg.norm(high[several] - low[several], axis=1)
    return spread


def _median(values: DoubleArray) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else float("nan")
