"""Evaluation on held-out motion capture seen by random cameras."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vp3d_cli.camera import to_rays
from vp3d_cli.errors import ConfigError
from vp3d_cli.evaluate.scores import Scores, mean_scores, score_motion, score_poses, score_roots
from vp3d_cli.lift.checkpoint import LifterInfo, load_lifter_file
from vp3d_cli.lift.input_rule import decode_root, normalize
from vp3d_cli.lift.lifter import Lifter
from vp3d_cli.lift.skeleton_mapping import as_trained, to_h36m17
from vp3d_cli.lift.tta import averaged
from vp3d_cli.pipeline.infer import lift_person
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.refine.bone_lengths import refine_bone_lengths
from vp3d_cli.refine.reprojection import refine_reprojection
from vp3d_cli.refine.trajectory import fit_trajectory
from vp3d_cli.skeletons import H36M17
from vp3d_cli.train.mocap.motion import MotionClip, read_motion
from vp3d_cli.train.synthesis.cameras import CameraRanges
from vp3d_cli.train.synthesis.clip_selection import split_clips, validation_settings
from vp3d_cli.train.synthesis.engine import DataEngine, EngineSettings, Windows
from vp3d_cli.types import FloatArray, Track2D
from vp3d_cli.weights import find_lifter

# Frames of every window before and after the output frame: those of the largest bundled model, so that models with
# smaller receptive fields are evaluated on the same windows.
_CONTEXT_FRAMES = 121
_SEED = 0
_WINDOWS_PER_CHUNK = 256
# Shots are generated at a frame rate that is a multiple of 24, 30 and 60.
_SHOT_RATE_HZ = 120.0
_SHOT_S = 4.0

Report = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class HeldOutMotion:
    """Held-out motion capture to evaluate on.

    Attributes:
        clips: clips that were held out of training.
        windows: number of windows to generate.
        group_by: regular expression for clip names, whose first group (or whole match) names the group of a clip; None
            to group by source. Clips that do not match are in no group.
        flip_test: use test-time augmentation, as inference does (:mod:`vp3d_cli.lift.tta`).
    """

    clips: Sequence[MotionClip]
    windows: int = 2048
    group_by: str | None = None
    flip_test: bool = True

    def groups(self) -> dict[str, list[int]]:
        """Return the indices of the clips of each group.

        Raises:
            ConfigError: the regular expression is invalid, or matches no clip.
        """
        groups: dict[str, list[int]] = {}
        try:
            pattern = None if self.group_by is None else re.compile(self.group_by)
        except re.error as error:
            raise ConfigError(f"{self.group_by!r} is not a regular expression: {error}") from error
        for index, clip in enumerate(self.clips):
            if pattern is None:
                groups.setdefault(clip.source, []).append(index)
            elif match := pattern.search(clip.name):
                groups.setdefault(match[1] if pattern.groups else match[0], []).append(index)
        if not groups:
            raise ConfigError(f"no clip's name matches {self.group_by!r}; the first is {self.clips[0].name!r}")
        return dict(sorted(groups.items()))


def held_out_clips(motion: Sequence[Path], lifters: Sequence[str], hold_out: Sequence[str] = ()) -> list[MotionClip]:
    """Read motion capture and select the clips that none of the lifters was trained on.

    Args:
        motion: files or folders.
        lifters: names or files; their metadata says which clips were held out.
        hold_out: regular expressions for clip names, which replace those of the lifters.

    Raises:
        InputError, WeightsError: motion or lifters cannot be read.
        ConfigError: a lifter does not say which clips were held out, or no clip is left.
    """
    clips = [clip for path in motion for clip in read_motion(path)]
    patterns = [list(hold_out)] if hold_out else [_held_out_of(name) for name in lifters]
    for pattern in patterns:
        clips = split_clips(clips, pattern)[1]
    if not clips:
        raise ConfigError("no motion is left that was held out of training; give --hold-out REGEX")
    return clips


def _held_out_of(lifter: str) -> list[str]:
    training = load_lifter_file(find_lifter(lifter)[0])[1].training
    hold_out = training.get("data", {}).get("hold_out")
    if not hold_out:
        raise ConfigError(f"{lifter} does not say what was held out of its training; give --hold-out REGEX")
    return [str(pattern) for pattern in hold_out]


def evaluate_windows(lifter: str, hold_out: HeldOutMotion, report: Report) -> list[Scores]:
    """Score single poses with exact keypoints and with simulated detections.

    Windows are generated as in training, without pose augmentation: sources have equal weights, rare poses are sampled
    more often, cameras and bodies are random. All lifters of one frame rate get the same windows. Poses are refined as
    in inference, by reprojection (:mod:`vp3d_cli.refine.reprojection`) and bone lengths
    (:mod:`vp3d_cli.refine.bone_lengths`). Each pose has its own scale (N-MPJPE of Rhodin et al. 2018).

    Returns:
        For exact keypoints ("clean") and for simulated detections ("detected"), the scores of all windows and then of
        each group.

    Raises:
        WeightsError: the lifter cannot be read.
        ConfigError: the groups are invalid.
    """
    model, info = load_lifter_file(find_lifter(lifter)[0])
    groups = hold_out.groups()
    predictions: dict[str, list[_Predictions]] = {"clean": [], "detected": []}
    done = 0
    for windows in _generate_windows(model.config, info, hold_out):
        for name, parts in predictions.items():
            parts.append(_predict(model, info, windows, name == "clean", hold_out.flip_test))
        done += len(windows.clips)
        report("lift", done, max(done, hold_out.windows))
    scores = []
    for name, parts in predictions.items():
        whole = _Predictions(
            np.concatenate([part.predicted for part in parts]),
            np.concatenate([part.truth for part in parts]),
            np.concatenate([part.clips for part in parts]),
        )
        scores.append(_score(name, whole, info))
        for group, members in groups.items():
            chosen = np.isin(whole.clips, members)
            if len(groups) > 1 and chosen.any():
                part = _Predictions(whole.predicted[chosen], whole.truth[chosen], whole.clips[chosen])
                scores.append(_score(f"{name}: {group}", part, info))
    return scores


class _Predictions(NamedTuple):
    """Prediction and truth of N windows, (N, 17, 3) or (N, 3) metres, and their clips (N,)."""

    predicted: FloatArray
    truth: FloatArray
    clips: NDArray[np.int64]


def _generate_windows(config: Any, info: LifterInfo, hold_out: HeldOutMotion) -> Iterator[Windows]:
    """Generate windows of the receptive field of a lifter, in chunks."""
    before, after = max(_CONTEXT_FRAMES, config.frames_before), max(_CONTEXT_FRAMES, config.frames_after)
    settings = validation_settings(EngineSettings())
    edges = info.rule.beyond_ends(config.frames_after)
    engine = DataEngine(hold_out.clips, before + 1 + after, info.rule.rate_hz, settings, "cpu", _SEED, before, edges)
    frames = slice(before - config.frames_before, before + config.frames_after + 1)
    for start in range(0, hold_out.windows, _WINDOWS_PER_CHUNK):
        whole = engine.draw(min(_WINDOWS_PER_CHUNK, hold_out.windows - start))
        yield Windows(
            whole.keypoints[:, frames],
            whole.scores[:, frames],
            whole.clean_keypoints[:, frames],
            whole.intrinsics,
            whole.size_wh,
            whole.joints[:, frames],
            whole.root[:, frames],
            whole.clips,
        )


@torch.inference_mode()
def _predict(model: Any, info: LifterInfo, windows: Windows, clean: bool, flip_test: bool) -> _Predictions:
    """Predict windows in camera axes, with the refinements of inference."""
    at = model.config.frames_before
    keypoints = windows.clean_keypoints if clean else windows.keypoints
    scores = torch.ones_like(windows.scores) if clean else windows.scores
    cameras = windows.intrinsics[:, None]
    normalized = normalize(*as_trained(keypoints, scores, info.rule), cameras, windows.size_wh[:, None], info.rule)
    network = model.forward_strided
    output = averaged(network, normalized.features, model.config, info) if flip_test else network(normalized.features)
    if info.task == "trajectory" and info.root == "scaled":
        output = decode_root(output[:, :, 0], normalized.centre[:, at, None], normalized.spread[:, at, None])[
            :, :, None
        ]
    in_camera = normalized.of_frame(at).to_camera(output[:, 0]).numpy()
    if info.task == "trajectory":
        return _Predictions(in_camera[:, 0], windows.root[:, at].numpy(), windows.clips.numpy())
    joints = to_h36m17(in_camera, info.rule.skeleton_3d)
    rays = to_rays(keypoints[:, at], cameras).numpy()  # each window has its own camera
    observations = (rays, scores[:, at].numpy(), (1.0, 1.0, 0.0, 0.0))
    joints, _ = refine_reprojection(joints, fit_trajectory(joints, *observations)[0], *observations)
    joints = np.concatenate([refine_bone_lengths(pose[None]) for pose in joints])  # each pose is of another person
    return _Predictions(joints, windows.joints[:, at].numpy(), windows.clips.numpy())


def _score(name: str, predictions: _Predictions, info: LifterInfo) -> Scores:
    predicted, truth, _ = predictions
    if info.task == "trajectory":
        return score_roots(name, predicted, truth)
    return score_poses(name, predicted, truth, H36M17.joints)


def evaluate_shots(
    lifter: str, hold_out: HeldOutMotion, rates_hz: Sequence[float], shots: int, settings: InferSettings, report: Report
) -> list[Scores]:
    """Score the pipeline on simulated detections of the same shots at several frame rates.

    A shot is four seconds of held-out motion seen by a static camera with known intrinsics. It is subsampled to each
    frame rate, then preprocessed, lifted and refined as in :func:`vp3d_cli.pipeline.api.infer`. Each shot has one
    scale.

    Args:
        lifter: name or file of a pose lifter.
        hold_out: held-out motion; its number of windows is not used.
        rates_hz: frames per second, at most 120.
        shots: number of shots.
        settings: smoothing and test-time augmentation.
        report: see :func:`vp3d_cli.pipeline.api.infer`.

    Returns:
        Mean scores over the shots for each rate.

    Raises:
        ConfigError: a rate is out of range.
    """
    for rate in rates_hz:
        if not 1 <= rate <= _SHOT_RATE_HZ:
            raise ConfigError(f"frame rates must be between 1 and {_SHOT_RATE_HZ:g}, got {rate:g}")
    path, name, sha256 = find_lifter(lifter)
    loaded = Lifter(path, "cpu", name=name, sha256=sha256)
    engine_settings = validation_settings(EngineSettings(cut=0.0, cameras=CameraRanges(intrinsics_error=0.0)))
    frames = round(_SHOT_RATE_HZ * _SHOT_S)
    engine = DataEngine(hold_out.clips, frames, _SHOT_RATE_HZ, engine_settings, "cpu", _SEED)
    drawn = engine.draw(shots)
    scores: dict[float, list[Scores]] = {rate: [] for rate in rates_hz}
    for shot in range(shots):
        for rate in rates_hz:
            kept = np.round(np.arange(0, frames, _SHOT_RATE_HZ / rate)).astype(int)
            scores[rate].append(_score_shot(drawn, shot, kept[kept < frames], loaded, settings))
        report("lift", shot + 1, shots)
    return [mean_scores(f"{rate:g} fps", parts) for rate, parts in scores.items()]


def _score_shot(drawn: Windows, shot: int, kept: NDArray[np.int_], lifter: Lifter, settings: InferSettings) -> Scores:
    times = kept / _SHOT_RATE_HZ
    keypoints: FloatArray = drawn.keypoints[shot].numpy()[kept]
    boxes = np.concatenate([keypoints.min(axis=1), keypoints.max(axis=1)], axis=-1)
    scores: FloatArray = drawn.scores[shot].numpy()[kept]
    track = Track2D(1, keypoints, scores, boxes, np.ones(scores.shape, bool))
    fx, fy, cx, cy = drawn.intrinsics[shot].tolist()
    width, height = drawn.size_wh[shot].tolist()
    motion = lift_person(track, times, lifter, (fx, fy, cx, cy), (round(width), round(height)), settings)
    return score_motion(
        f"shot {shot}",
        motion.joints,
        drawn.joints[shot].numpy()[kept],
        H36M17.joints,
        predicted_root=motion.root,
        truth_root=drawn.root[shot].numpy()[kept],
    )
