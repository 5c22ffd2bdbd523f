"""Test-time augmentation: average over the original, mirrored and reversed motion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from array_api_compat import array_namespace

from vp3d_cli.lift.checkpoint import LifterInfo
from vp3d_cli.lift.input_rule import flip
from vp3d_cli.skeletons import get_skeleton

Array = Any  # numpy.ndarray or torch.Tensor


def averaged(network: Callable[[Array], Array], features: Array, config: Any, info: LifterInfo) -> Array:
    """Average a network's predictions for the original and the mirrored motion.

    Source: Pavllo et al. 2019, section 5.

    A lifter that sees as far back as ahead, and was trained on motion that ran both ways (``rule.reversible``), is also
    run on the motion backwards, as it is and mirrored.

    Args:
        network: takes (B, T, J, F) and gives (B, O, K, 3): one pose for each frame, or for the middle one alone.
        features: (B, T, J, F) what a lifter sees, of numpy or torch.
        config: of the network's architecture.
        info: what the lifter's file says.

    Returns:
        (B, O, K, 3), of the same kind.
    """
    xp, rule, people = array_namespace(features), info.rule, features.shape[0]
    ways = [features, flip(features, get_skeleton(rule.skeleton_2d).flip_order)]
    both_ways = rule.reversible and config.frames_before == config.frames_after > 0
    if both_ways:
        ways += [xp.flip(way, axis=1) for way in ways]
    together = network(xp.concat(ways, axis=0))
    answers = [together[start : start + people] for start in range(0, len(ways) * people, people)]
    if both_ways:
        forwards, backwards = answers[:2], answers[2:]
        answers = [(ahead + xp.flip(back, axis=1)) / 2 for ahead, back in zip(forwards, backwards, strict=True)]
    order = get_skeleton(rule.skeleton_3d).flip_order if info.task == "pose" else (0,)
    return (answers[0] + flip(answers[1], order)) / 2
