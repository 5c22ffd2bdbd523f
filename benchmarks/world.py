"""Skate, penetration and tilt of poses in world space.

python benchmarks/world.py pose.npz [pose.npz ...] [--calibrated beam_gt.npz --camera cam01]

- skate: mean horizontal speed of an ankle in contact, mm per frame and cm/s; contacts are ankles within 5 cm of the
  lowest position of the person within half a second, that move slower than 0.5 m/s.
- deepest: how far the lowest joint of anyone is below the floor, cm (0 if none is).
- lowest: median over time of each person's lowest joint, m; 0.03 to 0.1 on the floor.
- tilt: angle between the up direction of the pose and that of the calibration, degrees.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.ndimage import minimum_filter1d

from vp3d_cli.io.poses.npz import read_npz
from vp3d_cli.pose import Person3D, Pose3D
from vp3d_cli.skeletons import H36M17
from vp3d_cli.types import DoubleArray, stretches

_ANKLES = [H36M17.index("left_ankle"), H36M17.index("right_ankle")]
_UPPER_BODY = [H36M17.index(name) for name in ("spine", "thorax", "neck", "left_shoulder", "right_shoulder")]
_CONTACT_M, _SLOW_M_S, _WINDOW_S = 0.05, 0.5, 0.5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("poses", nargs="+", type=Path)
    parser.add_argument("--calibrated", type=Path, help="ground truth with the rotation of each camera, CAM_R")
    parser.add_argument("--camera", help="name of the camera in it")
    given = parser.parse_args()
    print("| pose | skate mm/frame | cm/s | deepest cm | lowest m | tilt degrees |")
    print("|---|---|---|---|---|---|")
    for path in given.poses:
        pose = read_npz(path)
        speeds = np.concatenate([skate_m_s(person, pose.fps) for person in pose] or [np.zeros(0)])
        speed = float(speeds.mean()) if len(speeds) else float("nan")
        tilt = "" if given.calibrated is None else f"{tilt_deg(pose, true_up(given.calibrated, given.camera)):.1f}"
        lowest = ", ".join(f"{height:.2f}" for height in lowest_m(pose))
        row = f"{1000 * speed / pose.fps:.2f} | {100 * speed:.1f} | {100 * deepest_m(pose):.1f} | {lowest} | {tilt}"
        print(f"| {path.stem} | {row} |")


def skate_m_s(person: Person3D, fps: float) -> DoubleArray:
    """Horizontal speeds of the ankles between neighbouring frames of contact, metres per second."""
    ankles = person.joints_world[:, _ANKLES].astype(np.float64)
    found = []
    for start, stop in stretches(np.asarray(np.isfinite(ankles).all(axis=(1, 2)))):
        own = ankles[start:stop]
        lowest = minimum_filter1d(own[..., 2].min(axis=1), 2 * int(_WINDOW_S * fps) + 1, mode="nearest")
        speed = np.linalg.norm(np.diff(own[..., :2], axis=0), axis=-1) * fps
        low = own[..., 2] < lowest[:, None] + _CONTACT_M
        found.append(speed[low[1:] & low[:-1] & (speed < _SLOW_M_S)])
    return np.concatenate(found) if found else np.zeros(0)


def deepest_m(pose: Pose3D) -> float:
    """How far the lowest joint of anyone is below the floor, metres."""
    return max([0.0, *(-float(np.nanmin(p.joints_world[..., 2])) for p in pose if np.isfinite(p.joints_world).any())])


def lowest_m(pose: Pose3D) -> list[float]:
    """For each person the median over time of the height of the lowest joint, metres."""
    each = [person.joints_world[np.isfinite(person.joints_world).all(axis=(1, 2))][..., 2] for person in pose]
    return [float(np.median(heights.min(axis=1))) if len(heights) else float("nan") for heights in each]


def tilt_deg(pose: Pose3D, up: DoubleArray) -> float:
    """Angle between the up direction of a pose and a known one in camera axes, degrees."""
    person = pose[0]
    there = np.isfinite(person.joints_world).all(axis=(1, 2))
    camera = person.joints[there][:, _UPPER_BODY].reshape(-1, 3).astype(np.float64)
    world = (person.joints_world - person.joints_world[:, :1])[there][:, _UPPER_BODY].reshape(-1, 3)
    left, _, right = np.linalg.svd(world.T @ camera)  # Kabsch 1976
    rotation = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
    return float(np.degrees(np.arccos(np.clip(rotation[2] @ up, -1, 1))))


def true_up(calibrated: Path, camera: str) -> DoubleArray:
    """Up direction (3,) in the axes of a calibrated camera whose world has z up."""
    with np.load(calibrated, allow_pickle=False) as truth:
        return np.asarray(truth[f"{camera}_R"].astype(np.float64) @ [0.0, 0.0, 1.0])


if __name__ == "__main__":
    main()
