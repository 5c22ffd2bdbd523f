"""MOT (OpenSim motion): joint angles as coordinates of OpenSim's full-body model.

Units are degrees and metres.

Coordinates and their signs are those of the model of Rajagopal et al. 2016 (Full-body musculoskeletal model for
muscle-driven simulation of human gait, IEEE Trans. Biomed. Eng. 63(10)): segments have x forwards, y up and z to the
right; pelvis, hips and lumbar joint turn about z, then x, then y; knees and elbows bend in the positive sense. Tilt and
list of the pelvis only mean that of somebody who faces x: so the whole motion is turned about the vertical until the
person does, on average.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.io.atomic import replacing
from vp3d_cli.io.poses.base import DEFAULT_OPTIONS, Exporter, ExportOptions
from vp3d_cli.io.poses.motion import RigMotion, motions_of
from vp3d_cli.kinematics import euler_angles, global_rotations
from vp3d_cli.pose import Pose3D
from vp3d_cli.types import DoubleArray

# Sign of angles about x and y.
_MIRROR = {"right": 1.0, "left": -1.0}
# Columns: OpenSim's x forwards, y up, z to the right, in the axes of our rest pose, which faces +z with y up.
_SEGMENT = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def write_mot(pose: Pose3D, path: Path, overwrite: bool = False, options: ExportOptions = DEFAULT_OPTIONS) -> None:
    """Write the first person of a pose.

    Raises:
        InputError: the person has no rig, or a skeleton without hips, knees, shoulders and elbows.
        OutputError: the file exists and ``overwrite`` is not set, or it cannot be written.
    """
    motion = motions_of(pose, options, even=True)[0]
    columns = opensim_coordinates(facing_x(motion.held_rig()), motion.names)
    times = motion.times_s[0] + np.arange(len(motion.times_s)) / motion.fps
    values = np.column_stack([times, *columns.values()])
    header = [
        path.stem,
        "version=1",
        f"nRows={len(values)}",
        f"nColumns={values.shape[1]}",
        "inDegrees=yes",
        "endheader",
        "\t".join(["time", *columns]),
    ]
    pattern = "\t".join(["%.6f"] * values.shape[1])
    with replacing(path, overwrite) as file:
        file.write("\n".join([*header, *(pattern % tuple(row) for row in values.tolist()), ""]).encode())


def facing_x(rig: RigMotion) -> RigMotion:
    """Rotate a motion (y up) about the vertical so that the root faces x on average over time."""
    turn, root = turn_to_x(rig), rig.parents.index(-1)
    local = rig.local.copy()
    local[:, root] = turn @ local[:, root]
    return replace(rig, local=local, root=rig.root @ turn.T)


def turn_to_x(rig: RigMotion) -> DoubleArray:
    """Rotation (3, 3) about the vertical (y) that makes the root face x on average over time."""
    ahead = rig.local[:, rig.parents.index(-1), :, 2].sum(axis=0)
    size = float(np.hypot(ahead[0], ahead[2]))
    cosine, sine = (ahead[0] / size, ahead[2] / size) if size > 1e-6 else (1.0, 0.0)
    return np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])


def opensim_coordinates(rig: RigMotion, names: tuple[str, ...]) -> dict[str, DoubleArray]:
    """Return the generalized coordinates (n,) by name.

    Units are degrees, and metres for ``pelvis_tx`` to ``pelvis_tz``.

    Args:
        rig: y up, without gaps, facing x (see :func:`facing_x`).
        names: of its joints.

    Raises:
        InputError: the skeleton lacks a joint.
    """
    needed = ("hip", "thorax", *(f"{s}_{j}" for s in ("left", "right") for j in ("hip", "knee", "shoulder", "elbow")))
    if missing := [name for name in needed if name not in names]:
        raise InputError(f"OpenSim's coordinates need the joints {', '.join(missing)}; this skeleton lacks them")
    turns = global_rotations(rig.local, rig.parents) @ _SEGMENT
    part = {name: turns[:, names.index(name)] for name in needed}
    for side, mirror in _MIRROR.items():
        for joint in ("shoulder", "elbow"):
            part[f"{side}_{joint}"] = part[f"{side}_{joint}"] @ _hanging_arm(mirror)
    angles = _ball_joints(part)
    columns = angles["pelvis"] | {f"pelvis_t{axis}": rig.root[:, i] for i, axis in enumerate("xyz")}
    for side in _MIRROR:
        knee = _hinge(_between(part[f"{side}_hip"], part[f"{side}_knee"]), -1.0)
        columns |= angles[f"{side}_hip"] | {f"knee_angle_{side[0]}": knee}
    columns |= angles["lumbar"]
    for side in _MIRROR:
        elbow = _hinge(_between(part[f"{side}_shoulder"], part[f"{side}_elbow"]), 1.0)
        columns |= angles[f"{side}_shoulder"] | {f"elbow_flex_{side[0]}": elbow}
    return columns


def _ball_joints(part: dict[str, DoubleArray]) -> dict[str, dict[str, DoubleArray]]:
    """Return the angles (n,) of the ball joints.

    They rotate about z, then x, then y; the last two are mirrored on the left side.

    Args:
        part: axes (n, 3, 3) of the segments; arms hang down in the rest pose.
    """
    pelvis, torso = part["hip"], part["thorax"]
    joints: dict[str, tuple[DoubleArray, tuple[str, str, str], float]] = {
        "pelvis": (pelvis, ("pelvis_tilt", "pelvis_list", "pelvis_rotation"), 1.0),
        "lumbar": (_between(pelvis, torso), ("lumbar_extension", "lumbar_bending", "lumbar_rotation"), 1.0),
    }
    for side, mirror in _MIRROR.items():
        s = side[0]
        hip, shoulder = _between(pelvis, part[f"{side}_hip"]), _between(torso, part[f"{side}_shoulder"])
        joints[f"{side}_hip"] = hip, (f"hip_flexion_{s}", f"hip_adduction_{s}", f"hip_rotation_{s}"), mirror
        joints[f"{side}_shoulder"] = shoulder, (f"arm_flex_{s}", f"arm_add_{s}", f"arm_rot_{s}"), mirror
    angles = euler_angles(np.stack([turns for turns, _, _ in joints.values()], axis=1), "ZXY")
    return {
        joint: dict(zip(names, (angles[:, i] * [1.0, mirror, mirror]).T, strict=True))
        for i, (joint, (_, names, mirror)) in enumerate(joints.items())
    }


def _between(parent: DoubleArray, child: DoubleArray) -> DoubleArray:
    return np.asarray(np.swapaxes(parent, -1, -2) @ child)


def _hinge(turns: DoubleArray, sign: float) -> DoubleArray:
    """Degrees (n,) by which a hinge about z is turned."""
    return np.degrees(sign * np.arctan2(turns[:, 1, 0], turns[:, 0, 0]))


def _hanging_arm(mirror: float) -> DoubleArray:
    """Segment axes (3, 3) of a hanging arm in the axes of the T-pose: 90 degrees about x."""
    return np.array([[1.0, 0.0, 0.0], [0.0, 0.0, mirror], [0.0, -mirror, 0.0]])


EXPORTER = Exporter(
    "mot",
    ".mot",
    "joint angles for OpenSim (full-body model of Rajagopal 2016); one person per file",
    write_mot,
    one_person=True,
    needs_rig=True,
    holds_gaps=False,
)
