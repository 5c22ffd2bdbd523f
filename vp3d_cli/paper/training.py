"""Training data from a prepared data set."""

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
from vp3d_cli.paper.datasets.specs import DATASETS
from vp3d_cli.train.config import DatasetConfig, TrainConfig
from vp3d_cli.train.data import BatchSources, with_unlabelled
from vp3d_cli.train.sequences.unlabelled import read_unlabelled
from vp3d_cli.train.sequences.view import Camera, View, ViewStore
from vp3d_cli.train.sequences.windows import LabelledWindows


@dataclass(frozen=True)
class DatasetViews:
    """Views of a data set, divided for a training run.

    Attributes:
        labelled, test: views with labels, for training and for validation.
        unlabelled: views without labels.
        rule: input rule, with the skeletons and the frame rate of the data set.
        licence: licence of models trained on the data set.
        notes: remarks for the user, one sentence each.
    """

    labelled: list[View]
    test: list[View]
    unlabelled: list[View]
    rule: InputRule
    licence: str
    notes: list[str]


class DatasetData:
    """Training data of a prepared data set, see :class:`vp3d_cli.train.data.TrainingData`."""

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._views = read_dataset(config)
        self.rule, self.licence, self.notes = self._views.rule, self._views.licence, self._views.notes
        self._unlabelled = self._views.unlabelled
        if config.semi.unlabelled:
            self._unlabelled = read_unlabelled(config.semi.unlabelled, self.rule)

    def batch_sources(self, network: LifterConfig, device: str, state: Mapping[str, Any] | None) -> BatchSources:
        """Create the batch sources and the validation windows."""
        config, loop = self._config, self._config.train
        views = ViewStore(self._views.labelled, self.rule, device)
        labelled = LabelledWindows(views, self.rule, network, loop, config.labelled_batch)
        test = LabelledWindows(ViewStore(self._views.test, self.rule, device), self.rule, network, loop, 1)
        validation = {"test": test.validation_batch(loop.validation_windows)}
        return with_unlabelled(labelled, validation, self._unlabelled, self.rule, network, config, device)


def read_dataset(config: TrainConfig) -> DatasetViews:
    """Read the archives of a data set and divide them into views.

    Raises:
        InputError: archives or subjects are missing, archives are damaged, or joints or cameras do not fit.
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
    labelled, rest = _labelled_and_rest(archives, train, wanted)
    without_labels = [view for subject, view in rest if subject in unlabelled]
    without_labels += _all_views(archives, [subject for subject in unlabelled if subject not in train], wanted)
    result = DatasetViews(
        labelled,
        _all_views(archives, test, wanted),
        [dataclasses.replace(view, joints=None) for view in without_labels],
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


def _all_views(archives: Archives, subjects: Sequence[str], config: DatasetConfig) -> list[View]:
    """Every view of some subjects."""
    return [
        view
        for subject in subjects
        for sequence in archives.sequences(subject, config.actions)
        for view in _views(sequence, slice(None), config)
    ]


def _labelled_and_rest(
    archives: Archives, subjects: Sequence[str], config: DatasetConfig
) -> tuple[list[View], list[tuple[str, View]]]:
    """Views with labels, and (subject, view) of the parts outside the labelled share."""
    labelled: list[View] = []
    rest: list[tuple[str, View]] = []
    for subject in subjects:
        for sequence in archives.sequences(subject, config.actions):
            frames = len(sequence.joints)
            length = max(1, round(frames * config.subset))
            # A pseudo-random start that is the same in every run.
            start = zlib.crc32(f"{subject}/{sequence.name}".encode()) % (frames - length + 1)
            labelled += _views(sequence, slice(start, start + length), config)
            for part in (slice(0, start), slice(start + length, frames)):
                if part.stop > part.start:
                    rest += [(subject, view) for view in _views(sequence, part, config)]
    return labelled, rest


def _views(sequence: RecordedSequence, part: slice, config: DatasetConfig) -> list[View]:
    every = slice(part.start, part.stop, config.downsample)
    joints = sequence.joints[every]
    return [View(keypoints[every], _camera(camera), joints=joints) for keypoints, camera in sequence.views]


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
            f"{len(views.test)} to test on; each needs at least one"
        )
    if config.semi.subjects and not views.unlabelled:
        raise ConfigError("[semi] subjects: all their data is labelled; add other subjects, or lower dataset.subset")
    known = all(math.isfinite(value) for view in views.labelled for value in view.camera.intrinsics)
    if not known and (config.semi.on or config.model.task == "trajectory" or views.rule.normalization != "screen"):
        raise InputError(
            "the intrinsics of these cameras are not known, but trajectory, reprojection and all input rules except "
            "screen need them; give them with --set dataset.cameras=FILE"
        )
