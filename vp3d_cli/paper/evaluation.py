"""Evaluation on a data set with the paper's protocol (Pavllo et al. 2019, section 5).

Whole sequences of every camera are lifted, with the first and last frame repeated beyond the ends, and averaged with
the result for the mirrored sequence. Joints are relative to the root, in the axes of each camera. Errors are means over
the frames of an action, over all subjects and cameras (HumanEva-I: of each subject), and then means over the actions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vp3d_cli import metrics
from vp3d_cli.errors import InputError, WeightsError
from vp3d_cli.evaluate.scores import Scores, mean_scores, score_poses, score_roots
from vp3d_cli.lift.checkpoint import LifterInfo
from vp3d_cli.lift.lifter import Lifter
from vp3d_cli.lift.temporal import TemporalConfig
from vp3d_cli.paper.datasets.cameras import DatasetCamera
from vp3d_cli.paper.datasets.sequences import Archives, RecordedSequence, keypoints_in
from vp3d_cli.paper.datasets.specs import DATASETS, DatasetSpec, action_name, dataset_spec
from vp3d_cli.paper.published import Experiment, Published, published_for
from vp3d_cli.skeletons import get_skeleton
from vp3d_cli.types import DoubleArray, FloatArray

# Actions that the literature evaluates; on HumanEva-I, each subject separately (Pavllo et al. 2019, section 6.1).
_STANDARD_ACTIONS: dict[str, tuple[str, ...]] = {"human36m": (), "humaneva": ("Walking", "Jog", "Box")}
_BY_SUBJECT = ("humaneva",)
_MM = 1000.0

Report = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class DatasetProtocol:
    """Evaluation protocol: data set, keypoints, subjects and actions to evaluate on.

    Attributes:
        folder: folder of the archives.
        dataset: ``human36m`` or ``humaneva``; "" for the one with the joints of the lifter.
        keypoints: kind of keypoints, such as ``gt``; "" for those that the lifter was trained on.
        subjects: test subjects; the standard ones if empty.
        actions: prefixes of sequence names; those that the literature evaluates if empty.
        flip_test: use test-time augmentation (:mod:`vp3d_cli.lift.tta`).
        cameras: camera file to use instead of the bundled one.
    """

    folder: Path
    dataset: str = ""
    keypoints: str = ""
    subjects: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    flip_test: bool = True
    cameras: str = ""


@dataclass(frozen=True)
class DatasetResult:
    """Scores of a lifter on a data set.

    Attributes:
        scores: one for each action (HumanEva-I: each subject and action), and their mean as the last.
        keypoints: kind of keypoints that were used.
        notes: remarks for the user, one sentence each.
        published: published results of such a lifter.
    """

    scores: list[Scores]
    keypoints: str
    notes: list[str]
    published: Published | None


def evaluate_dataset(lifter: Lifter, protocol: DatasetProtocol, report: Report | None = None) -> DatasetResult:
    """Evaluate a lifter on a data set.

    N-MPJPE scales each pose separately (Rhodin et al. 2018). MPJVE is computed without alignment, per evaluated frame,
    and weighted by the length of the sequences, as in VideoPose3D.

    Args:
        lifter: pose lifter, or trajectory lifter, of which only the distance of the root is scored.
        protocol: evaluation protocol.
        report: called with ("lift", frames done, frames in all).

    Raises:
        InputError: archives or subjects are missing, archives are damaged, or joints or cameras do not fit.
        WeightsError: the lifter was trained on other joints.
    """
    protocol = dataclasses.replace(protocol, dataset=protocol.dataset or _dataset_of(lifter))
    spec = dataset_spec(protocol.dataset)
    keypoints = protocol.keypoints or _keypoints_of(lifter, protocol)
    archives = Archives(protocol.folder, protocol.dataset, keypoints, cameras=protocol.cameras)
    subjects = protocol.subjects or spec.test
    archives.check_subjects(subjects)
    _check_fits(lifter, archives)
    actions = protocol.actions or _STANDARD_ACTIONS[spec.name]
    sequences = [sequence for subject in subjects for sequence in archives.sequences(subject, actions)]
    if not sequences:
        raise InputError(
            f"{protocol.folder}: no sequences of {', '.join(subjects)} with {' or '.join(actions) or 'keypoints'}"
        )
    _check_cameras(lifter, sequences)
    total = sum(len(sequence.joints) * len(sequence.views) for sequence in sequences)
    done = 0
    cases: dict[str, list[_Prediction]] = {}
    for sequence in sequences:
        action = action_name(sequence.name)
        case = f"{sequence.subject.rpartition('/')[2]} {action}" if spec.name in _BY_SUBJECT else action
        for prediction in _predict(lifter, sequence, spec, protocol.flip_test):
            cases.setdefault(case, []).append(prediction)
        done += len(sequence.joints) * len(sequence.views)
        if report is not None:
            report("lift", done, total)
    scores = [_score(case, predictions, lifter) for case, predictions in _in_order(cases, spec).items()]
    notes = archives.notes(subjects) + _rate_notes(lifter, spec)
    usual = set(subjects) == set(spec.test) and set(actions) == set(_STANDARD_ACTIONS[spec.name])
    experiment = _experiment(lifter, protocol, keypoints) if usual else None
    known = None if experiment is None else published_for(experiment)
    if known is not None and experiment is not None and experiment.unlabelled:
        notes.append(f"{lifter.name}: its semi-supervised loss differs from the paper's, see docs/reproducing.md")
    return DatasetResult([*scores, mean_scores("mean", scores)], keypoints, notes, known)


@dataclass(frozen=True)
class _Prediction:
    """Prediction and truth of a view: (T, K, 3) relative joints or (T, 3) roots, metres."""

    predicted: FloatArray
    truth: FloatArray


def _predict(lifter: Lifter, sequence: RecordedSequence, spec: DatasetSpec, flip_test: bool) -> Iterator[_Prediction]:
    step = spec.fps / lifter.rule.rate_hz
    # Every Nth frame, as in the paper; at other frame rates, keypoints are interpolated.
    whole = abs(step - round(step)) < 1e-6
    joints = sequence.joints[:: round(step)] if whole else sequence.joints
    for keypoints, camera in sequence.views:
        inputs = (
            keypoints[:: round(step)]
            if whole
            else _interpolate(keypoints, np.arange(0, len(keypoints) - 1 + 1e-6, step))
        )
        predicted = lifter.lift_as_trained(
            np.ascontiguousarray(inputs, np.float32),
            np.ones(inputs.shape[:2], np.float32),
            camera.intrinsics,
            camera.size_wh,
            flip_test=flip_test,
        )
        if not whole:
            predicted = _interpolate(predicted, np.arange(len(joints)) / step)
        yield (
            _Prediction(predicted, _truth(joints, camera))
            if lifter.info.task == "pose"
            else _Prediction(predicted[:, 0], camera.to_camera(joints[:, 0]))
        )


def _truth(joints: FloatArray, camera: DatasetCamera) -> FloatArray:
    in_camera = camera.to_camera(joints)
    return in_camera - in_camera[:, :1]


def _interpolate(values: FloatArray, places: DoubleArray) -> FloatArray:
    """Interpolate (T, ...) linearly at fractional frames, constant beyond the ends."""
    places = np.clip(places, 0, len(values) - 1)
    low = np.minimum(places.astype(int), max(len(values) - 2, 0))
    share = (places - low).reshape(-1, *[1] * (values.ndim - 1)).astype(np.float32)
    return np.asarray(values[low] * (1 - share) + values[np.minimum(low + 1, len(values) - 1)] * share, np.float32)


def _score(case: str, predictions: list[_Prediction], lifter: Lifter) -> Scores:
    """Score an action; all frames of all subjects and cameras have equal weight."""
    predicted = np.concatenate([prediction.predicted for prediction in predictions])
    truth = np.concatenate([prediction.truth for prediction in predictions])
    if lifter.info.task == "trajectory":
        return score_roots(case, predicted, truth)
    scores = score_poses(case, predicted, truth, get_skeleton(lifter.rule.skeleton_3d).joints)
    moving = [prediction for prediction in predictions if len(prediction.truth) > 1]
    if not moving:
        return scores
    errors = [float(metrics.mpjve(prediction.predicted, prediction.truth).mean()) for prediction in moving]
    velocity = np.average(errors, weights=[len(prediction.truth) for prediction in moving])
    return dataclasses.replace(scores, mpjve=float(velocity) * _MM)


def _in_order(cases: Mapping[str, list[_Prediction]], spec: DatasetSpec) -> dict[str, list[_Prediction]]:
    """Sort cases by subject, and by the order of actions in the literature."""
    order = {action: place for place, action in enumerate(spec.actions)}

    def place(case: str) -> tuple[str, int, str]:
        subject, _, action = case.rpartition(" ")
        return subject, order.get(action, len(order)), action

    return {case: cases[case] for case in sorted(cases, key=place)}


def _dataset_of(lifter: Lifter) -> str:
    """Data set with the joints of a lifter; Human3.6M if there is none."""
    return next((name for name, spec in DATASETS.items() if spec.skeleton == lifter.rule.skeleton_3d), "human36m")


def _keypoints_of(lifter: Lifter, protocol: DatasetProtocol) -> str:
    """Keypoints that a lifter was trained on or, if unknown, the only kind in the folder."""
    trained = _trained_on(lifter.info)
    if trained.get("folder") and trained.get("name") == protocol.dataset:
        return str(trained["keypoints"])
    kinds = keypoints_in(protocol.folder, protocol.dataset)
    if len(kinds) > 1:
        raise InputError(
            f"{lifter.name} does not say which keypoints it was trained on; give --keypoints, one of {', '.join(kinds)}"
        )
    return kinds[0] if kinds else "gt"


def _check_fits(lifter: Lifter, archives: Archives) -> None:
    rule, spec, layout = lifter.rule, archives.spec, archives.keypoints.layout
    if rule.skeleton_3d != spec.skeleton:
        raise WeightsError(
            f"{lifter.name} predicts the joints of {rule.skeleton_3d}, but {spec.title} has those of "
            f"{spec.skeleton}; choose other --weights, or another --dataset"
        )
    if rule.skeleton_2d != layout:
        raise WeightsError(
            f"{lifter.name} was trained on keypoints of {rule.skeleton_2d}, but {archives.file_2d.name} has those of "
            f"{layout}; choose other --keypoints ({', '.join(keypoints_in(archives.folder, spec.name))}) or --weights"
        )


def _check_cameras(lifter: Lifter, sequences: list[RecordedSequence]) -> None:
    needed = lifter.rule.normalization != "screen" or (
        lifter.info.task == "trajectory" and lifter.info.root == "scaled"
    )
    for sequence in sequences if needed else ():
        for _, camera in sequence.views:
            if not all(map(math.isfinite, camera.intrinsics)):
                raise InputError(
                    f"{lifter.name} needs the intrinsics of the cameras, but {camera.name}'s ({sequence.subject}) "
                    "are not known; give them with --cameras FILE (docs/datasets.md)"
                )


def _rate_notes(lifter: Lifter, spec: DatasetSpec) -> list[str]:
    rate = lifter.rule.rate_hz
    step = spec.fps / rate
    if step == 1:
        return []
    if abs(step - round(step)) < 1e-6:
        return [f"{lifter.name} was trained at {rate:g} frames per second: every {round(step)}th frame is evaluated"]
    return [
        f"{lifter.name} was trained at {rate:g} frames per second, {spec.title} has {spec.fps:g}: keypoints are "
        "resampled to it, and predictions back"
    ]


def _trained_on(info: LifterInfo) -> Mapping[str, Any]:
    """``[dataset]`` of the training run of a lifter; empty if there was none."""
    trained = info.training.get("dataset")
    return trained if isinstance(trained, Mapping) else {}


def _experiment(lifter: Lifter, protocol: DatasetProtocol, keypoints: str) -> Experiment | None:
    """Experiment of the paper that a lifter reproduces; None if there is none."""
    info = lifter.info
    if info.task != "pose" or info.architecture != "temporal" or info.rule.normalization != "screen":
        return None
    frames, causal = TemporalConfig(**info.config).receptive_field, bool(info.config.get("causal"))
    known = Experiment(protocol.dataset, keypoints, frames, causal, protocol.flip_test)
    if "from" in info.training:  # an official checkpoint; semi-supervised ones do not say what was labelled
        return None if "semi" in str(info.training["from"]) else known
    trained, semi, loop = _trained_on(info), info.training.get("semi", {}), info.training.get("train", {})
    if not trained.get("folder") or trained["downsample"] != 1 or trained.get("actions") or not loop.get("flips"):
        return None
    everyone = dataset_spec(str(trained["name"])).train
    labelled = tuple(trained["train"]) or everyone
    if trained["subset"] != 1 or set(labelled) != set(everyone):
        known = dataclasses.replace(known, labels=f"{trained['subset']:g} of {','.join(sorted(labelled))}")
    if semi.get("unlabelled") or semi.get("footage"):  # footage: older lifter files
        return None
    return _with_unlabelled(known, semi, {*everyone} - {*labelled}) if semi.get("subjects") else known


def _with_unlabelled(known: Experiment, semi: Mapping[str, Any], others: set[str]) -> Experiment | None:
    """Semi-supervised experiment; None if it lacks subjects or losses that the paper has."""
    terms = semi.get("trajectory", 1.0) > 0 and semi.get("reprojection", 1.0) > 0
    if not terms or semi.get("placed_by", "trajectory") != "trajectory" or not others <= {*semi["subjects"]}:
        return None
    return dataclasses.replace(known, unlabelled=True, bones=semi.get("bone_lengths", 1.0) > 0)
