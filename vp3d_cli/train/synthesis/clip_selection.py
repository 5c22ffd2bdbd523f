"""Selection of the clips for training and validation, and the resulting licence."""

from __future__ import annotations

import dataclasses
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

from vp3d_cli.errors import ConfigError
from vp3d_cli.train.config import DataConfig
from vp3d_cli.train.mocap.motion import MotionClip, read_motion
from vp3d_cli.train.synthesis.engine import EngineSettings


def select_clips(config: DataConfig) -> tuple[list[MotionClip], list[MotionClip], str]:
    """Read the motion capture of a run and select the clips for training and validation.

    Returns:
        Training clips, held-out clips, and the licences of all training clips, joined.

    Raises:
        InputError: a path cannot be read.
        ConfigError: no clip is left for training or for validation.
    """
    clips: list[MotionClip] = []
    for path in config.motion:
        clips += read_motion(Path(path))
    if config.sources:
        unknown = set(config.sources) - {clip.source for clip in clips}
        if unknown:
            raise ConfigError(f"[data] sources: no clips of {', '.join(sorted(unknown))}")
        clips = [clip for clip in clips if clip.source in config.sources]
    training, held_out = split_clips(clips, config.hold_out)
    training = labelled_clips(training, config.labelled)
    if not training or not held_out:
        raise ConfigError(
            f"[data] hold_out and labelled leave {len(training)} clips for training and {len(held_out)} for "
            "validation, but each needs one"
        )
    return training, held_out, "; ".join(sorted({clip.licence for clip in training}))


def labelled_clips(clips: Sequence[MotionClip], labelled: float | str | tuple[str, ...]) -> list[MotionClip]:
    """Select training clips: a share of all, or those whose name matches a regular expression.

    The share is selected by clip name alone, so that more clips or another order do not change the selection.

    Raises:
        ConfigError: an expression is not a valid regular expression.
    """
    if isinstance(labelled, float | int):
        return [clip for clip in clips if zlib.crc32(clip.name.encode()) < labelled * 2**32]
    return split_clips(clips, (labelled,) if isinstance(labelled, str) else labelled, "labelled")[1]


def split_clips(
    clips: Sequence[MotionClip], hold_out: Sequence[str], name: str = "hold_out"
) -> tuple[list[MotionClip], list[MotionClip]]:
    """Split clips into those whose name matches no regular expression, and the others.

    Args:
        clips: clips to split.
        hold_out: regular expressions.
        name: key of the expressions in ``[data]``, for the error message.

    Raises:
        ConfigError: an expression is not a valid regular expression.
    """
    try:
        pattern = re.compile("|".join(f"(?:{expression})" for expression in hold_out) or r"(?!)")
    except re.error as error:
        raise ConfigError(f"[data] {name}: invalid regular expression: {error}") from error
    training = [clip for clip in clips if not pattern.search(clip.name)]
    return training, [clip for clip in clips if pattern.search(clip.name)]


def validation_settings(settings: EngineSettings) -> EngineSettings:
    """Settings for validation windows: random bodies and cameras, poses as captured."""
    return dataclasses.replace(settings, source_weights={}, recombined=0.0, spliced=0.0, turned=0.0, speed_sigma=0.0)
