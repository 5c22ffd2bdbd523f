"""Batches of windows from views, with every window once in each epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from vp3d_cli.lift.input_rule import InputRule, flip
from vp3d_cli.skeletons import get_skeleton
from vp3d_cli.train.batch import Batch, UnlabelledBatch
from vp3d_cli.train.config import LoopConfig
from vp3d_cli.train.sequences.view import ViewStore

# Added to the seed for unlabelled windows, so that their order is independent of the labelled ones.
_UNLABELLED_SEED = 500_000


class ReceptiveField(Protocol):
    """Frames that a network sees around an output frame."""

    @property
    def frames_before(self) -> int:
        """Frames before the output frame."""

    @property
    def frames_after(self) -> int:
        """Frames after the output frame."""


class EpochOrder:
    """Endless stream of the numbers below ``count``, all in each epoch, shuffled anew.

    The order of epoch e is ``torch.randperm`` with the seed ``seed * 1_000_003 + e``. The position in the stream
    follows from the step alone, so no state needs to be saved.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed
        self._orders: dict[int, Tensor] = {}

    def take(self, start: int, n: int) -> Tensor:
        """(n,) numbers of the stream from position ``start`` on."""
        parts, end = [], start + n
        while start < end:
            epoch, place = divmod(start, self._count)
            part = self._order(epoch)[place : place + end - start]
            parts.append(part)
            start += len(part)
        return torch.cat(parts)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
            self._orders = {epoch: torch.randperm(self._count, generator=generator)}
        return self._orders[epoch]


class _WindowOrder:
    """Selection of the windows of each step, and of those that are mirrored."""

    def __init__(self, views: ViewStore, network: ReceptiveField, loop: LoopConfig, batch: int, seed: int) -> None:
        self._views, self._batch, self._flips = views, batch, loop.flips
        self._outputs = (loop.outputs, loop.stride)
        self._around = (network.frames_before, network.frames_after + (loop.outputs - 1) * loop.stride)
        self._starts = views.starts(*self._outputs)
        self._windows = len(views) if self._starts is None else len(self._starts)
        self.epoch = self._windows * (2 if loop.flips else 1)
        self._order = EpochOrder(self.epoch, seed)

    def chosen(self, step: int) -> tuple[Tensor, Tensor]:
        """(N,) first output frames of a step, and (N,) whether each window is mirrored."""
        number = self._order.take(step * self._batch, self._batch).to(self._views.device)
        return self._frames(number % self._windows), number >= self._windows

    def evenly_spaced(self, windows: int) -> Tensor:
        """(<= windows,) first output frames, evenly spaced over all views."""
        count = min(windows, self._windows)
        place = torch.arange(count, dtype=torch.float64) * (self._windows / count)
        return self._frames(place.long().to(self._views.device))

    def _frames(self, number: Tensor) -> Tensor:
        return number if self._starts is None else self._starts[number]


