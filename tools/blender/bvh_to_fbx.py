"""Turn BVH files of ``vp3d export`` into one FBX file, by Blender, which writes what no free library does.

Blender runs it in the background, and so does a Python with the package ``bpy``:

    vp3d export pose.npz --to bvh --names mixamo
    blender --background --python tools/blender/bvh_to_fbx.py -- pose_1.bvh pose_2.bvh --out pose.fbx
    python tools/blender/bvh_to_fbx.py pose_1.bvh pose_2.bvh --out pose.fbx

Each BVH file becomes an armature of its name with one action. Joint names are those of the BVH file: choose them with
``vp3d export --names`` (blender, mixamo, cmu or unreal). ``--blend scene.blend`` also saves Blender's own file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import bpy

_CM = 0.01  # BVH files of vp3d are in centimetres, Blender's scenes in metres


def main(arguments: Sequence[str]) -> int:
    """Convert; returns the exit status: 0 done, 1 failed."""
    parser = argparse.ArgumentParser(prog="bvh_to_fbx.py", description="BVH files of vp3d to one FBX file.")
    parser.add_argument("bvh", nargs="+", type=Path, help="files, from vp3d export --to bvh")
    parser.add_argument("--out", required=True, type=Path, help="FBX file to write")
    parser.add_argument("--blend", type=Path, help="also save the scene as a .blend file")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    given = parser.parse_args(arguments)
    fault = find_fault(given.bvh, [path for path in (given.out, given.blend) if path is not None], given.overwrite)
    if fault:
        print(f"bvh_to_fbx.py: error: {fault}", file=sys.stderr)
        return 1
    bpy.ops.wm.read_factory_settings(use_empty=True)
    for number, path in enumerate(given.bvh):
        import_bvh(path, first=number == 0)
    export_fbx(given.out)
    if given.blend is not None:
        bpy.ops.wm.save_as_mainfile(filepath=str(given.blend.resolve()))
    print(given.out)
    return 0


def find_fault(sources: Sequence[Path], targets: Sequence[Path], overwrite: bool) -> str | None:
    """What is wrong with the files, or None."""
    for path in sources:
        if not path.is_file():
            return f"{path}: no such file; make one with `vp3d export pose.npz --to bvh`"
    for path in targets:
        if not path.parent.is_dir():
            return f"{path}: the folder {path.parent} does not exist; create it or choose another"
        if path.exists() and not overwrite:
            return f"{path}: exists already; choose another name or pass --overwrite"
    return None


def import_bvh(path: Path, first: bool) -> None:
    """Add one person to the scene, from frame 0; the first sets its frame rate, each makes it as long as needed."""
    before = 0 if first else bpy.context.scene.frame_end
    bpy.ops.import_anim.bvh(
        filepath=str(path.resolve()), global_scale=_CM, rotate_mode="QUATERNION", update_scene_fps=first
    )
    armature = bpy.context.object
    armature.name = armature.data.name = path.stem
    action = armature.animation_data.action
    begin_at_zero(action)
    bpy.context.scene.frame_start = 0
    bpy.context.scene.frame_end = max(before, int(action.frame_range[1]))


def begin_at_zero(action: bpy.types.Action) -> None:
    """Move all keys one frame earlier: Blender imports to frame 1, which an FBX file would have late by a frame."""
    if hasattr(action, "fcurves"):  # until Blender 4
        curves = list(action.fcurves)
    else:
        bags = [bag for layer in action.layers for strip in layer.strips for bag in strip.channelbags]
        curves = [curve for bag in bags for curve in bag.fcurves]
    for curve in curves:
        for key in curve.keyframe_points:
            key.co_ui.x -= 1  # takes the handles along
        curve.update()


def export_fbx(path: Path) -> None:
    """Write all armatures with their motion, a key at every frame and no bones added at the ends."""
    bpy.ops.export_scene.fbx(
        filepath=str(path.resolve()),
        object_types={"ARMATURE"},
        add_leaf_bones=False,
        bake_anim=True,
        bake_anim_use_all_bones=True,
        bake_anim_use_nla_strips=False,
        bake_anim_use_all_actions=False,
        bake_anim_simplify_factor=0.0,
    )


if __name__ == "__main__":
    rest = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:]
    sys.exit(main(rest))
