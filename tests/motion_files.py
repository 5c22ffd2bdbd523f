"""Small BVH and ASF/AMC files, and what is in them by scipy's rotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from vp3d_cli.train.mocap.motion import MOTION_JOINTS

# A standing body in a T-pose: y up, x to its left, z forward, metres. (joint, parent, offset from the parent.)
BODY: tuple[tuple[str, str, tuple[float, float, float]], ...] = (
    ("Hips", "", (0.0, 0.0, 0.0)),
    ("LeftUpLeg", "Hips", (0.11, -0.02, 0.0)),
    ("LeftLeg", "LeftUpLeg", (0.0, -0.43, 0.0)),
    ("LeftFoot", "LeftLeg", (0.0, -0.42, 0.0)),
    ("RightUpLeg", "Hips", (-0.11, -0.02, 0.0)),
    ("RightLeg", "RightUpLeg", (0.0, -0.43, 0.0)),
    ("RightFoot", "RightLeg", (0.0, -0.42, 0.0)),
    ("Spine", "Hips", (0.0, 0.10, -0.01)),
    ("Spine1", "Spine", (0.0, 0.13, 0.0)),
    ("Neck", "Spine1", (0.0, 0.25, 0.0)),
    ("Head", "Neck", (0.0, 0.12, 0.02)),
    ("LeftShoulder", "Spine1", (0.05, 0.2, 0.0)),
    ("LeftArm", "LeftShoulder", (0.13, 0.0, 0.0)),
    ("LeftForeArm", "LeftArm", (0.28, 0.0, 0.0)),
    ("LeftHand", "LeftForeArm", (0.25, 0.0, 0.0)),
    ("RightShoulder", "Spine1", (-0.05, 0.2, 0.0)),
    ("RightArm", "RightShoulder", (-0.13, 0.0, 0.0)),
    ("RightForeArm", "RightArm", (-0.28, 0.0, 0.0)),
    ("RightHand", "RightForeArm", (-0.25, 0.0, 0.0)),
)
CROWN = (0.0, 0.16, 0.0)
JOINTS = tuple(name for name, _, _ in BODY)
ORDER = "ZXY"

# The same joints by other programs' names.
NAMINGS: dict[str, dict[str, str]] = {
    "mixamo": {name: f"mixamorig:{name}" for name in JOINTS},
    "bandai": {
        "LeftUpLeg": "UpperLeg_L", "LeftLeg": "LowerLeg_L", "LeftFoot": "Foot_L",
        "RightUpLeg": "UpperLeg_R", "RightLeg": "LowerLeg_R", "RightFoot": "Foot_R",
        "LeftShoulder": "Shoulder_L", "LeftArm": "UpperArm_L", "LeftForeArm": "LowerArm_L", "LeftHand": "Hand_L",
        "RightShoulder": "Shoulder_R", "RightArm": "UpperArm_R", "RightForeArm": "LowerArm_R", "RightHand": "Hand_R",
        "Spine1": "Chest",
    },
    "3ds max": {
        "LeftUpLeg": "LeftHip", "LeftLeg": "LeftKnee", "LeftFoot": "LeftAnkle",
        "RightUpLeg": "RightHip", "RightLeg": "RightKnee", "RightFoot": "RightAnkle",
        "LeftShoulder": "LeftCollar", "LeftArm": "LeftShoulder", "LeftForeArm": "LeftElbow", "LeftHand": "LeftWrist",
        "RightShoulder": "RightCollar", "RightArm": "RightShoulder", "RightForeArm": "RightElbow",
        "RightHand": "RightWrist", "Spine": "Chest", "Spine1": "Chest2",
    },
    "biped": {
        "Hips": "Bip01 Pelvis", "LeftUpLeg": "Bip01 L Thigh", "LeftLeg": "Bip01 L Calf", "LeftFoot": "Bip01 L Foot",
        "RightUpLeg": "Bip01 R Thigh", "RightLeg": "Bip01 R Calf", "RightFoot": "Bip01 R Foot",
        "LeftShoulder": "Bip01 L Clavicle", "LeftArm": "Bip01 L UpperArm", "LeftForeArm": "Bip01 L Forearm",
        "LeftHand": "Bip01 L Hand", "RightShoulder": "Bip01 R Clavicle", "RightArm": "Bip01 R UpperArm",
        "RightForeArm": "Bip01 R Forearm", "RightHand": "Bip01 R Hand", "Neck": "Bip01 Neck", "Head": "Bip01 Head",
    },
    "smpl": {
        "Hips": "Pelvis", "LeftUpLeg": "L_Hip", "LeftLeg": "L_Knee", "LeftFoot": "L_Ankle",
        "RightUpLeg": "R_Hip", "RightLeg": "R_Knee", "RightFoot": "R_Ankle",
        "LeftShoulder": "L_Collar", "LeftArm": "L_Shoulder", "LeftForeArm": "L_Elbow", "LeftHand": "L_Wrist",
        "RightShoulder": "R_Collar", "RightArm": "R_Shoulder", "RightForeArm": "R_Elbow", "RightHand": "R_Wrist",
    },
    "unreal": {
        "Hips": "pelvis", "LeftUpLeg": "thigh_l", "LeftLeg": "calf_l", "LeftFoot": "foot_l",
        "RightUpLeg": "thigh_r", "RightLeg": "calf_r", "RightFoot": "foot_r",
        "LeftShoulder": "clavicle_l", "LeftArm": "upperarm_l", "LeftForeArm": "lowerarm_l", "LeftHand": "hand_l",
        "RightShoulder": "clavicle_r", "RightArm": "upperarm_r", "RightForeArm": "lowerarm_r", "RightHand": "hand_r",
        "Spine": "spine_01", "Spine1": "spine_02", "Neck": "neck_01", "Head": "head",
    },
}  # fmt: skip


def random_angles(frames: int, sigma_deg: float = 25.0, seed: int = 0) -> np.ndarray:
    """(F, joints, 3) degrees in the order of :data:`ORDER`."""
    return np.random.default_rng(seed).normal(size=(frames, len(BODY), 3)) * sigma_deg


def root_path(frames: int) -> np.ndarray:
    """(F, 3) metres, y up."""
    s = np.arange(frames)[:, None]
    return np.array([0.2, 0.95, -0.4]) + s * np.array([0.01, 0.0, 0.03])


def forward_kinematics(angles: np.ndarray, path: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (F, joints, 3) in metres and rotations (F, joints, 3, 3), y up."""
    positions = np.zeros((len(angles), len(BODY), 3))
    rotations: list[Rotation] = []
    for i, (_, parent, offset) in enumerate(BODY):
        own = Rotation.from_euler(ORDER, angles[:, i], degrees=True)
        if not parent:
            positions[:, i] = path
            rotations.append(own)
        else:
            above = JOINTS.index(parent)
            positions[:, i] = positions[:, above] + rotations[above].apply(np.array(offset))
            rotations.append(rotations[above] * own)
    return positions, np.stack([r.as_matrix() for r in rotations], axis=1)


