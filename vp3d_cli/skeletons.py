"""Named skeletons: joints, parents, left and right pairs.

COCO and Human3.6M both have 17 joints, so a skeleton is always named and never guessed from a joint count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from vp3d_cli.errors import ConfigError


@dataclass(frozen=True)
class Skeleton:
    """A named set of joints.

    Attributes:
        name: how files and registries call it.
        joints: J joint names; a joint of the left side starts with ``left_``, of the right with ``right_``.
        parents: J indices, -1 for a joint without parent.
        bones: pairs (joint, joint) to draw; for a tree these are (parent, child).
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    bones: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if len(self.joints) != len(self.parents):
            raise ConfigError(f"skeleton {self.name}: {len(self.joints)} joints but {len(self.parents)} parents")

    @property
    def num_joints(self) -> int:
        """J, the number of joints."""
        return len(self.joints)

    def index(self, joint: str) -> int:
        """Index of a joint by name.

        Raises:
            ConfigError: the skeleton has no such joint.
        """
        try:
            return self.joints.index(joint)
        except ValueError:
            raise ConfigError(f"skeleton {self.name} has no joint {joint!r}; it has {', '.join(self.joints)}") from None

    def columns(self, joints: Sequence[str]) -> list[int]:
        """Index of each of these joints; -1 for one that the skeleton lacks."""
        return [self.joints.index(joint) if joint in self.joints else -1 for joint in joints]

    def missing(self, joints: Sequence[str]) -> list[str]:
        """Those of these joints that the skeleton lacks."""
        return [joint for joint in joints if joint not in self.joints]

    @property
    def body(self) -> list[int]:
        """Indices of the joints that are COCO keypoints, or of all joints if there are none."""
        return [i for i, joint in enumerate(self.joints) if joint in COCO17.joints] or list(range(self.num_joints))

    @property
    def left(self) -> tuple[int, ...]:
        """Indices of the joints of the left side."""
        sides = ((i, joint.removeprefix("left_")) for i, joint in enumerate(self.joints) if joint.startswith("left_"))
        return tuple(i for i, joint in sides if f"right_{joint}" in self.joints)

    @property
    def right(self) -> tuple[int, ...]:
        """Indices of the joints of the right side, paired with :attr:`left`."""
        return tuple(self.joints.index("right_" + self.joints[i][5:]) for i in self.left)

    @property
    def flip_order(self) -> tuple[int, ...]:
        """Permutation of the joints that swaps left and right; its own inverse."""
        order = list(range(self.num_joints))
        for a, b in zip(self.left, self.right, strict=True):
            order[a], order[b] = b, a
        return tuple(order)


def _tree_bones(parents: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    return tuple((parent, child) for child, parent in enumerate(parents) if parent >= 0)


# The order of the COCO keypoint annotations (Lin et al. 2014, "person" category). COCO defines no tree: the
# parents run from the nose down so that each keypoint hangs on its nearest neighbour towards the head.
COCO17 = Skeleton(
    name="coco17",
    joints=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear",
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    parents=(-1, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14),
    bones=(
        (0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10),
        (5, 11), (6, 12), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16),
    ),
)  # fmt: skip

_H36M_PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)

# The 17 joints of Human3.6M that the literature evaluates (Ionescu et al. 2014), in VideoPose3D's order.
# "neck" (Human3.6M's "Neck/Nose") sits half way from the neck to the nose, "head" at the crown; the root is "hip",
# midway between the hips.
H36M17 = Skeleton(
    name="h36m17",
    joints=(
        "hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
        "spine", "thorax", "neck", "head",
        "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
    ),
    parents=_H36M_PARENTS,
    bones=_tree_bones(_H36M_PARENTS),
)  # fmt: skip

_HUMANEVA_PARENTS = (-1, 0, 1, 2, 3, 1, 5, 6, 0, 8, 9, 0, 11, 12, 1)

