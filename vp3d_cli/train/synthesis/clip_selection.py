"""Which clips a run trains on, which it is examined on, and what licence follows."""

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
    """Read the motions of a run.

    Returns:
        Clips to train on, clips held out, and the licences of all clips trained on, joined.

    Raises:
        InputError: a path cannot be read.
        ConfigError: nothing is left to train on, or nothing is held out.
    """
    clips: list[MotionClip] = []
    for path in config.motion:
        clips += read_motion(Path(path))
    if config.sources:
        unknown = set(config.sources) - {clip.source for clip in clips}
        if unknown:
            raise ConfigError(f"[data] sources: no clips of {', '.join(sorted(unknown))}")
        clips = [clip for clip in clips if clip.source in config.sources]
    training, held_out = split(clips, config.hold_out)
    training = labelled_clips(training, config.labelled)
    if not training or not held_out:
        raise ConfigError(
            f"[data] hold_out and labelled leave {len(training)} clips to train on and {len(held_out)} to validate on; "
            "both must be some"
        )
    return training, held_out, "; ".join(sorted({clip.licence for clip in training}))


def labelled_clips(clips: Sequence[MotionClip], labelled: float | str | tuple[str, ...]) -> list[MotionClip]:
    """Those clips that are trained on: a share of them, or those whose name matches a regular expression.

    A clip belongs to a share or not by its name alone: more clips, or another order, change nothing for it.

    Raises:
        ConfigError: not a regular expression.
    """
    if isinstance(labelled, float | int):
        return [clip for clip in clips if zlib.crc32(clip.name.encode()) < labelled * 2**32]
    return split(clips, (labelled,) if isinstance(labelled, str) else labelled, "labelled")[1]


def split(
    clips: Sequence[MotionClip], hold_out: Sequence[str], name: str = "hold_out"
) -> tuple[list[MotionClip], list[MotionClip]]:
    """Clips whose name matches none of the regular expressions, and those that match one.

    Args:
        clips: to divide.
        hold_out: the expressions.
        name: what they are called in ``[data]``.

    Raises:
        ConfigError: not a regular expression.
    """
    try:
        pattern = re.compile("|".join(f"(?:{expression})" for expression in hold_out) or r"(?!)")
    except re.error as error:
        raise ConfigError(f"[data] {name}: {error}") from error
    training = [clip for clip in clips if not pattern.search(clip.name)]
    return training, [clip for clip in clips if pattern.search(clip.name)]


def validation_settings(settings: EngineSettings) -> EngineSettings:
    """Held-out motions are examined as they were captured: bodies and cameras are random, poses are not invented."""
    return dataclasses.replace(settings, source_weights={}, recombined=0.0, spliced=0.0, turned=0.0, speed_sigma=0.0)