class LabelledWindows(_WindowOrder):
    """Source of labelled batches from views, see :class:`vp3d_cli.train.batch.BatchSource`.

    Args:
        views: views with labels.
        rule: input rule.
        network: receptive field of the network.
        loop: configuration of the loop.
        batch: windows per step.

    Attributes:
        epoch: windows in one pass: every frame and, with flips, its mirror image.
    """

    def __init__(
        self, views: ViewStore, rule: InputRule, network: ReceptiveField, loop: LoopConfig, batch: int
    ) -> None:
        super().__init__(views, network, loop, batch, loop.seed)
        self._rule = rule

    def batch(self, step: int) -> Batch:
        """Return the batch of a step."""
        frames, mirrored = self.chosen(step)
        batch = self._views.labelled(frames, *self._around, *self._outputs)
        if not self._flips:
            return batch
        order_2d, order_3d = (get_skeleton(s).flip_order for s in (self._rule.skeleton_2d, self._rule.skeleton_3d))
        sign = torch.where(mirrored, -1.0, 1.0)[:, None]
        return Batch(
            _flip_selected(batch.features, mirrored, order_2d),
            _flip_selected(batch.joints, mirrored, order_3d),
            torch.cat([batch.root[..., :1] * sign[..., None], batch.root[..., 1:]], dim=-1),
            torch.cat([batch.centre[..., :1] * sign[..., None], batch.centre[..., 1:]], dim=-1),
            batch.spread,
        )

    def validation_batch(self, outputs: int) -> Batch:
        """Return evenly spaced windows with at most so many outputs in all, not mirrored."""
        frames = self.evenly_spaced(max(1, outputs // self._outputs[0]))
        return self._views.labelled(frames, *self._around, *self._outputs)

    def state(self) -> Mapping[str, Any]:
        """Return an empty state, because everything follows from the step."""
        return {}


class UnlabelledWindows(_WindowOrder):
    """Source of unlabelled batches from views; arguments as for :class:`LabelledWindows`."""

    def __init__(
        self, views: ViewStore, rule: InputRule, network: ReceptiveField, loop: LoopConfig, batch: int
    ) -> None:
        super().__init__(views, network, loop, batch, loop.seed + _UNLABELLED_SEED)
        self._flip_order = get_skeleton(rule.skeleton_2d).flip_order

    def batch(self, step: int) -> UnlabelledBatch:
        """Return the batch of a step."""
        frames, mirrored = self.chosen(step)
        batch = self._views.unlabelled(frames, *self._around, *self._outputs)
        return mirror_selected(batch, mirrored, self._flip_order) if self._flips else batch

    def validation_batch(self, windows: int) -> UnlabelledBatch:
        """Return at most so many windows, evenly spaced over all views, not mirrored."""
        return self._views.unlabelled(self.evenly_spaced(windows), *self._around, *self._outputs)


def mirror_selected(batch: UnlabelledBatch, mirrored: Tensor, flip_order: tuple[int, ...]) -> UnlabelledBatch:
    """Mirror selected windows: keypoints, and the camera that saw them.

    Args:
        batch: unlabelled windows.
        mirrored: (N,) whether each window is mirrored.
        flip_order: joint order of the mirrored 2D skeleton.
    """
    sign = torch.where(mirrored, -1.0, 1.0)
    cameras, order = batch.cameras, list(flip_order)
    width, selected = cameras.width[:, None, None], mirrored[:, None, None]
    keypoints = torch.where(selected[..., None], batch.keypoints[:, :, order], batch.keypoints)
    x = torch.where(selected, width - keypoints[..., 0], keypoints[..., 0])
    fx, fy, cx, cy = cameras.intrinsics.unbind(-1)
    intrinsics = torch.stack([fx, fy, torch.where(mirrored, cameras.width - cx, cx), cy], dim=-1)
    # Mirroring changes the sign of x. The coefficient p2 belongs to x * x, so its sign changes as well.
    k1, k2, p1, p2, k3 = cameras.distortion.unbind(-1)
    distortion = torch.stack([k1, k2, p1, p2 * sign, k3], dim=-1)
    rotations = batch.rotations
    if rotations is not None:
        one = torch.ones_like(sign)
        mirror = torch.stack([sign, one, one], dim=-1)[:, None]
        rotations = mirror[..., None] * rotations * mirror[..., None, :]
    return dataclasses.replace(
        batch,
        features=_flip_selected(batch.features, mirrored, flip_order),
        keypoints=torch.stack([x, keypoints[..., 1]], dim=-1),
        scores=torch.where(selected, batch.scores[:, :, order], batch.scores),
        centre=torch.cat([batch.centre[..., :1] * sign[:, None, None], batch.centre[..., 1:]], dim=-1),
        rotations=rotations,
        cameras=dataclasses.replace(cameras, intrinsics=intrinsics, distortion=distortion),
    )


def _flip_selected(values: Tensor, mirrored: Tensor, flip_order: tuple[int, ...]) -> Tensor:
    """Mirror selected windows of (N, T, J, 2 or more), in place."""
    selected = torch.nonzero(mirrored)[:, 0]
    values[selected] = flip(values[selected], flip_order)
    return values
