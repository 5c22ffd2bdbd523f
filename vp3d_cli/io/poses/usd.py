"""USD: a skeleton, a skinned capsule mesh and an animation (UsdSkel) for each person.

Units are metres; y is up. Needs usd-core.

Opens in Houdini, Maya, Blender, Omniverse, Unreal and macOS.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from vp3d_cli.io.atomic import replacing
from vp3d_cli.io.poses.base import DEFAULT_OPTIONS, Exporter, ExportOptions
from vp3d_cli.io.poses.capsules import body_mesh
from vp3d_cli.io.poses.extras import import_extra
from vp3d_cli.io.poses.joint_names import renamed
from vp3d_cli.io.poses.motion import Motion, RigMotion, motions_of
from vp3d_cli.kinematics import rest_positions
from vp3d_cli.pose import Pose3D

_PARTS = ("Gf", "Usd", "UsdGeom", "UsdSkel", "Vt")


def write_usd(pose: Pose3D, path: Path, overwrite: bool = False, options: ExportOptions = DEFAULT_OPTIONS) -> None:
    """Write everyone of a pose into one file.

    Raises:
        InputError: somebody has no rig.
        MissingDependencyError: usd-core is not installed.
        OutputError: the file exists and ``overwrite`` is not set, or it cannot be written.
    """
    pxr = SimpleNamespace(**{part: import_extra(f"pxr.{part}", "usd-core", "usd", "usd") for part in _PARTS})
    motions = motions_of(pose, options)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "motion.usd"  # USD writes to paths only
        stage = pxr.Usd.Stage.CreateNew(str(whole))
        pxr.UsdGeom.SetStageUpAxis(stage, pxr.UsdGeom.Tokens.y)
        pxr.UsdGeom.SetStageMetersPerUnit(stage, 1.0)
        stage.SetTimeCodesPerSecond(motions[0].fps)
        codes = ((motions[0].times_s - motions[0].times_s[0]) * motions[0].fps).tolist()
        stage.SetStartTimeCode(codes[0])
        stage.SetEndTimeCode(codes[-1])
        scene = pxr.UsdGeom.Xform.Define(stage, "/people")
        stage.SetDefaultPrim(scene.GetPrim())
        for motion in motions:
            _add_person(pxr, stage, motion, motion.held_rig(), options, codes)
        stage.GetRootLayer().Save()
        del stage
        data = whole.read_bytes()
    with replacing(path, overwrite) as file:
        file.write(data)


def _add_person(
    pxr: SimpleNamespace, stage: Any, motion: Motion, rig: RigMotion, options: ExportOptions, codes: Sequence[float]
) -> None:
    root = pxr.UsdSkel.Root.Define(stage, f"/people/person_{motion.person}")
    base = root.GetPath()
    joints = _joint_paths([_identifier(name) for name in renamed(motion.names, options.names)], rig.parents)
    places = rest_positions(rig.offsets, rig.parents)
    skeleton = pxr.UsdSkel.Skeleton.Define(stage, base.AppendChild("skeleton"))
    skeleton.CreateJointsAttr(joints)
    skeleton.CreateBindTransformsAttr(pxr.Vt.Matrix4dArray([_moved(pxr, place) for place in places]))
    skeleton.CreateRestTransformsAttr(pxr.Vt.Matrix4dArray([_moved(pxr, offset) for offset in rig.offsets]))
    animation = _animation(pxr, stage, base.AppendChild("motion"), joints, rig, codes)
    binding = pxr.UsdSkel.BindingAPI.Apply(skeleton.GetPrim())
    binding.CreateAnimationSourceRel().SetTargets([animation.GetPath()])
    _add_body(pxr, stage, base.AppendChild("body"), skeleton, motion, rig)


def _joint_paths(names: Sequence[str], parents: Sequence[int]) -> list[str]:
    """Joints as UsdSkel names them: ``hip/spine/thorax``."""
    paths: list[str] = []
    for name, parent in zip(names, parents, strict=True):
        paths.append(name if parent < 0 else f"{paths[parent]}/{name}")
    return paths


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _moved(pxr: SimpleNamespace, place: Sequence[float]) -> Any:
    return pxr.Gf.Matrix4d().SetTranslate(pxr.Gf.Vec3d(*(float(value) for value in place)))


def _animation(
    pxr: SimpleNamespace, stage: Any, path: Any, joints: list[str], rig: RigMotion, codes: Sequence[float]
) -> Any:
    animation = pxr.UsdSkel.Animation.Define(stage, path)
    animation.CreateJointsAttr(joints)
    animation.CreateScalesAttr(pxr.Vt.Vec3hArray([pxr.Gf.Vec3h(1, 1, 1)] * len(joints)))
    translations, rotations = animation.CreateTranslationsAttr(), animation.CreateRotationsAttr()
    quaternions = rig.quaternions().astype(np.float32)[..., [1, 2, 3, 0]]  # in memory: (x, y, z, w)
    offsets = rig.offsets.astype(np.float32)
    for code, turns, place in zip(codes, quaternions, rig.root.astype(np.float32), strict=True):
        offsets[rig.parents.index(-1)] = place
        translations.Set(pxr.Vt.Vec3fArray.FromNumpy(offsets), code)
        rotations.Set(pxr.Vt.QuatfArray.FromNumpy(np.ascontiguousarray(turns)), code)
    return animation


def _add_body(pxr: SimpleNamespace, stage: Any, path: Any, skeleton: Any, motion: Motion, rig: RigMotion) -> None:
    body = body_mesh(motion.names, rig.parents, rig.offsets)
    mesh = pxr.UsdGeom.Mesh.Define(stage, path)
    mesh.CreatePointsAttr(pxr.Vt.Vec3fArray.FromNumpy(body.positions))
    mesh.CreateNormalsAttr(pxr.Vt.Vec3fArray.FromNumpy(body.normals))
    mesh.SetNormalsInterpolation(pxr.UsdGeom.Tokens.vertex)
    mesh.CreateFaceVertexCountsAttr([3] * len(body.triangles))
    mesh.CreateFaceVertexIndicesAttr(pxr.Vt.IntArray.FromNumpy(body.triangles.ravel().astype(np.int32)))
    mesh.CreateSubdivisionSchemeAttr(pxr.UsdGeom.Tokens.none)
    binding = pxr.UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    binding.CreateSkeletonRel().SetTargets([skeleton.GetPath()])
    binding.CreateJointIndicesPrimvar(False, 1).Set(pxr.Vt.IntArray.FromNumpy(body.joints.astype(np.int32)))
    binding.CreateJointWeightsPrimvar(False, 1).Set(pxr.Vt.FloatArray([1.0] * len(body.joints)))
    binding.CreateGeomBindTransformAttr(pxr.Gf.Matrix4d(1.0))


EXPORTER = Exporter(
    "usd",
    ".usd",
    "skeleton, simple body and animation for Houdini, Maya, Omniverse and Unreal; everyone in one file",
    write_usd,
    needs_rig=True,
    holds_gaps=False,
)
