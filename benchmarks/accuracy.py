"""Accuracy of lifters on real video: the table "How accurate" of README.md, in Markdown.

python benchmarks/accuracy.py --lifter default --lifter pose-243 --markers walk.mp4 walk_gt.npz
python benchmarks/accuracy.py --lifter default --calibrated beam_gt.npz cam01.mp4 cam02.mp4

--markers VIDEO TRUTH is one video without calibration. TRUTH is an npz with ``joints`` (T, J, 3) metres in any axes,
``joint_names`` (J,) with the 12 limb joints (``left_hip`` or ``lhip``, and so on), ``times_s`` (T,) video time,
and optionally ``valid`` (T,). The main person is scored, as ``vp3d infer --max-people 1`` finds them; the camera must
not turn. --calibrated TRUTH VIDEO... is the clip of ``vp3d evaluate --calibrated``; the name of each video is that of
its camera. Both can be repeated. People are detected once for all lifters.

P-MPJPE: mm, each pose aligned by Procrustes. N-MPJPE: mm, aligned at the hips, one scale per view; with markers one
similarity transform per clip. Velocity: mm per frame, aligned as N-MPJPE. Path: mm, middle of the hips after one
similarity transform of the whole path, in camera space if calibrated, else in world space.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vp3d_cli.cli.evaluate.ground_truth import on_calibrated_clip
from vp3d_cli.cli.evaluate.table import summary_of
from vp3d_cli.cli.progress import StageProgress
from vp3d_cli.errors import InputError, Vp3dError
from vp3d_cli.evaluate.calibrated import at_times
from vp3d_cli.evaluate.scores import Scores, score_motion
from vp3d_cli.io.npz_rows import BROKEN_ARCHIVE, open_arrays
from vp3d_cli.metrics import procrustes_align
from vp3d_cli.pipeline.api import Pipeline
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.pose import Pose3D
from vp3d_cli.skeletons import H36M_LIMBS, LIMB_JOINTS
from vp3d_cli.types import DoubleArray
from vp3d_cli.weights import DEFAULT_LIFTER

_HIPS = [LIMB_JOINTS.index("left_hip"), LIMB_JOINTS.index("right_hip")]
_FIGURES = {"P-MPJPE": "p_mpjpe", "N-MPJPE": "n_mpjpe", "velocity": "mpjve", "path": "trajectory_aligned"}


@dataclass(frozen=True)
class MarkerTruth:
    """Joints of a marker-based session, in the time of the video.

    Attributes:
        joints: (T, 12, 3) metres, any axes, in the order of :data:`LIMB_JOINTS`; NaN where unknown.
        times_s: (T,) seconds.
    """

    joints: DoubleArray
    times_s: DoubleArray


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    given = parse(arguments)
    try:
        results = {}
        for truth, *videos in given.calibrated:
            results[Path(truth).stem] = of_calibrated(Path(truth), [Path(video) for video in videos], given)
        for video, truth in given.markers:
            results[Path(video).stem] = of_markers(Path(video), read_markers(Path(truth)), given)
    except Vp3dError as error:
        raise SystemExit(f"error: {error}") from error
    print("```sh", *commands(given, sys.argv[1:] if arguments is None else arguments), "```", "", sep="\n")
    print(*overview(results), "", *details(results), sep="\n")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lifter", action="append", help="name or file; can be repeated")
    parser.add_argument("--calibrated", nargs="+", action="append", default=[], metavar="FILE", help="TRUTH VIDEO...")
    parser.add_argument("--markers", nargs=2, action="append", default=[], metavar=("VIDEO", "TRUTH"))
    parser.add_argument("--detector", default=InferSettings().detector)
    given = parser.parse_args(arguments)
    given.lifter = given.lifter or [DEFAULT_LIFTER]
    if not given.calibrated and not given.markers:
        parser.error("give --markers or --calibrated")
    if any(len(clip) < 2 for clip in given.calibrated):
        parser.error("--calibrated needs TRUTH and at least one VIDEO")
    names = [Path(clip[0]).stem for clip in (*given.calibrated, *given.markers)]
    if twice := {name for name in names if names.count(name) > 1}:
        parser.error(f"two clips have the name {', '.join(sorted(twice))}; rename one")
    return given


def of_calibrated(truth: Path, videos: list[Path], given: argparse.Namespace) -> dict[str, Scores]:
    """Scores of each lifter on a calibrated clip, the mean of its views."""
    settings, progress = InferSettings(detector=given.detector), StageProgress(quiet=True)
    table = on_calibrated_clip(truth, None, videos, [], given.lifter, settings, progress)
    return {lifter: summary_of(scores) for lifter, scores in table.items()}


def of_markers(video: Path, truth: MarkerTruth, given: argparse.Namespace) -> dict[str, Scores]:
    """Scores of each lifter on a video with marker-based truth."""
    with Pipeline(detector=given.detector, max_people=1) as pipeline:
        detections = pipeline.detect(video)
        poses = {lifter: pipeline.lift(detections, lifter=lifter) for lifter in given.lifter}
    return {lifter: score_markers(pose, truth, video.stem) for lifter, pose in poses.items()}


def score_markers(pose: Pose3D, truth: MarkerTruth, name: str) -> Scores:
    """Score the first person of a pose: joints in camera axes, path in world space.

    Joints are aligned at the hips, then by one similarity transform of the whole motion, because the axes of the truth
    are unknown and its hips are a constant offset from those of a detector.

    Raises:
        InputError: the times do not overlap with the ground truth.
    """
    person = pose.people[0]
    joints, path = (np.full((len(pose.frame_times_s), len(LIMB_JOINTS), 3), np.nan) for _ in range(2))
    joints[person.track.frames] = person.joints[:, H36M_LIMBS]
    path[person.track.frames] = person.joints_world[:, H36M_LIMBS]
    joints, path = (at_times(values, pose.frame_times_s, truth.times_s) for values in (joints, path))
    relative, wanted = (values - values[:, _HIPS].mean(axis=1, keepdims=True) for values in (joints, truth.joints))
    both = np.isfinite(relative).all(axis=(1, 2)) & np.isfinite(wanted).all(axis=(1, 2))
    if both.any():
        aligned = procrustes_align(relative[both].reshape(-1, 3), wanted[both].reshape(-1, 3))
        relative[both] = aligned.reshape(-1, len(LIMB_JOINTS), 3)
    root, truth_root = path[:, _HIPS].mean(axis=1), truth.joints[:, _HIPS].mean(axis=1)
    return score_motion(name, relative, wanted, LIMB_JOINTS, predicted_root=root, truth_root=truth_root)


def read_markers(path: Path) -> MarkerTruth:
    """Read the npz file of a marker-based session.

    Raises:
        InputError: it is missing or has another format.
    """
    if not path.is_file():
        raise InputError(f"no marker-based truth at {path}; give the path of an npz file")
    try:
        with open_arrays(path) as archive:
            names = [str(name) for name in archive["joint_names"]]
            joints = archive["joints"].astype(np.float64)
            times_s = archive["times_s"].astype(np.float64)
            valid = archive["valid"].astype(bool) if "valid" in archive.files else np.ones(len(times_s), bool)
    except BROKEN_ARCHIVE as error:
        raise InputError(f"{path} is not marker-based truth ({error}); needs joints, joint_names, times_s") from error
    expected = (*times_s.shape, len(names), 3)
    if times_s.ndim != 1 or joints.shape != expected or valid.shape != times_s.shape:
        raise InputError(f"{path}: joints must be (T, J, 3) = {expected}, is {joints.shape}; valid {valid.shape}")
    full = {joint.replace("left_", "l").replace("right_", "r"): joint for joint in LIMB_JOINTS}
    names = [full.get(name.lower(), name.lower()) for name in names]
    if missing := [joint for joint in LIMB_JOINTS if joint not in names]:
        raise InputError(f"{path}: lacks the joints {', '.join(missing)}")
    joints = joints[:, [names.index(joint) for joint in LIMB_JOINTS]]
    return MarkerTruth(np.where(valid[:, None, None], joints, np.nan), times_s)


def commands(given: argparse.Namespace, arguments: Sequence[str]) -> list[str]:
    """The command of this table, and the commands of vp3d that run the same on each clip."""
    lines = [shlex.join(["python", "benchmarks/accuracy.py", *arguments])]
    for truth, *videos in given.calibrated:
        cameras = [part for video in videos for part in ("--video", video)]
        lifters = [part for lifter in given.lifter for part in ("--weights", lifter)]
        options = ["--calibrated", truth, *cameras, *lifters, "--detector", given.detector]
        lines.append(shlex.join(["vp3d", "evaluate", *options]))
    for video, _ in given.markers:
        for lifter in given.lifter:
            options = ["--lifter", lifter, "--max-people", "1", "--detector", given.detector, "--out"]
            lines.append(shlex.join(["vp3d", "infer", video, *options, f"{Path(video).stem}-{Path(lifter).stem}.npz"]))
    return lines


def overview(results: dict[str, dict[str, Scores]]) -> list[str]:
    """Markdown of P-MPJPE: one row per clip, one column per lifter, the best in bold."""
    lifters = list(next(iter(results.values())))
    lines = ["| P-MPJPE, mm | " + " | ".join(lifters) + " |", "|---" * (len(lifters) + 1) + "|"]
    for clip, scores in results.items():
        best = min(scores[lifter].p_mpjpe for lifter in lifters)
        cells = [f"{scores[lifter].p_mpjpe:.1f}" for lifter in lifters]
        cells = [f"**{cell}**" if len(lifters) > 1 and cell == f"{best:.1f}" else cell for cell in cells]
        lines.append("| " + " | ".join([clip, *cells]) + " |")
    return lines


def details(results: dict[str, dict[str, Scores]]) -> list[str]:
    """Markdown of every figure: one row per clip and lifter."""
    lines = ["| clip | lifter | frames | missing | " + " | ".join(_FIGURES) + " |"]
    lines.append("|---" * (4 + len(_FIGURES)) + "|")
    for clip, scores in results.items():
        for lifter, score in scores.items():
            numbers = [f"{getattr(score, figure):.1f}" for figure in _FIGURES.values()]
            lines.append("| " + " | ".join([clip, lifter, str(score.frames), str(score.missing), *numbers]) + " |")
    return lines


if __name__ == "__main__":
    main()