# The 15 joints of HumanEva-I (Sigal et al. 2010), in VideoPose3D's order: joint centres, "thorax" midway between the
# upper end of the torso and the lower end of the head, "head" at its upper end.
HUMANEVA15 = Skeleton(
    name="humaneva15",
    joints=(
        "hip", "thorax",
        "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
        "left_hip", "left_knee", "left_ankle", "right_hip", "right_knee", "right_ankle", "head",
    ),
    parents=_HUMANEVA_PARENTS,
    bones=_tree_bones(_HUMANEVA_PARENTS),
)  # fmt: skip

_MPII_PARENTS = (1, 2, 6, 6, 3, 4, -1, 6, 7, 8, 11, 12, 7, 7, 13, 14)

# The 16 joints of MPII (Andriluka et al. 2014), in which Stacked Hourglass networks answer.
MPII16 = Skeleton(
    name="mpii16",
    joints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
        "pelvis", "thorax", "upper_neck", "head_top",
        "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
    ),
    parents=_MPII_PARENTS,
    bones=_tree_bones(_MPII_PARENTS),
)  # fmt: skip

_HOURGLASS_PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 7, 10, 11, 7, 13, 14)

# The same joints in the order of Human3.6M's, as VideoPose3D's archives of Stacked Hourglass detections have them.
HOURGLASS16 = Skeleton(
    name="hourglass16",
    joints=(
        "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
        "thorax", "upper_neck", "head_top",
        "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
    ),
    parents=_HOURGLASS_PARENTS,
    bones=_tree_bones(_HOURGLASS_PARENTS),
)  # fmt: skip

# What a joint beyond COCO's hangs on, side left out: the first of these that the skeleton has.
_HANGS_ON: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("big_toe", "small_toe", "heel", "foot_index"), ("ankle",)),
    **dict.fromkeys(("pinky", "index", "thumb"), ("wrist",)),
    **dict.fromkeys(("eye_inner", "eye_outer"), ("eye",)),
    "mouth": ("nose",),
    "neck": ("nose", "thorax"),
    "upper_neck": ("nose", "thorax"),
    "head": ("neck", "upper_neck", "nose"),
    "head_top": ("upper_neck", "neck", "nose"),
    "hip": ("neck", "thorax"),
    "mid_hip": ("neck", "thorax"),
    "pelvis": ("thorax", "neck"),
}


@lru_cache(maxsize=64)
def skeleton_of(name: str, joints: tuple[str, ...]) -> Skeleton:
    """The skeleton of joints with these names, in this order.

    Args:
        name: what to call it, if it is none of :data:`SKELETONS`.
        joints: names as in COCO17 and HALPE26; others are kept, as joints that hang on nothing.

    Returns:
        A known skeleton where all names agree. Else parents and bones follow from the names: those of COCO for its
        keypoints; feet, hands and face hang on ankle, wrist and eye of their side.
    """
    for known in SKELETONS.values():
        if known.joints == joints:
            return known
    parents = tuple(_parent_of(joint, joints) for joint in joints)
    bones = [(COCO17.joints[a], COCO17.joints[b]) for a, b in COCO17.bones]
    own = [(joints.index(a), joints.index(b)) for a, b in bones if a in joints and b in joints]
    more = [(parent, i) for i, parent in enumerate(parents) if parent >= 0 and joints[i] not in COCO17.joints]
    return Skeleton(name, joints, parents, (*own, *more))


def _parent_of(joint: str, joints: tuple[str, ...]) -> int:
    if joint in COCO17.joints:
        parent = COCO17.parents[COCO17.index(joint)]
        candidates = [COCO17.joints[parent]] if parent >= 0 else []
    else:
        side, _, part = joint.partition("_") if joint.startswith(("left_", "right_")) else ("", "", joint)
        candidates = [f"{side}_{other}" if side else other for other in _HANGS_ON.get(part, ())]
        candidates += list(_HANGS_ON.get(part, ()))
    return next((joints.index(other) for other in candidates if other in joints), -1)


