"""Training data of a run: batch sources, validation windows and input rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from vp3d_cli.lift.architectures import LifterConfig
from vp3d_cli.lift.input_rule import InputRule
from vp3d_cli.plugins import TRAINING_DATA
from vp3d_cli.train.batch import Batch, BatchSource, UnlabelledBatch, UnlabelledSource
from vp3d_cli.train.config import TrainConfig
from vp3d_cli.train.sequences.unlabelled import read_unlabelled
from vp3d_cli.train.sequences.view import View, ViewStore
from vp3d_cli.train.sequences.windows import UnlabelledWindows
from vp3d_cli.train.synthesis.clip_selection import select_clips, validation_settings
from vp3d_cli.train.synthesis.engine import DataEngine
from vp3d_cli.train.synthesis.pool import SyntheticWindows, make_batch


@dataclass(frozen=True)
class BatchSources:
    """Sources of training batches, and the validation windows.

    Attributes:
        labelled: source of labelled batches.
        unlabelled: source of unlabelled batches; None in supervised training.
        validation: labelled validation windows by name.
        unlabelled_validation: unlabelled validation windows; None in supervised training.
    """

    labelled: BatchSource
    unlabelled: UnlabelledSource | None
    validation: Mapping[str, Batch]
    unlabelled_validation: UnlabelledBatch | None


class TrainingData(Protocol):
    """Training data that was read; windows are made once the networks' receptive field is known."""

    rule: InputRule
    """Input rule; a data set sets its skeletons and frame rate, and the data say whether motion can be reversed."""
    licence: str
    """Licence of models trained on the data."""
    notes: list[str]
    """Remarks for the user, one sentence each."""

    def batch_sources(self, network: LifterConfig, device: str, state: Mapping[str, Any] | None) -> BatchSources:
        """Create the batch sources and the validation windows.

        Args:
            network: architecture, for its receptive field.
            device: device on which windows are made.
            state: state of the run to resume.
        """


def open_data(config: TrainConfig) -> TrainingData:
    """Read the training data of a configuration.

    Raises:
        ConfigError, InputError: configuration or data are unusable.
    """
    data: TrainingData = TRAINING_DATA.get("dataset" if config.dataset.folder else "motion")(config)
    return data


class MotionData:
    """Training data generated from motion capture (:mod:`vp3d_cli.train.synthesis.engine`)."""

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._training, self._held_out, self.licence = select_clips(config.data)
        self.rule, self.notes = replace(config.input, reversible=True), list[str]()
        self._unlabelled = read_unlabelled(config.semi.unlabelled, self.rule) if config.semi.unlabelled else []

    def batch_sources(self, network: LifterConfig, device: str, state: Mapping[str, Any] | None) -> BatchSources:
        """Create the batch sources and the validation windows, see :class:`TrainingData`."""
        config, loop, settings = self._config, self._config.train, self._config.data.engine
        before, span = network.frames_before, (loop.outputs - 1) * loop.stride
        outputs = range(before, before + span + 1, loop.stride)
        frames, middle = network.receptive_field + span, outputs[loop.outputs // 2]
        edges, rate = self.rule.beyond_ends(network.frames_after), self.rule.rate_hz
        engine = DataEngine(self._training, frames, rate, settings, device, 0, middle, edges)
        labelled = SyntheticWindows(engine, self.rule, outputs, loop, config.labelled_batch, state)
        held_out = DataEngine(self._held_out, frames, rate, validation_settings(settings), device, 0, middle, edges)
        windows = held_out.draw(max(1, loop.validation_windows // loop.outputs))
        validation = {
            "clean": make_batch(windows, self.rule, outputs, clean=True),
            "detected": make_batch(windows, self.rule, outputs),
        }
        return with_unlabelled(labelled, validation, self._unlabelled, self.rule, network, config, device)


def with_unlabelled(
    labelled: BatchSource,
    validation: Mapping[str, Batch],
    unlabelled: list[View],
    rule: InputRule,
    network: LifterConfig,
    config: TrainConfig,
    device: str,
) -> BatchSources:
    """Combine labelled batches and validation windows with unlabelled views, if there are any."""
    if not unlabelled:
        return BatchSources(labelled, None, validation, None)
    half = config.train.batch - config.labelled_batch
    source = UnlabelledWindows(ViewStore(unlabelled, rule, device), rule, network, config.train, half)
    windows = max(1, config.train.validation_windows // config.train.outputs)
    return BatchSources(labelled, source, validation, source.validation_batch(windows))