def bvh_text(
    angles: np.ndarray,
    path: np.ndarray,
    *,
    scale: float = 100.0,
    fps: float = 60.0,
    names: dict[str, str] | None = None,
) -> str:
    """A BVH file; ``scale`` units to the metre."""
    names = names or {}
    lines = ["HIERARCHY"]
    columns: list[int] = []

    def write(joint: str, depth: int) -> None:
        i = JOINTS.index(joint)
        pad, name, offset = "\t" * depth, names.get(joint, joint), np.array(BODY[i][2]) * scale
        columns.append(i)
        lines.append(f"{pad}{'ROOT' if depth == 0 else 'JOINT'} {name}")
        lines.append(pad + "{")
        lines.append(f"{pad}\tOFFSET {offset[0]:.6f} {offset[1]:.6f} {offset[2]:.6f}")
        rotation = " ".join(f"{axis}rotation" for axis in ORDER)
        lines.append(
            f"{pad}\tCHANNELS 6 Xposition Yposition Zposition {rotation}"
            if depth == 0
            else f"{pad}\tCHANNELS 3 {rotation}"
        )
        children = [child for child, parent, _ in BODY if parent == joint]
        for child in children:
            write(child, depth + 1)
        if not children:
            end = np.array(CROWN if joint == "Head" else (0.0, -0.05, 0.1)) * scale
            lines.extend(
                [f"{pad}\tEnd Site", f"{pad}\t{{", f"{pad}\t\tOFFSET {end[0]} {end[1]} {end[2]}", f"{pad}\t}}"]
            )
        lines.append(pad + "}")

    write("Hips", 0)
    lines += ["MOTION", f"Frames: {len(angles)}", f"Frame Time: {1 / fps:.9f}"]
    for frame, place in zip(angles, path, strict=True):
        values = [*(place * scale), *(angle for i in columns for angle in frame[i])]
        lines.append(" ".join(f"{value:.6f}" for value in values))
    return "\n".join(lines) + "\n"


