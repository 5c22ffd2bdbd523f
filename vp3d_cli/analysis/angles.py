"""Joint angles of a pose, defined as the International Society of Biomechanics recommends.

``docs/angles.md`` shows axes and signs. Sources: Wu et al. 2002 (hip, spine, ankle), Wu et al. 2005 (shoulder), Baker
2001 (pelvis and trunk in space).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vp3d_cli.analysis.joints import SIDES, PersonPoints, named_points, points_of
from vp3d_cli.analysis.segments import (
    WORLD_AXES,
    angle_between,
    angles_yxz,
    angles_zxy,
    axes_from_right,
    axes_from_up,
    axial_yxy,
    continuous,
    direction,
    mirrored,
    relative,
    swing_yx,
    swing_zx,
)
from vp3d_cli.errors import ConfigError
from vp3d_cli.pose import Pose3D
from vp3d_cli.types import BoolArray, DoubleArray, FloatArray

Points = Mapping[str, DoubleArray]
# The axis about which a thigh or an upper arm turns shows only in the bend of the knee or elbow: 1 cm of error turns
# it by 4 degrees at this bend, and by more at a smaller one.
_LEAST_BEND_DEG = 20.0
# The middle of what these joints can do, degrees: an angle known up to full turns is the one nearest to it.
_MIDDLE_OF_HIP_FLEXION, _MIDDLE_OF_ELEVATION_PLANE = 50.0, 45.0


@dataclass(frozen=True, eq=False, repr=False)
class JointAngles:
    """The joint angles of one person: t frames, A angles.

    Attributes:
        person_id: as in the pose.
        frames: (t,) frame numbers in the video.
        times_s: (t,) seconds.
        names: A names, of :data:`ANGLE_NAMES`.
        degrees: (t, A); NaN where the person is not in view or the angle is undefined.
        observed: (t, A) True where the detector saw all joints that the angle is made of; False where some were
            filled in.
        confidence: (t, A) the least confidence of the detector in these joints, 0..1.
    """

    person_id: int
    frames: np.ndarray[tuple[int], np.dtype[np.int64]]
    times_s: DoubleArray
    names: tuple[str, ...]
    degrees: DoubleArray
    observed: BoolArray
    confidence: DoubleArray

    def __len__(self) -> int:
        return len(self.times_s)

    def __repr__(self) -> str:
        return f"JointAngles(person {self.person_id}, {len(self)} frames, {len(self.names)} angles)"

    def __getitem__(self, name: str) -> DoubleArray:
        """(t,) degrees of one angle.

        Raises:
            ConfigError: there is no such angle, or the skeleton lacks joints for it.
        """
        return np.asarray(self.degrees[:, self.index(name)])

    def index(self, name: str) -> int:
        """Column of an angle.

        Raises:
            ConfigError: there is no such angle, or the skeleton lacks joints for it.
        """
        if name not in self.names:
            raise ConfigError(f"no angle {name!r} here; there are: {', '.join(self.names)}")
        return self.names.index(name)


@dataclass(frozen=True)
class _Angle:
    """One angle: from which points, how, and how full turns are resolved."""

    name: str
    needs: tuple[str, ...]
    compute: Callable[[Points], DoubleArray]
    centre: float | None = 0.0


def joint_angles(pose: Pose3D, names: Sequence[str] | None = None) -> tuple[JointAngles, ...]:
    """Joint angles of everyone in a pose, in degrees.

    Args:
        pose: of any skeleton; angles for which it lacks joints are left out.
        names: which of :data:`ANGLE_NAMES`; all that the skeleton has joints for if None.

    Returns:
        One for each person, in the order of ``pose.people``. Each angle is continuous over an uninterrupted run of
        frames: it never jumps by a full turn.

    Raises:
        ConfigError: no such angle, or the skeleton lacks joints for one that is named.
    """
    wanted = select_angles(pose.joint_names_3d, names)
    return tuple(_angles_of(points_of(pose, person), wanted) for person in pose.people)


def angles_from_joints(joints: FloatArray | DoubleArray, joint_names: Sequence[str]) -> dict[str, DoubleArray]:
    """Joint angles from joint positions alone.

    Args:
        joints: (t, J, 3) metres, world space, z up.
        joint_names: J names; left and right start with ``left_`` and ``right_``.

    Returns:
        Of each angle for which there are joints (t,) degrees.
    """
    points = named_points(joints, joint_names)
    wanted = select_angles(joint_names)
    return {name: continuous(_ANGLES[name].compute(points), _ANGLES[name].centre) for name in wanted}


def select_angles(joint_names: Sequence[str], names: Sequence[str] | None = None) -> tuple[str, ...]:
    """The angles that are named, or all for which a skeleton has joints.

    Raises:
        ConfigError: no such angle, or the skeleton lacks joints for one that is named.
    """
    check_angle_names(names or ())
    have = named_points(np.zeros((1, len(joint_names), 3)), joint_names)
    possible = tuple(name for name, angle in _ANGLES.items() if all(point in have for point in angle.needs))
    for name in names or ():
        if name not in possible:
            lacking = ", ".join(point for point in _ANGLES[name].needs if point not in have)
            raise ConfigError(
                f"angle {name!r}: the skeleton has no {lacking}; it has joints for: {', '.join(possible)}"
            )
    return tuple(names) if names else possible


def check_angle_names(names: Sequence[str]) -> None:
    """Check whether there are angles of these names.

    Raises:
        ConfigError: no; the message lists them.
    """
    for name in names:
        if name not in _ANGLES:
            raise ConfigError(f"unknown angle {name!r}; known: {', '.join(ANGLE_NAMES)}")


def _angles_of(points: PersonPoints, names: Sequence[str]) -> JointAngles:
    columns = [_ANGLES[name] for name in names]
    shape = (len(points), len(columns))
    degrees, observed, confidence = np.full(shape, np.nan), np.zeros(shape, np.bool_), np.zeros(shape)
    for i, angle in enumerate(columns):
        degrees[:, i] = continuous(angle.compute(points.body), angle.centre)
        observed[:, i] = np.all([points.observed[point] for point in angle.needs], axis=0)
        confidence[:, i] = np.min([points.scores[point] for point in angle.needs], axis=0)
    return JointAngles(points.person_id, points.frames, points.times_s, tuple(names), degrees, observed, confidence)


def pelvis_axes(points: Points) -> DoubleArray:
    """Axes (t, 3, 3) of the pelvis: Z through the hips, Y towards the spine."""
    return axes_from_right(points["right_hip"] - points["left_hip"], points["spine"] - points["pelvis"])


def thorax_axes(points: Points) -> DoubleArray:
    """Axes (t, 3, 3) of the thorax: Y from spine to thorax, Z towards the right shoulder."""
    return axes_from_up(points["thorax"] - points["spine"], points["right_shoulder"] - points["left_shoulder"])


def _trunk_axes(points: Points) -> DoubleArray:
    """Axes (t, 3, 3) of the whole trunk: Y from pelvis to thorax, Z towards the right shoulder."""
    return axes_from_up(points["thorax"] - points["pelvis"], points["right_shoulder"] - points["left_shoulder"])


def _in_space(axes: Callable[[Points], DoubleArray]) -> tuple[Callable[[Points], DoubleArray], ...]:
    """Tilt (forward), obliquity (right side down), rotation (to the left) in world space."""

    def part(which: int, sign: float) -> Callable[[Points], DoubleArray]:
        return lambda points: sign * angles_yxz(relative(WORLD_AXES, axes(points)))[which]

    return part(2, -1.0), part(1, 1.0), part(0, 1.0)


def _spine(which: int, sign: float) -> Callable[[Points], DoubleArray]:
    return lambda points: sign * angles_zxy(relative(pelvis_axes(points), thorax_axes(points)))[which]


def _neck(which: int, sign: float) -> Callable[[Points], DoubleArray]:
    return lambda points: sign * swing_zx(direction(thorax_axes(points), points["head"] - points["thorax"]))[which]


def _hip(side: str, which: int) -> Callable[[Points], DoubleArray]:
    def compute(points: Points) -> DoubleArray:
        up = direction(pelvis_axes(points), points[f"{side}_hip"] - points[f"{side}_knee"])
        return swing_zx(up * _own_side(side))[which]

    return compute


def _shoulder(side: str, which: int) -> Callable[[Points], DoubleArray]:
    def compute(points: Points) -> DoubleArray:
        up = direction(thorax_axes(points), points[f"{side}_shoulder"] - points[f"{side}_elbow"])
        return swing_yx(up * _own_side(side))[which]

    return compute


def _own_side(side: str) -> DoubleArray:
    """(3,) factors that mirror a direction of the left side to the right side."""
    return np.array([1.0, 1.0, -1.0 if side == "left" else 1.0])


def _hip_rotation(side: str) -> Callable[[Points], DoubleArray]:
    def compute(points: Points) -> DoubleArray:
        thigh, shank = _bones(points, side, "hip", "knee", "ankle")
        rotation = relative(pelvis_axes(points), axes_from_up(-thigh, _hinge(shank, thigh)))
        return angles_zxy(mirrored(rotation) if side == "left" else rotation)[2]

    return compute


def _shoulder_rotation(side: str) -> Callable[[Points], DoubleArray]:
    def compute(points: Points) -> DoubleArray:
        upper, fore = _bones(points, side, "shoulder", "elbow", "wrist")
        rotation = relative(thorax_axes(points), axes_from_up(-upper, _hinge(upper, fore)))
        return axial_yxy(mirrored(rotation) if side == "left" else rotation)

    return compute


def _bend(side: str, *joints: str) -> Callable[[Points], DoubleArray]:
    """Flexion of a hinge: 0 when straight, up to 180."""
    return lambda points: angle_between(*_bones(points, side, *joints))


def _dorsiflexion(side: str) -> Callable[[Points], DoubleArray]:
    def compute(points: Points) -> DoubleArray:
        shank = points[f"{side}_knee"] - points[f"{side}_ankle"]
        return 90.0 - angle_between(points[f"{side}_toe"] - points[f"{side}_heel"], shank)

    return compute


def _bones(points: Points, side: str, *joints: str) -> tuple[DoubleArray, DoubleArray]:
    """The two bones of three joints, from the trunk outwards."""
    near, middle, far = (points[f"{side}_{joint}"] for joint in joints)
    return middle - near, far - middle


def _hinge(a: DoubleArray, b: DoubleArray) -> DoubleArray:
    """The axis (t, 3) about which two bones bend; NaN where they are too straight to show it."""
    bend = angle_between(a, b)
    return np.where((np.minimum(bend, 180.0 - bend) >= _LEAST_BEND_DEG)[:, None], np.cross(a, b), np.nan)


def _trunk_angles() -> Iterator[_Angle]:
    pelvis, shoulders = ("pelvis", "left_hip", "right_hip", "spine"), ("thorax", "left_shoulder", "right_shoulder")
    motions = ("tilt", "obliquity", "rotation")
    for motion, compute in zip(motions, _in_space(pelvis_axes), strict=True):
        yield _Angle(f"pelvis_{motion}", pelvis, compute, None)
    for motion, compute in zip(motions, _in_space(_trunk_axes), strict=True):
        yield _Angle(f"trunk_{motion}", ("pelvis", *shoulders), compute, None)
    for motion, which, sign in (("flexion", 0, -1.0), ("bending", 1, 1.0), ("rotation", 2, 1.0)):
        yield _Angle(f"spine_{motion}", pelvis + shoulders, _spine(which, sign))
    for motion, which, sign in (("flexion", 0, -1.0), ("bending", 1, 1.0)):
        yield _Angle(f"neck_{motion}", ("head", "spine", *shoulders), _neck(which, sign))


def _limb_angles(side: str) -> Iterator[_Angle]:
    pelvis, thorax = (
        ("pelvis", "left_hip", "right_hip", "spine"),
        ("spine", "thorax", "left_shoulder", "right_shoulder"),
    )
    hip, knee, ankle, elbow, wrist, heel, toe = (
        f"{side}_{joint}" for joint in ("hip", "knee", "ankle", "elbow", "wrist", "heel", "toe")
    )
    yield _Angle(f"{side}_hip_flexion", (*pelvis, knee), _hip(side, 0), _MIDDLE_OF_HIP_FLEXION)
    yield _Angle(f"{side}_hip_adduction", (*pelvis, knee), _hip(side, 1))
    yield _Angle(f"{side}_hip_rotation", (*pelvis, knee, ankle), _hip_rotation(side))
    yield _Angle(f"{side}_knee_flexion", (hip, knee, ankle), _bend(side, "hip", "knee", "ankle"), 90.0)
    yield _Angle(f"{side}_ankle_dorsiflexion", (knee, ankle, heel, toe), _dorsiflexion(side))
    plane = _MIDDLE_OF_ELEVATION_PLANE
    yield _Angle(f"{side}_shoulder_plane", (*thorax, elbow), _shoulder(side, 0), plane)
    yield _Angle(f"{side}_shoulder_elevation", (*thorax, elbow), _shoulder(side, 1), 90.0)
    yield _Angle(f"{side}_shoulder_rotation", (*thorax, elbow, wrist), _shoulder_rotation(side))
    yield _Angle(
        f"{side}_elbow_flexion", (f"{side}_shoulder", elbow, wrist), _bend(side, "shoulder", "elbow", "wrist"), 90.0
    )


_ANGLES: dict[str, _Angle] = {
    angle.name: angle for angle in (*_trunk_angles(), *(angle for side in SIDES for angle in _limb_angles(side)))
}
ANGLE_NAMES: tuple[str, ...] = tuple(_ANGLES)
