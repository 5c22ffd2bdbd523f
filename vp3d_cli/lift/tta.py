"""Ask a lifter for the same motion in several ways, and average what it says (test-time augmentation)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vp3d_cli.lift.checkpoint import LifterInfo
from vp3d_cli.lift.input_rule import flip
from vp3d_cli.skeletons import get_skeleton


def averaged(network: Callable[[Tensor], Tensor], features: Tensor, config: Any, info: LifterInfo) -> Tensor:
    """The mean of a network's answers for motion as it is and mirrored (Pavllo et al. 2019, section 5).

    A lifter that sees as far back as ahead, and was trained on motion that ran both ways (``rule.reversible``), is also
    asked for the motion running backwards, as it is and mirrored.

    Args:
        network: of (B, T, J, F) makes (B, O, K, 3), one answer for each frame, or for the one in the middle alone.
        features: (B, T, J, F) what a lifter sees.
        config: of the network's architecture.
        info: what the lifter's file says.

    Returns:
        (B, O, K, 3).
    """
    rule = info.rule
    ways = [features, flip(features, get_skeleton(rule.skeleton_2d).flip_order)]
    both_ways = rule.reversible and config.frames_before == config.frames_after > 0
    if both_ways:
        ways += [way.flip(1) for way in ways]
    answers = list(network(torch.cat(ways)).chunk(len(ways)))
    if both_ways:
        answers = [(ahead + back.flip(1)) / 2 for ahead, back in zip(answers[:2], answers[2:], strict=True)]
    order = get_skeleton(rule.skeleton_3d).flip_order if info.task == "pose" else (0,)
    return (answers[0] + flip(answers[1], order)) / 2
