"""What a run is made of: batches to train on, an examination, and what else follows from the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from vp3d_cli.lift.architectures import LifterConfig
from vp3d_cli.lift.input_rule import InputRule
from vp3d_cli.plugins import TRAINING_DATA
from vp3d_cli.train.batch import Batch, BatchSource, Unlabelled, UnlabelledSource
from vp3d_cli.train.config import TrainConfig
from vp3d_cli.train.synthesis.engine import DataEngine
from vp3d_cli.train.synthesis.pool import MotionSource, prepare
from vp3d_cli.train.synthesis.sources import load_clips, validation_settings
from vp3d_cli.train.views.footage import open_footage
from vp3d_cli.train.views.sequences import UnlabelledSequences
from vp3d_cli.train.views.views import View, Views


@dataclass(frozen=True)
class Material:
    """What the loop draws from.

    Attributes:
        labelled, unlabelled: batches; the latter None in supervised training.
        exam: labelled windows for validation, by name.
        seen: unlabelled ones.
    """

    labelled: BatchSource
    unlabelled: UnlabelledSource | None
    exam: Mapping[str, Batch]
    seen: Unlabelled | None


class Data(Protocol):
    """What was read, before the networks that see it are known."""

    rule: InputRule
    """The input rule; a data set brings its skeletons and its frame rate, and both say whether motion runs back."""
    licence: str
    """Of models trained on it."""
    notes: list[str]
    """What the user should know, one sentence each."""

    def material(self, reach: LifterConfig, device: str, state: Mapping[str, Any] | None) -> Material:
        """Make windows of it.

        Args:
            reach: what the networks see around a frame.
            device: where windows are made.
            state: of a run to go on with.
        """


def open_data(config: TrainConfig) -> Data:
    """Read what a run trains on.

    Raises:
        ConfigError, InputError: configuration or data are unusable.
    """
    data: Data = TRAINING_DATA.get("dataset" if config.dataset.folder else "motion")(config)
    return data


class MotionData:
    """Motions, of which the data engine makes windows (:mod:`vp3d_cli.train.synthesis.engine`)."""

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._training, self._held_out, self.licence = load_clips(config.data)
        self.rule, self.notes = replace(config.input, reversible=True), list[str]()
        self._footage = open_footage(config.semi.footage, self.rule) if config.semi.footage else []

    def material(self, reach: LifterConfig, device: str, state: Mapping[str, Any] | None) -> Material:
        """See :class:`Data`."""
        config, loop, settings = self._config, self._config.train, self._config.data.engine
        before, apart = reach.frames_before, (loop.outputs - 1) * loop.stride
        outputs = range(before, before + apart + 1, loop.stride)
        frames, middle = reach.receptive_field + apart, outputs[loop.outputs // 2]
        edges = self.rule.beyond_ends(reach.frames_after)
        engine = DataEngine(self._training, frames, self.rule.rate_hz, settings, device, 0, middle, edges)
        labelled = MotionSource(engine, self.rule, outputs, loop, config.labelled_batch, state)
        examiner = DataEngine(
            self._held_out, frames, self.rule.rate_hz, validation_settings(settings), device, 0, middle, edges
        )
        windows = examiner.draw(max(1, loop.validation_windows // loop.outputs))
        exam = {
            "clean": prepare(windows, self.rule, outputs, clean=True),
            "detected": prepare(windows, self.rule, outputs),
        }
        return combined_material(labelled, exam, self._footage, self.rule, reach, config, device)


def combined_material(
    labelled: BatchSource,
    exam: Mapping[str, Batch],
    unlabelled: list[View],
    rule: InputRule,
    reach: LifterConfig,
    config: TrainConfig,
    device: str,
) -> Material:
    """Put labelled windows, the validation set and unlabelled windows, if there are any, together."""
    if not unlabelled:
        return Material(labelled, None, exam, None)
    half = config.train.batch - config.labelled_batch
    source = UnlabelledSequences(Views(unlabelled, rule, device), rule, reach, config.train, half)
    seen = source.exam(max(1, config.train.validation_windows // config.train.outputs))
    return Material(labelled, source, exam, seen)