def write_bvh(file: Path, frames: int = 5, **options: Any) -> Path:
    """A BVH file of random poses."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(bvh_text(random_angles(frames), root_path(frames), **options), encoding="utf-8")
    return file


def broken_bvh(folder: Path, change: tuple[str, str] | None = None, cut_lines: int = 0, append: str = "") -> Path:
    """``broken.bvh``: a part replaced, lines cut off its end, something appended."""
    text = bvh_text(random_angles(5), root_path(5))
    if change is not None:
        assert change[0] in text
        text = text.replace(*change, 1)
    lines = text.splitlines()
    file = folder / "broken.bvh"
    file.write_text("\n".join(lines[: len(lines) - cut_lines]) + "\n" + append)
    return file


# (bone, parent, direction * length in metres, axis in degrees, degrees of freedom)
BONES: tuple[tuple[str, str, tuple[float, float, float], tuple[float, float, float], str], ...] = (
    ("lhipjoint", "root", (0.11, -0.02, 0.0), (0, 0, 0), ""),
    ("lfemur", "lhipjoint", (0.05, -0.43, 0.0), (0, 0, 20), "rx ry rz"),
    ("ltibia", "lfemur", (0.05, -0.42, 0.0), (0, 0, 20), "rx"),
    ("lfoot", "ltibia", (0.02, -0.06, 0.12), (-90, 5, 20), "rx rz"),
    ("rhipjoint", "root", (-0.11, -0.02, 0.0), (0, 0, 0), ""),
    ("rfemur", "rhipjoint", (-0.05, -0.43, 0.0), (0, 0, -20), "rx ry rz"),
    ("rtibia", "rfemur", (-0.05, -0.42, 0.0), (0, 0, -20), "rx"),
    ("rfoot", "rtibia", (-0.02, -0.06, 0.12), (-90, -5, -20), "rx rz"),
    ("lowerback", "root", (0.0, 0.12, 0.0), (0, 0, 0), "rx ry rz"),
    ("upperback", "lowerback", (0.0, 0.12, 0.0), (1, 2, 3), "rx ry rz"),
    ("thorax", "upperback", (0.0, 0.22, 0.0), (0, 0, 0), "rx ry rz"),
    ("lowerneck", "thorax", (0.0, 0.07, 0.01), (0, 0, 0), "rx ry rz"),
    ("upperneck", "lowerneck", (0.0, 0.06, 0.0), (0, 0, 0), "rx ry rz"),
    ("head", "upperneck", (0.0, 0.16, 0.0), (0, 0, 0), "rx ry rz"),
    ("lclavicle", "thorax", (0.17, -0.04, 0.0), (0, 0, 0), "ry rz"),
    ("lhumerus", "lclavicle", (0.28, 0.0, 0.0), (180, 30, 90), "rx ry rz"),
    ("lradius", "lhumerus", (0.25, 0.0, 0.0), (180, 30, 90), "rx"),
    ("lwrist", "lradius", (0.06, 0.0, 0.0), (180, 30, 90), "ry"),
    ("lhand", "lwrist", (0.05, 0.0, 0.0), (180, 30, 90), "rx rz"),
    ("rclavicle", "thorax", (-0.17, -0.04, 0.0), (0, 0, 0), "ry rz"),
    ("rhumerus", "rclavicle", (-0.28, 0.0, 0.0), (180, -30, -90), "rx ry rz"),
    ("rradius", "rhumerus", (-0.25, 0.0, 0.0), (180, -30, -90), "rx"),
    ("rwrist", "rradius", (-0.06, 0.0, 0.0), (180, -30, -90), "ry"),
    ("rhand", "rwrist", (-0.05, 0.0, 0.0), (180, -30, -90), "rx rz"),
)
ASF_UNITS_PER_M = 0.45 / 0.0254


def asf_text() -> str:
    """The skeleton, in CMU's unit."""
    lines = ["# made up", ":version 1.10", ":name test", ":units", "  mass 1.0", "  length 0.45", "  angle deg"]
    lines += [":documentation", "   none", ":root", "   order TX TY TZ RX RY RZ", "   axis XYZ"]
    lines += ["   position 0 0 0", "   orientation 0 0 0", ":bonedata"]
    for number, (name, _, bone, axis, dofs) in enumerate(BONES, start=1):
        length = float(np.linalg.norm(bone))
        direction = np.array(bone) / length
        lines += ["  begin", f"     id {number}", f"     name {name}"]
        lines += ["     direction " + " ".join(f"{v:.12g}" for v in direction)]
        lines += [f"     length {length * ASF_UNITS_PER_M:.12g}", f"     axis {axis[0]} {axis[1]} {axis[2]}   XYZ"]
        if dofs:
            lines += [f"    dof {dofs}", "    limits (-160.0 20.0)"]
            lines += ["           (-70.0 70.0)"] * (len(dofs.split()) - 1)
        lines += ["  end"]
    lines += [":hierarchy", "  begin"]
    for parent in dict.fromkeys(parent for _, parent, *_ in BONES):
        lines.append(f"    {parent} " + " ".join(name for name, above, *_ in BONES if above == parent))
    return "\n".join([*lines, "  end", ""])


