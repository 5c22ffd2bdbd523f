"""tools/blender/bvh_to_fbx.py, run by a Python that has Blender's package ``bpy``; Blender reads its FBX file back.

``bpy`` fits few versions of Python. ``VP3D_BPY_PYTHON`` names an interpreter that has it; else this one is asked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rigs import rig_positions, rigged_pose

from vp3d_cli.io.poses import ExportOptions, export_pose
from vp3d_cli.skeletons import H36M17

TOOL = Path(__file__).resolve().parents[2] / "tools" / "blender" / "bvh_to_fbx.py"
READ_BACK = """
import bpy, json, sys
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.import_scene.fbx(filepath=sys.argv[1])
found = {"fps": bpy.context.scene.render.fps, "people": {}}
for item in bpy.data.objects:
    frames = []
    for frame in (1, 10, 20):  # Blender's first frame
        bpy.context.scene.frame_set(frame)
        turned = item.evaluated_get(bpy.context.evaluated_depsgraph_get())
        frames.append({b.name: list(turned.matrix_world @ b.head) for b in turned.pose.bones})
    found["people"][item.name] = frames
print("\\n" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def blender_python() -> str:
    python = os.environ.get("VP3D_BPY_PYTHON", sys.executable)
    found = subprocess.run([python, "-c", "import bpy"], capture_output=True, check=False)
    if found.returncode != 0:
        pytest.skip("no Python with Blender's package bpy: set VP3D_BPY_PYTHON")
    return python


def run(python: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [python, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_fbx_has_everyone_within_a_millimetre(tmp_path: Path, blender_python: str) -> None:
    pose = rigged_pose(people=2, frames=20)
    files, _ = export_pose(pose, tmp_path / "walk.bvh", options=ExportOptions(names="mixamo"))
    done = run(blender_python, TOOL, *files, "--out", tmp_path / "walk.fbx")
    assert done.returncode == 0, done.stderr
    found = json.loads(run(blender_python, "-c", READ_BACK, tmp_path / "walk.fbx").stdout.splitlines()[-1])
    assert found["fps"] == 30
    assert sorted(found["people"]) == ["walk_1", "walk_2"]
    for person, name in enumerate(sorted(found["people"])):
        for shown, frame in zip(found["people"][name], (0, 9, 19), strict=True):
            wanted = rig_positions(pose, person)[frame]
            for bone, joint in (("LeftFoot", "left_ankle"), ("RightHand", "right_wrist"), ("Hips", "hip")):
                place = np.array(shown[f"mixamorig:{bone}"])
                assert np.linalg.norm(place - wanted[H36M17.index(joint)]) < 1e-3


def test_what_it_cannot_use_is_one_line(tmp_path: Path, blender_python: str) -> None:
    done = run(blender_python, TOOL, tmp_path / "no.bvh", "--out", tmp_path / "a.fbx")
    assert done.returncode == 1
    assert "no such file" in done.stderr
    files, _ = export_pose(rigged_pose(people=1, frames=3), tmp_path / "walk.bvh")
    (tmp_path / "a.fbx").write_text("mine")
    done = run(blender_python, TOOL, *files, "--out", tmp_path / "a.fbx")
    assert done.returncode == 1
    assert "exists already" in done.stderr
    assert (tmp_path / "a.fbx").read_text() == "mine"
