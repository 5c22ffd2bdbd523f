"""Networks of a training run, built anew or initialized from another lifter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vp3d_cli.errors import ConfigError, TrainingError
from vp3d_cli.lift.architectures import build_model
from vp3d_cli.lift.checkpoint import Task
from vp3d_cli.lift.input_rule import InputRule
from vp3d_cli.lift.temporal import TemporalConfig, TemporalModel
from vp3d_cli.skeletons import get_skeleton
from vp3d_cli.train.config import LoopConfig, TrainConfig

# Batch norm gain that a new level starts with: small, to keep what was learned, but not zero, because a block that is
# exactly zero before its ReLU has no gradient.
_NEW_LEVEL_GAIN = 0.1


class PoseAndTrajectory(nn.Module):
    """Pose and trajectory networks on the same windows (Pavllo et al. 2019, section 4).

    Attributes:
        pose, trajectory: the two networks, of one architecture.
        config: architecture of both, apart from the number of output joints.
    """

    def __init__(self, pose: nn.Module, trajectory: nn.Module) -> None:
        super().__init__()
        self.pose, self.trajectory = pose, trajectory
        self.config: Any = pose.config

    def forward_strided(self, inputs: Tensor, stride: int | None = None) -> Tensor:
        """(N, T, J, F) to (N, O, K + 1, 3): the joints, then the output of the trajectory network."""
        networks: tuple[Any, Any] = (self.pose, self.trajectory)
        return torch.cat([network.forward_strided(inputs, stride) for network in networks], dim=2)


def build_networks(config: TrainConfig, rule: InputRule) -> nn.Module:
    """Build the networks of a run with fresh weights.

    Args:
        config: configuration of the run.
        rule: input rule, with the skeletons of the data.

    Returns:
        One network, or :class:`PoseAndTrajectory` for semi-supervised training.

    Raises:
        ConfigError: the options do not fit the architecture, or contradict task and input rule.
    """
    if config.semi.on:
        return PoseAndTrajectory(_build(config, rule, "pose"), _build(config, rule, "trajectory"))
    return _build(config, rule, config.model.task)


def _build(config: TrainConfig, rule: InputRule, task: Task) -> nn.Module:
    fixed = {
        "in_joints": get_skeleton(rule.skeleton_2d).num_joints,
        "in_features": rule.features,
        "out_joints": get_skeleton(rule.skeleton_3d).num_joints if task == "pose" else 1,
    }
    clash = set(fixed) & set(config.model.options)
    if clash:
        raise ConfigError(f"[model.options] {', '.join(clash)} follow from task and input rule; leave them out")
    return build_model(config.model.architecture, {**config.model.options, **fixed})


def lifters(model: nn.Module, config: TrainConfig) -> Mapping[str, tuple[Task, nn.Module]]:
    """Lifters to save after training, by the prefix of their file name: task and network."""
    if isinstance(model, PoseAndTrajectory):
        return {"": ("pose", model.pose), "trajectory-": ("trajectory", model.trajectory)}
    return {"": (config.model.task, model)}


def predict(model: Any, features: Tensor, loop: LoopConfig) -> Tensor:
    """Run the network on windows: (N, T, J, F) to (N, O, joints, 3).

    One output per window uses the strided form; several outputs share what neighbours have in common.
    """
    predicted: Tensor = model.forward_strided(features, loop.stride if loop.outputs > 1 else None)
    return predicted


def initialize_from(model: nn.Module, source: nn.Module, name: str) -> None:
    """Copy the weights of another lifter into a model, in place.

    A temporal model may have more levels than its source, at any depth; :func:`match_levels` pairs them in order. New
    levels have residual connections and start close to the identity, so the longer model starts with the predictions
    of the shorter one. Of :class:`PoseAndTrajectory`, the pose network is initialized.

    Args:
        model: network whose weights are replaced.
        source: network whose weights are copied.
        name: name of the source, for the error message.

    Raises:
        TrainingError: a level or a weight has no counterpart, or another shape.
    """
    target = model.pose if isinstance(model, PoseAndTrajectory) else model
    ours, theirs = target.state_dict(), source.state_dict()
    new: list[int] = []
    if isinstance(target, TemporalModel) and isinstance(source, TemporalModel):
        levels = match_levels(source.config, target.config, name)
        theirs = {_renumbered(key, levels): value for key, value in theirs.items()}
        new = [level for level in range(len(target.config.widths)) if level not in levels]
    _check_shapes(ours, theirs, name)
    missing = [key for key in ours if key not in theirs and _level_of(key) not in new]
    if missing:
        raise TrainingError(f"cannot start from {name}: it has no {missing[0]}; use the same architecture")
    target.load_state_dict(theirs, strict=False)
    for level in new:
        # The batch norm at the end of the level.
        ours[f"layers_bn.{2 * level - 1}.weight"].fill_(_NEW_LEVEL_GAIN)


def match_levels(source: TemporalConfig, target: TemporalConfig, name: str) -> list[int]:
    """Match each level of the source to the first unused level of the target that has its width.

    The first levels read the keypoints and are always matched. A level wider than one frame must also keep the
    distance between the frames that it compares; otherwise it would see the motion at another speed.

    Args:
        source, target: architectures.
        name: name of the source, for the error message.

    Returns:
        Index of the target's level for each level of the source.

    Raises:
        TrainingError: a level of the source has no counterpart.
    """
    levels: list[int] = []
    for level, width in enumerate(source.widths):
        found = [
            ours
            for ours in range(levels[-1] + 1 if levels else 0, len(target.widths) if level else 1)
            if target.widths[ours] == width and (width == 1 or target.strides[ours] == source.strides[level])
        ]
        if not found:
            raise TrainingError(
                f"cannot start from {name}: level {level + 1} of its widths {list(source.widths)} has no counterpart "
                f"in {list(target.widths)}; model.options.widths must have theirs in order, and may have more: 1 "
                "after the first, wider ones after all of theirs that are wider than 1"
            )
        levels.append(found[0])
    return levels


def _check_shapes(ours: dict[str, Tensor], theirs: dict[str, Tensor], name: str) -> None:
    for key, value in theirs.items():
        if key not in ours or ours[key].shape != value.shape:
            raise TrainingError(
                f"cannot start from {name}: {key} is {tuple(value.shape)} there and "
                f"{tuple(ours[key].shape) if key in ours else 'missing'} here; use the same architecture and channels"
            )


def _level_of(key: str) -> int | None:
    """Level of a temporal model's weight; None for the first and the last layer."""
    kind, _, rest = key.partition(".")
    return int(rest.partition(".")[0]) // 2 + 1 if kind in ("layers_conv", "layers_bn") else None


def _renumbered(key: str, levels: Sequence[int]) -> str:
    """Name of a source's weight in the target, whose levels have other numbers."""
    level = _level_of(key)
    if level is None:
        return key
    kind, number, rest = key.split(".", 2)
    return f"{kind}.{int(number) + 2 * (levels[level] - level)}.{rest}"
