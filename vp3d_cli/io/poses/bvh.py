"""BVH (Biovision) files: a joint hierarchy, then one line of channel values per frame.

Units are centimetres and degrees; y is up.

Opens in Blender, Maya, MotionBuilder, 3ds Max, Houdini, Unity and most retargeting tools. Offsets are constant, so
bones are too; only the root has position channels. The rest pose is a T-pose that faces +z.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vp3d_cli.io.atomic import replacing
from vp3d_cli.io.poses.base import DEFAULT_OPTIONS, Exporter, ExportOptions
from vp3d_cli.io.poses.joint_names import end_offset, renamed
from vp3d_cli.io.poses.motion import Motion, RigMotion, motions_of
from vp3d_cli.kinematics import euler_angles
from vp3d_cli.pose import Pose3D
from vp3d_cli.types import DoubleArray

_CM = 100.0


def write_bvh(pose: Pose3D, path: Path, overwrite: bool = False, options: ExportOptions = DEFAULT_OPTIONS) -> None:
    """Write the first person of a pose.

    Raises:
        InputError: the person has no rig.
        OutputError: the file exists and ``overwrite`` is not set, or it cannot be written.
    """
    motion = motions_of(pose, options, even=True)[0]
    rig = motion.held_rig()
    lines = [*_hierarchy(motion, rig, options), *_frames(motion, rig, options)]
    with replacing(path, overwrite) as file:
        file.write("\n".join([*lines, ""]).encode())


def _depth_first(parents: tuple[int, ...], joint: int) -> Iterator[int]:
    """A joint and all below it, in the order in which BVH lists them."""
    yield joint
    for child, parent in enumerate(parents):
        if parent == joint:
            yield from _depth_first(parents, child)


def _hierarchy(motion: Motion, rig: RigMotion, options: ExportOptions) -> list[str]:
    names = renamed(motion.names, options.names)
    turns = " ".join(f"{axis}rotation" for axis in options.rotation_order)

    def joint_lines(joint: int, depth: int) -> Iterator[str]:
        pad, is_root = "\t" * depth, rig.parents[joint] < 0
        yield f"{pad}{'ROOT' if is_root else 'JOINT'} {names[joint]}"
        yield f"{pad}{{"
        yield f"{pad}\tOFFSET {_numbers(np.zeros(3) if is_root else rig.offsets[joint])}"
        places = "Xposition Yposition Zposition "
        yield f"{pad}\tCHANNELS 6 {places}{turns}" if is_root else f"{pad}\tCHANNELS 3 {turns}"
        children = [child for child, parent in enumerate(rig.parents) if parent == joint]
        for child in children:
            yield from joint_lines(child, depth + 1)
        if not children:
            end = _numbers(end_offset(motion.names[joint]))
            yield from (f"{pad}\tEnd Site", f"{pad}\t{{", f"{pad}\t\tOFFSET {end}", f"{pad}\t}}")
        yield f"{pad}}}"

    return ["HIERARCHY", *joint_lines(rig.parents.index(-1), 0)]


def _numbers(offset: DoubleArray) -> str:
    return " ".join(f"{value * _CM + 0.0:.6f}" for value in offset)


def _frames(motion: Motion, rig: RigMotion, options: ExportOptions) -> list[str]:
    order = list(_depth_first(rig.parents, rig.parents.index(-1)))
    angles = euler_angles(rig.local[:, order], options.rotation_order)
    values = np.concatenate([rig.root * _CM, angles.reshape(len(angles), -1)], axis=1)
    values[np.abs(values) < 5e-7] = 0.0  # no "-0.000000"
    pattern = " ".join(["%.6f"] * values.shape[1])
    rows = [pattern % tuple(row) for row in values.tolist()]
    return ["MOTION", f"Frames: {len(rows)}", f"Frame Time: {1 / motion.fps:.12g}", *rows]


EXPORTER = Exporter(
    "bvh",
    ".bvh",
    "skeleton and joint rotations for Blender, Maya, MotionBuilder, Unity; one person per file",
    write_bvh,
    one_person=True,
    needs_rig=True,
    holds_gaps=False,
)
