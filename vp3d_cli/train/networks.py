"""The networks of a run: one, or pose and trajectory side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vp3d_cli.errors import ConfigError
from vp3d_cli.lift.architectures import build_model
from vp3d_cli.lift.checkpoint import Task
from vp3d_cli.lift.input_rule import InputRule
from vp3d_cli.skeletons import get_skeleton
from vp3d_cli.train.config import LoopConfig, TrainConfig


class PoseAndTrajectory(nn.Module):
    """Two networks of one architecture that see the same windows and share no weights (Pavllo et al. 2019, section 4).

    Attributes:
        pose, trajectory: the networks.
        config: the architecture of both, but for what they answer.
    """

    def __init__(self, pose: nn.Module, trajectory: nn.Module) -> None:
        super().__init__()
        self.pose, self.trajectory = pose, trajectory
        self.config: Any = pose.config

    def forward_strided(self, inputs: Tensor, stride: int | None = None) -> Tensor:
        """(N, O, K + 1, 3): the joints, and the answer of the trajectory network as the last."""
        networks: tuple[Any, Any] = (self.pose, self.trajectory)
        return torch.cat([network.forward_strided(inputs, stride) for network in networks], dim=2)


def build_networks(config: TrainConfig, rule: InputRule) -> nn.Module:
    """Networks with fresh weights.

    Args:
        config: of the run.
        rule: input rule, with the skeletons of the data.

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
    """What is written after training: prefix of the file name, task and network."""
    if isinstance(model, PoseAndTrajectory):
        return {"": ("pose", model.pose), "trajectory-": ("trajectory", model.trajectory)}
    return {"": (config.model.task, model)}


def answer(model: Any, features: Tensor, loop: LoopConfig) -> Tensor:
    """(N, O, joints, 3). One output per window: everything is strided. More: what neighbours share is computed once."""
    predicted: Tensor = model.forward_strided(features, loop.stride if loop.outputs > 1 else None)
    return predicted
