"""Evaluation on a prepared data set, exactly as the paper does it (Pavllo et al. 2019, section 5).

Whole sequences of every camera, whose ends see their first and last frame repeated; answers for the sequence and for
its mirror image averaged; joints relative to the root in the axes of each camera. Errors are means over the frames of
an action, all its subjects and cameras together (HumanEva-I: of each subject), and then means over the actions.
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
from vp3d_cli.paper.datasets.splits import DATASETS, DatasetSpec, action_name, dataset_spec
from vp3d_cli.paper.published import Experiment, Published, published_for
from vp3d_cli.skeletons import get_skeleton
from vp3d_cli.types import DoubleArray, FloatArray

# Of HumanEva-I the literature evaluates these, and each subject by itself (Pavllo et al. 2019, section 6.1).
_USUAL_ACTIONS: dict[str, tuple[str, ...]] = {"human36m": (), "humaneva": ("Walking", "Jog", "Box")}
_BY_SUBJECT = ("humaneva",)
_MM = 1000.0

Report = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class DatasetExam:
    """What lifters are examined on.

    Attributes:
        folder: of the archives.
        dataset: ``human36m`` or ``humaneva``; "" for the one whose joints the lifter answers with.
        keypoints: such as ``gt``; "" for those that the lifter was trained on.
        subjects: the data set's usual test subjects if empty.
        actions: only sequences whose names begin with one of these; what the literature evaluates if empty.
        flip_test: average over several ways to ask (:mod:`vp3d_cli.lift.tta`).
        cameras: file of cameras of your own.
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
    """How a lifter did.

    Attributes:
        scores: of each action (HumanEva-I: of each subject and action), and last of all their mean.
        keypoints: which ones it was shown.
        notes: what the user should know, one sentence each.
        published: what the literature reports of such a lifter.
    """

    scores: list[Scores]
    keypoints: str
    notes: list[str]
    published: Published | None


def evaluate_dataset(lifter: Lifter, exam: DatasetExam, report: Report | None = None) -> DatasetResult:
    """Examine a lifter on a data set.

    N-MPJPE scales each pose by itself (Rhodin et al. 2018); MPJVE is of poses as they are, per frame that is evaluated,
    and each sequence counts as much as it has frames, as in VideoPose3D.

    Args:
        lifter: of poses, or of the trajectory of the root: then its distance is all that is known.
        exam: on what.
        report: called with ("lift", frames done, frames in all).

    Raises:
        InputError: archives are missing or damaged, subjects are missing, joints or cameras do not fit.
        WeightsError: the lifter was trained on other joints than these.
    """
    exam = dataclasses.replace(exam, dataset=exam.dataset or _dataset_of(lifter))
    spec = dataset_spec(exam.dataset)
    keypoints = exam.keypoints or _keypoints_of(lifter, exam)
    archives = Archives(exam.folder, exam.dataset, keypoints, cameras=exam.cameras)
    subjects = exam.subjects or spec.test
    archives.check_subjects(subjects)
    _check_fits(lifter, archives)
    actions = exam.actions or _USUAL_ACTIONS[spec.name]
    sequences = [sequence for subject in subjects for sequence in archives.sequences(subject, actions)]
    if not sequences:
        raise InputError(f"{exam.folder}: nothing of {', '.join(subjects)} is {' or '.join(actions) or 'to be seen'}")
    _check_cameras(lifter, sequences)
    total = sum(len(sequence.joints) * len(sequence.views) for sequence in sequences)
    done = 0
    cases: dict[str, list[_Answer]] = {}
    for sequence in sequences:
        action = action_name(sequence.name)
        case = f"{sequence.subject.rpartition('/')[2]} {action}" if spec.name in _BY_SUBJECT else action
        for answer in _answers(lifter, sequence, spec, exam.flip_test):
            cases.setdefault(case, []).append(answer)
        done += len(sequence.joints) * len(sequence.views)
        if report is not None:
            report("lift", done, total)
    scores = [_score(case, answers, lifter) for case, answers in _in_order(cases, spec).items()]
    notes = archives.notes(subjects) + _rate_notes(lifter, spec)
    usual = set(subjects) == set(spec.test) and set(actions) == set(_USUAL_ACTIONS[spec.name])
    experiment = _experiment(lifter, exam, keypoints) if usual else None
    known = None if experiment is None else published_for(experiment)
    if known is not None and experiment is not None and experiment.unlabelled:
        notes.append(f"{lifter.name}: its semi-supervised loss is not quite the paper's, see docs/reproducing.md")
    return DatasetResult([*scores, mean_scores("mean", scores)], keypoints, notes, known)


@dataclass(frozen=True)
class _Answer:
    """What a lifter said of one view: (T, K, 3) root-relative joints or (T, 3) roots, camera axes, metres."""

    predicted: FloatArray
    truth: FloatArray


def _answers(lifter: Lifter, sequence: RecordedSequence, spec: DatasetSpec, flip_test: bool) -> Iterator[_Answer]:
    step = spec.fps / lifter.rule.rate_hz
    # Whole frames are taken, as the paper does; at other rates, what lies between two frames.
    whole = abs(step - round(step)) < 1e-6
    joints = sequence.joints[:: round(step)] if whole else sequence.joints
    for keypoints, camera in sequence.views:
        seen = keypoints[:: round(step)] if whole else _at(keypoints, np.arange(0, len(keypoints) - 1 + 1e-6, step))
        answer = lifter.lift_as_trained(
            np.ascontiguousarray(seen, np.float32),
            np.ones(seen.shape[:2], np.float32),
            camera.intrinsics,
            camera.size_wh,
            flip_test=flip_test,
        )
        if not whole:
            answer = _at(answer, np.arange(len(joints)) / step)
        yield (
            _Answer(answer, _truth(joints, camera))
            if lifter.info.task == "pose"
            else _Answer(answer[:, 0], camera.to_camera(joints[:, 0]))
        )


