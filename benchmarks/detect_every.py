"""Accuracy and speed of ``--detect-every N``: the table of docs/scaling.md.

    python benchmarks/detect_every.py examples/demo.mp4 other.mp4 --every 2 3 5

Each video is processed in full and with detection in every Nth frame. Compared are root-relative 3D joints in
millimetres, 2D keypoints in percent of the person's height, and processor time in seconds of one core.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from vp3d_cli.pipeline.infer import infer_video
from vp3d_cli.pipeline.run import Models, Run
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.pose import Pose3D
from vp3d_cli.types import DoubleArray


def compare(whole: Pose3D, sparse: Pose3D) -> tuple[float, float, float, float]:
    """Joints: mean and 95th percentile in mm; keypoints: mean in % of the height; share of the frames found."""
    joints: list[DoubleArray] = []
    keypoints: list[DoubleArray] = []
    frames = found = 0
    for p in range(whole.num_people):
        here = np.isfinite(whole.joints_3d[p, :, 0, 0])
        frames += int(here.sum())
        middles = np.nanmean(sparse.keypoints_2d, axis=2) - np.nanmean(whole.keypoints_2d[p], axis=1)
        distances = np.nan_to_num(np.nanmedian(np.linalg.norm(middles, axis=-1)[:, here], axis=1), nan=np.inf)
        other = int(np.argmin(distances))
        both = here & np.isfinite(sparse.joints_3d[other, :, 0, 0])
        found += int(both.sum())
        box = whole.boxes_xyxy[p]
        height = float(np.nanmedian(box[:, 3] - box[:, 1]))
        joints.append(1e3 * np.linalg.norm(whole.joints_3d[p] - sparse.joints_3d[other], axis=-1)[both].ravel())
        apart = np.linalg.norm(whole.keypoints_2d[p] - sparse.keypoints_2d[other], axis=-1)[both].ravel()
        keypoints.append(100 * apart[np.isfinite(apart)] / height)
    all_joints = np.concatenate(joints)
    percent = float(np.concatenate(keypoints).mean())
    return float(all_joints.mean()), float(np.percentile(all_joints, 95)), percent, found / max(1, frames)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--every", type=int, nargs="+", default=[2, 3, 5])
    parser.add_argument("--end", type=float, help="use the beginning only, seconds")
    chosen = parser.parse_args()
    models = Models(InferSettings())
    print("| video | every | 3D, mean mm | 3D, 95 % mm | 2D, % of height | frames found | time of the whole |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for video in chosen.videos:
        took: list[float] = []
        poses: list[Pose3D] = []
        for every in (1, *chosen.every):
            started = time.process_time()
            settings = InferSettings(detect_every=every, end_s=chosen.end)
            poses.append(infer_video(video, settings, Run(models)))
            took.append(time.process_time() - started)
            if every > 1:
                mean, p95, percent, found = compare(poses[0], poses[-1])
                share = took[-1] / took[0]
                print(
                    f"| {video.name} | {every} | {mean:.1f} | {p95:.1f} | {percent:.2f} | {found:.0%} | {share:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