def amc_values(frames: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Values of each bone (F, degrees of freedom), and of the root (F, 6): metres, degrees."""
    rng = np.random.default_rng(seed)
    values = {"root": np.hstack([root_path(frames), 20 * rng.normal(size=(frames, 3))])}
    for name, _, _, _, dofs in BONES:
        if dofs:
            values[name] = 15 * rng.normal(size=(frames, len(dofs.split())))
    return values


def amc_text(values: dict[str, np.ndarray]) -> str:
    """A motion, in CMU's unit."""
    lines = ["#!OML:ASF test.ASF", ":FULLY-SPECIFIED", ":DEGREES"]
    for frame in range(len(values["root"])):
        lines.append(str(frame + 1))
        for name, rows in values.items():
            row = rows[frame].copy()
            if name == "root":
                row[:3] *= ASF_UNITS_PER_M
            lines.append(f"{name} " + " ".join(f"{value:.10g}" for value in row))
    return "\n".join(lines) + "\n"


def asf_kinematics(values: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Where each bone begins and ends, (F, 3) metres each."""
    root = Rotation.from_euler("xyz", values["root"][:, 3:], degrees=True)
    turns, ends = {"root": root}, {"root": values["root"][:, :3]}
    result = {}
    for name, parent, bone, axis, dofs in BONES:
        angles = np.zeros((len(values["root"]), 3))
        for column, dof in enumerate(dofs.split()):
            angles[:, "xyz".index(dof[1])] = values[name][:, column]
        # Lower case is scipy's notation for axes that stand.
        c = Rotation.from_euler("xyz", axis, degrees=True)
        turns[name] = turns[parent] * c * Rotation.from_euler("xyz", angles, degrees=True) * c.inv()
        start = ends[parent]
        ends[name] = start + turns[name].apply(np.array(bone))
        result[name] = (start, ends[name])
    return result


def write_amc(folder: Path, frames: int = 4) -> Path:
    """``01.asf`` and ``01_02.amc``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "01.asf").write_text(asf_text(), encoding="utf-8")
    (folder / "01_02.amc").write_text(amc_text(amc_values(frames)), encoding="utf-8")
    return folder / "01_02.amc"


def joint(joints: np.ndarray, name: str) -> np.ndarray:
    """One joint of those of a :class:`vp3d_cli.train.mocap.motion.MotionClip`."""
    return joints[..., MOTION_JOINTS.index(name), :]


def y_up_to_z_up(points: np.ndarray) -> np.ndarray:
    """Points, or axes, of these files as motion archives have them."""
    return np.stack([points[..., 0], -points[..., 2], points[..., 1]], axis=-1)