def both_sides(*parts: str) -> tuple[str, ...]:
    """Left and right of each part in turn: ``left_hip, right_hip, left_knee, ...``."""
    return tuple(f"{side}_{part}" for part in parts for side in ("left", "right"))


def one_side(side: str, *parts: str) -> tuple[str, ...]:
    """All parts of one side: ``left_hip, left_knee, ...``."""
    return tuple(f"{side}_{part}" for part in parts)


ARM, LEG, FOOT = ("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle"), ("big_toe", "small_toe", "heel")
# The whole-body skeletons end with 68 points of the face and 21 of each hand.
_FACE_AND_HANDS = tuple(f"face_or_hand_{i}" for i in range(110))

SKELETONS: dict[str, Skeleton] = {
    skeleton.name: skeleton for skeleton in (COCO17, H36M17, HUMANEVA15, MPII16, HOURGLASS16)
}
# Halpe-FullBody (Li et al. 2020): COCO, then three of the axis, then the feet in pairs.
HALPE26 = skeleton_of("halpe26", (*COCO17.joints, "head", "neck", "hip", *both_sides(*FOOT)))
# COCO-WholeBody (Jin et al. 2020): COCO, the feet, the rest.
COCO133 = skeleton_of(
    "coco133", (*COCO17.joints, *one_side("left", *FOOT), *one_side("right", *FOOT), *_FACE_AND_HANDS)
)
HALPE136 = skeleton_of("halpe136", (*HALPE26.joints, *_FACE_AND_HANDS))
# OpenPose, doc/02_output.md: the parts of BODY_25 and COCO_18; poseParameters.hpp for BODY_25B.
BODY25 = skeleton_of("body25", (
    "nose", "neck", *one_side("right", *ARM), *one_side("left", *ARM),
    "mid_hip", *one_side("right", *LEG), *one_side("left", *LEG),
    "right_eye", "left_eye", "right_ear", "left_ear", *one_side("left", *FOOT), *one_side("right", *FOOT),
))  # fmt: skip
COCO18 = skeleton_of("coco18", (
    "nose", "neck", *one_side("right", *ARM), *one_side("left", *ARM),
    *one_side("right", *LEG), *one_side("left", *LEG), "right_eye", "left_eye", "right_ear", "left_ear",
))  # fmt: skip
BODY25B = skeleton_of(
    "body25b", (*COCO17.joints, "upper_neck", "head_top", *one_side("left", *FOOT), *one_side("right", *FOOT))
)
# MediaPipe Pose (BlazePose, Bazarevsky et al. 2020), the enum PoseLandmark.
BLAZEPOSE33 = skeleton_of("mediapipe33", (
    "nose", *one_side("left", "eye_inner", "eye", "eye_outer"), *one_side("right", "eye_inner", "eye", "eye_outer"),
    *both_sides("ear"), *both_sides("mouth", "shoulder", "elbow", "wrist", "pinky", "index", "thumb"),
    *both_sides("hip", "knee", "ankle", "heel", "foot_index"),
))  # fmt: skip
SKELETONS.update(
    {skeleton.name: skeleton for skeleton in (HALPE26, COCO133, HALPE136, BODY25, COCO18, BODY25B, BLAZEPOSE33)}
)


def get_skeleton(name: str) -> Skeleton:
    """Skeleton by name.

    Raises:
        ConfigError: no such skeleton.
    """
    try:
        return SKELETONS[name]
    except KeyError:
        raise ConfigError(f"unknown skeleton {name!r}; known: {', '.join(SKELETONS)}") from None


# The 12 joints that both skeletons name alike, and where each has them.
LIMB_JOINTS: tuple[str, ...] = tuple(joint for joint in COCO17.joints if joint in H36M17.joints)
COCO_LIMBS: list[int] = [COCO17.index(joint) for joint in LIMB_JOINTS]
H36M_LIMBS: list[int] = [H36M17.index(joint) for joint in LIMB_JOINTS]