def _truth(joints: FloatArray, camera: DatasetCamera) -> FloatArray:
    placed = camera.to_camera(joints)
    return placed - placed[:, :1]


def _at(values: FloatArray, places: DoubleArray) -> FloatArray:
    """Values (T, ...) at fractional frames, by straight lines; beyond the ends, as at the ends."""
    places = np.clip(places, 0, len(values) - 1)
    low = np.minimum(places.astype(int), max(len(values) - 2, 0))
    share = (places - low).reshape(-1, *[1] * (values.ndim - 1)).astype(np.float32)
    return np.asarray(values[low] * (1 - share) + values[np.minimum(low + 1, len(values) - 1)] * share, np.float32)


def _score(case: str, answers: list[_Answer], lifter: Lifter) -> Scores:
    """Score an action: every frame counts the same, of whomever and from wherever it is."""
    predicted = np.concatenate([answer.predicted for answer in answers])
    truth = np.concatenate([answer.truth for answer in answers])
    if lifter.info.task == "trajectory":
        return score_roots(case, predicted, truth)
    scores = score_poses(case, predicted, truth, get_skeleton(lifter.rule.skeleton_3d).joints)
    moving = [answer for answer in answers if len(answer.truth) > 1]
    if not moving:
        return scores
    errors = [float(metrics.mpjve(answer.predicted, answer.truth).mean()) for answer in moving]
    velocity = np.average(errors, weights=[len(answer.truth) for answer in moving])
    return dataclasses.replace(scores, mpjve=float(velocity) * _MM)


def _in_order(cases: Mapping[str, list[_Answer]], spec: DatasetSpec) -> dict[str, list[_Answer]]:
    """Actions as the literature lists them, subjects apart."""
    order = {action: place for place, action in enumerate(spec.actions)}

    def place(case: str) -> tuple[str, int, str]:
        subject, _, action = case.rpartition(" ")
        return subject, order.get(action, len(order)), action

    return {case: cases[case] for case in sorted(cases, key=place)}


def _dataset_of(lifter: Lifter) -> str:
    """The data set with the joints that a lifter answers with; Human3.6M if there is none."""
    return next((name for name, spec in DATASETS.items() if spec.skeleton == lifter.rule.skeleton_3d), "human36m")


def _keypoints_of(lifter: Lifter, exam: DatasetExam) -> str:
    """The keypoints that a lifter was trained on or, if it does not say, the only ones that there are."""
    trained = _trained_on(lifter.info)
    if trained.get("folder") and trained.get("name") == exam.dataset:
        return str(trained["keypoints"])
    kinds = keypoints_in(exam.folder, exam.dataset)
    if len(kinds) > 1:
        raise InputError(
            f"{lifter.name} does not say which keypoints it was trained on; give --keypoints, one of {', '.join(kinds)}"
        )
    return kinds[0] if kinds else "gt"


def _check_fits(lifter: Lifter, archives: Archives) -> None:
    rule, spec, layout = lifter.rule, archives.spec, archives.keypoints.layout
    if rule.skeleton_3d != spec.skeleton:
        raise WeightsError(
            f"{lifter.name} answers with the joints of {rule.skeleton_3d}, but {spec.title} has those of "
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
        "resampled for it, and its answers back"
    ]


def _trained_on(info: LifterInfo) -> Mapping[str, Any]:
    """The ``[dataset]`` of the run that made it; empty if there was none."""
    trained = info.training.get("dataset")
    return trained if isinstance(trained, Mapping) else {}


def _experiment(lifter: Lifter, exam: DatasetExam, keypoints: str) -> Experiment | None:
    """Which of the paper's experiments a lifter is from; None if it is from none of them."""
    info = lifter.info
    if info.task != "pose" or info.architecture != "temporal" or info.rule.normalization != "screen":
        return None
    frames, causal = TemporalConfig(**info.config).receptive_field, bool(info.config.get("causal"))
    known = Experiment(exam.dataset, keypoints, frames, causal, exam.flip_test)
    if "from" in info.training:  # an official checkpoint; of a semi-supervised one nobody knows what was labelled
        return None if "semi" in str(info.training["from"]) else known
    trained, semi, loop = _trained_on(info), info.training.get("semi", {}), info.training.get("train", {})
    if not trained.get("folder") or trained["downsample"] != 1 or trained.get("actions") or not loop.get("flips"):
        return None
    everyone = dataset_spec(str(trained["name"])).train
    labelled = tuple(trained["train"]) or everyone
    if trained["subset"] != 1 or set(labelled) != set(everyone):
        known = dataclasses.replace(known, labels=f"{trained['subset']:g} of {','.join(sorted(labelled))}")
    if semi.get("footage"):
        return None
    return _with_unlabelled(known, semi, {*everyone} - {*labelled}) if semi.get("subjects") else known


def _with_unlabelled(known: Experiment, semi: Mapping[str, Any], others: set[str]) -> Experiment | None:
    """The same in semi-supervised training; None if that was not on all others, or left out what the paper has."""
    terms = semi.get("trajectory", 1.0) > 0 and semi.get("reprojection", 1.0) > 0
    if not terms or semi.get("placed_by", "trajectory") != "trajectory" or not others <= {*semi["subjects"]}:
        return None
    return dataclasses.replace(known, unlabelled=True, bones=semi.get("bone_lengths", 1.0) > 0)
