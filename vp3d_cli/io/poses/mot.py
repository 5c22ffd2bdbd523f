"""MOT (OpenSim motion): joint angles with the coordinates of OpenSim's full-body model, degrees and metres.

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
from vp3d_cli.types import DoubleArray, Pose3D

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
    """The motion (y up) turned about the vertical so that the root faces x, on average over time."""
    ahead = rig.local[:, rig.parents.index(-1), :, 2].sum(axis=0)
    size = float(np.hypot(ahead[0], ahead[2]))
    if size < 1e-6:
        return rig
    cosine, sine = ahead[0] / size, ahead[2] / size
    turn = np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
    local = rig.local.copy()
    local[:, rig.parents.index(-1)] = turn @ local[:, rig.parents.index(-1)]
    return replace(rig, local=local, root=rig.root @ turn.T)


def opensim_coordinates(rig: RigMotion, names: tuple[str, ...]) -> dict[str, DoubleArray]:
    """Generalized coordinates (n,) by name: degrees, and metres for ``pelvis_tx`` to ``pelvis_tz``.

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
    pelvis, torso = part["hip"], part["thorax"]
    columns = _three(pelvis, "pelvis_tilt", "pelvis_list", "pelvis_rotation")
    columns |= {f"pelvis_t{axis}": rig.root[:, i] for i, axis in enumerate("xyz")}
    for side in ("right", "left"):
        mirror, s = (1.0 if side == "right" else -1.0), side[0]
        thigh, shin = part[f"{side}_hip"], part[f"{side}_knee"]
        columns |= _three(
            _between(pelvis, thigh), f"hip_flexion_{s}", f"hip_adduction_{s}", f"hip_rotation_{s}", mirror
        )
        columns[f"knee_angle_{s}"] = _hinge(_between(thigh, shin), -1.0)
    columns |= _three(_between(pelvis, torso), "lumbar_extension", "lumbar_bending", "lumbar_rotation")
    for side in ("right", "left"):
        mirror, s = (1.0 if side == "right" else -1.0), side[0]
        hanging = _hanging_arm(mirror)
        upper, lower = (part[f"{side}_{joint}"] @ hanging for joint in ("shoulder", "elbow"))
        columns |= _three(_between(torso, upper), f"arm_flex_{s}", f"arm_add_{s}", f"arm_rot_{s}", mirror)
        columns[f"elbow_flex_{s}"] = _hinge(_between(upper, lower), 1.0)
    return columns


def _between(parent: DoubleArray, child: DoubleArray) -> DoubleArray:
    return np.asarray(np.swapaxes(parent, -1, -2) @ child)


def _three(
    turns: DoubleArray, flexion: str, adduction: str, rotation: str, mirror: float = 1.0
) -> dict[str, DoubleArray]:
    """Turns (n, 3, 3) as angles about z, then x, then y; on the left side the last two are mirrored."""
    angles = euler_angles(turns, "ZXY")
    return {flexion: angles[:, 0], adduction: mirror * angles[:, 1], rotation: mirror * angles[:, 2]}


def _hinge(turns: DoubleArray, sign: float) -> DoubleArray:
    """Degrees (n,) by which a hinge about z is turned."""
    return np.degrees(sign * np.arctan2(turns[:, 1, 0], turns[:, 0, 0]))


def _hanging_arm(mirror: float) -> DoubleArray:
    """(3, 3): segment axes of an arm that hangs down, seen from those of the T-pose: a quarter turn about x."""
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
