"""A prepared data set as views: who is trained on, who is tested on, and whose labels are not used."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vp3d_cli.errors import ConfigError, InputError
from vp3d_cli.lift.architectures import LifterConfig
from vp3d_cli.lift.input_rule import InputRule
from vp3d_cli.paper.datasets.cameras import DatasetCamera
from vp3d_cli.paper.datasets.sequences import Archives, RecordedSequence
from vp3d_cli.paper.datasets.splits import DATASETS
from vp3d_cli.train.config import DatasetConfig, TrainConfig
from vp3d_cli.train.data import Material, combined_material
from vp3d_cli.train.views.footage import open_footage
from vp3d_cli.train.views.sequences import LabelledSequences
from vp3d_cli.train.views.views import Camera, View, Views


@dataclass(frozen=True)
class DatasetViews:
    """What a run takes from a data set.

    Attributes:
        labelled, test: views with labels.
        unlabelled: views whose labels are not used.
        rule: the input rule, with the data set's skeletons and frame rate.
        licence: of models trained on it.
        notes: what the user should know, one sentence each.
    """

    labelled: list[View]
    test: list[View]
    unlabelled: list[View]
    rule: InputRule
    licence: str
    notes: list[str]


def open_dataset(config: TrainConfig) -> DatasetViews:
    """Read the archives of a data set and divide them.

    Raises:
        InputError: archives are missing or damaged, subjects are missing, joints or cameras do not fit.
        ConfigError: the configuration contradicts itself or the data set.
    """
    wanted, unlabelled = config.dataset, config.semi.subjects
    if wanted.name not in DATASETS:
        raise ConfigError(f"[dataset] name must be one of {', '.join(DATASETS)}, got {wanted.name!r}")
    option = "--set dataset.keypoints=NAME"
    archives = Archives(Path(wanted.folder), wanted.name, wanted.keypoints, cameras=wanted.cameras, option=option)
    spec = archives.spec
    train, test = wanted.train or spec.train, wanted.test or spec.test
    both = sorted(set(test) & {*train, *unlabelled})
    if both:
        raise ConfigError(f"[dataset] {', '.join(both)} would be trained and tested on; leave them out of one")
    archives.check_subjects((*train, *test, *unlabelled))
    labelled, rest = _divided(archives, train, wanted)
    without = [view for subject, view in rest if subject in unlabelled]
    without += _whole(archives, [subject for subject in unlabelled if subject not in train], wanted)
    result = DatasetViews(
        labelled,
        _whole(archives, test, wanted),
        [dataclasses.replace(view, joints=None) for view in without],
        dataclasses.replace(
            config.input,
            skeleton_2d=archives.keypoints.layout,
            skeleton_3d=spec.skeleton,
            rate_hz=spec.fps / wanted.downsample,
            reversible=False,
        ),
        f"trained on {spec.title}, whose own terms apply",
        archives.notes((*train, *test)),
    )
    _check(result, config)
    return result


def _whole(archives: Archives, subjects: Sequence[str], config: DatasetConfig) -> list[View]:
    """Every view of some subjects."""
    return [
        view
        for subject in subjects
        for sequence in archives.sequences(subject, config.actions)
        for view in _views(sequence, slice(None), config)
    ]


def _divided(
    archives: Archives, subjects: Sequence[str], config: DatasetConfig
) -> tuple[list[View], list[tuple[str, View]]]:
    """Views with labels, and (subject, view) of what lies outside the labelled share."""
    labelled: list[View] = []
    rest: list[tuple[str, View]] = []
    for subject in subjects:
        for sequence in archives.sequences(subject, config.actions):
            frames = len(sequence.joints)
            length = max(1, round(frames * config.subset))
            # Where the stretch begins is as good as random, but the same in every run.
            start = zlib.crc32(f"{subject}/{sequence.name}".encode()) % (frames - length + 1)
            labelled += _views(sequence, slice(start, start + length), config)
            for part in (slice(0, start), slice(start + length, frames)):
                if part.stop > part.start:
                    rest += [(subject, view) for view in _views(sequence, part, config)]
    return labelled, rest


def _views(sequence: RecordedSequence, part: slice, config: DatasetConfig) -> list[View]:
    every = slice(part.start, part.stop, config.downsample)
    own = sequence.joints[every]
    return [View(keypoints[every], _camera(camera), joints=own) for keypoints, camera in sequence.views]


def _camera(camera: DatasetCamera) -> Camera:
    return Camera(
        camera.intrinsics,
        camera.size_wh,
        camera.distortion,
        2.0 if camera.tangential == "opencv" else 1.0,
        camera.rotation,
        camera.translation,
    )


def _check(views: DatasetViews, config: TrainConfig) -> None:
    if not views.labelled or not views.test:
        actions = ", ".join(config.dataset.actions) or "any action"
        raise ConfigError(
            f"{config.dataset.folder}: of {actions} there are {len(views.labelled)} sequences to train on and "
            f"{len(views.test)} to test on; both must be some"
        )
    if config.semi.subjects and not views.unlabelled:
        raise ConfigError("[semi] subjects: nothing of them is unlabelled; add others, or lower dataset.subset")
    known = all(math.isfinite(value) for view in views.labelled for value in view.camera.intrinsics)
    if not known and (config.semi.on or config.model.task == "trajectory" or views.rule.normalization != "screen"):
        raise InputError(
            "the intrinsics of these cameras are not known, which a trajectory, back-projection and every input rule "
            "but screen need; give them with --set dataset.cameras=FILE"
        )


class DatasetData:
    """A prepared data set (:mod:`vp3d_cli.paper.training`)."""

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._views = open_dataset(config)
        self.rule, self.licence, self.notes = self._views.rule, self._views.licence, self._views.notes
        self._unlabelled = self._views.unlabelled
        if config.semi.footage:
            self._unlabelled = open_footage(config.semi.footage, self.rule)

    def material(self, reach: LifterConfig, device: str, state: Mapping[str, Any] | None) -> Material:
        """See :class:`Data`."""
        config, loop = self._config, self._config.train
        views = Views(self._views.labelled, self.rule, device)
        labelled = LabelledSequences(views, self.rule, reach, loop, config.labelled_batch)
        tested = LabelledSequences(Views(self._views.test, self.rule, device), self.rule, reach, loop, 1)
        exam = {"test": tested.exam(loop.validation_windows)}
        return combined_material(labelled, exam, self._unlabelled, self.rule, reach, config, device)
