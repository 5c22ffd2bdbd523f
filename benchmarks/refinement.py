"""Accuracy of the refinement steps after lifting on held-out motion: the table of docs/smoothing.md.

python benchmarks/refinement.py --motion mocap.npz --lifter pose-27

Each row changes constants of ``vp3d_cli.pipeline.infer`` and ``vp3d_cli.lift``, and measures whole shots (at 60 frames
per second, from simulated detections to motion) and single poses.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from unittest.mock import patch

from vp3d_cli.evaluate.motion_capture import HeldOutMotion, evaluate_shots, evaluate_windows, held_out_clips
from vp3d_cli.pipeline import infer as pipeline
from vp3d_cli.pipeline.detection import no_progress
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.refine import bone_lengths as bones
from vp3d_cli.refine import reprojection as anchoring

_RATE_HZ = 60.0
_OFF = 1e6  # no keypoint is so confident that it moves a joint; no depth so doubtful that a bone's length moves it
# Smoothing across and in depth, each times that of the keypoints; anchoring's confidence and distance; trust in bones.
_CASES = (
    (2.0, 2.0, _OFF, 0.05, _OFF),
    *((2.0, 2.0, *case, _OFF) for case in ((1.0, 0.05), (0.7, 0.05), (0.5, 0.05), (0.5, 0.03), (0.3, 0.1))),
    *((*case, 0.7, 0.05, _OFF) for case in ((1.0, 2.0), (1.0, 3.0), (2.0, 3.0), (2.0, 4.0), (3.0, 3.0))),
    *((2.0, 3.0, 0.7, 0.05, trust) for trust in (3.0, 1.0, 0.5, 0.3, 0.1)),
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--motion", type=Path, required=True)
    parser.add_argument("--lifter", default="pose-27", help="name or file")
    parser.add_argument("--shots", type=int, default=60)
    parser.add_argument("--windows", type=int, default=1024)
    given = parser.parse_args()

    hold_out = HeldOutMotion(held_out_clips([given.motion], [given.lifter]), given.windows)
    print("| across, depth | e, f | trust | shots N / P, velocity | exact N / P | detected N / P |")
    print("|---|---|---|---|---|---|")
    for across, depth, confidence, far_m, trust in _CASES:
        with (
            patch.object(pipeline, "_LIFTED_SMOOTHING", across),
            patch.object(pipeline, "_DEPTH_SMOOTHING", depth / across),
            patch.object(anchoring, "_EQUAL_CONFIDENCE", confidence),
            patch.object(anchoring, "_FAR_M", far_m),
            patch.object(bones, "_LENGTH_VARIANCE", trust),
        ):
            shots = evaluate_shots(given.lifter, hold_out, [_RATE_HZ], given.shots, InferSettings(), no_progress)[0]
            windows = {case.name: case for case in evaluate_windows(given.lifter, hold_out, no_progress)}
        poses = " | ".join(
            f"{windows[name].n_mpjpe:.1f} / {windows[name].p_mpjpe:.1f}" for name in ("clean", "detected")
        )
        motion = f"{shots.n_mpjpe:.1f} / {shots.p_mpjpe:.1f}, {shots.mpjve:.2f}"
        print(
            f"| {across:g}, {depth:g} | {confidence:g}, {100 * far_m:g} cm | {trust:g} | {motion} | {poses} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
