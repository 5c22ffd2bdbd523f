"""USD, read back by Pixar's own library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rigs import rig_positions, rigged_pose

from vp3d_cli.io.poses import ExportOptions, export_pose

TO_Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


def test_joints_of_everyone_move_as_their_rigs(tmp_path: Path) -> None:
    pytest.importorskip("pxr")
    from pxr import Usd, UsdGeom, UsdSkel

    pose = rigged_pose(people=2, frames=30)
    (file,), _ = export_pose(pose, tmp_path / "walk.usd", options=ExportOptions(names="mixamo"))
    stage = Usd.Stage.Open(str(file))
    assert UsdGeom.GetStageUpAxis(stage) == "Y"
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1.0
    assert (stage.GetTimeCodesPerSecond(), stage.GetEndTimeCode()) == (30.0, 29.0)
    cache = UsdSkel.Cache()
    for person in range(2):
        root = UsdSkel.Root.Get(stage, f"/people/person_{person + 1}")
        cache.Populate(root, Usd.PrimDefaultPredicate)
        skeleton = UsdSkel.Skeleton.Get(stage, f"/people/person_{person + 1}/skeleton")
        query = cache.GetSkelQuery(skeleton)
        assert list(query.GetJointOrder())[2] == "mixamorig_Hips/mixamorig_RightUpLeg/mixamorig_RightLeg"
        wanted = rig_positions(pose, person) @ TO_Y_UP.T
        for frame in (0, 11, 29):
            matrices = np.array(query.ComputeJointSkelTransforms(frame))
            np.testing.assert_allclose(matrices[:, 3, :3], wanted[frame], atol=1e-4)
        (binding,) = cache.ComputeSkelBindings(root, Usd.PrimDefaultPredicate)
        (skinned,) = binding.GetSkinningTargets()
        points = UsdGeom.Mesh(skinned.GetPrim()).GetPointsAttr().Get()
        transforms = query.ComputeSkinningTransforms(11)
        assert skinned.ComputeSkinnedPoints(transforms, points, 11)
        nearest = np.linalg.norm(np.array(points)[:, None] - wanted[11], axis=-1).min(axis=0)
        assert nearest.max() < 0.12
