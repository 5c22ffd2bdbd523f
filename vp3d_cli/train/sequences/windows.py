"""Batches out of views: every window of a data set once in each epoch, in an order that follows from the seed."""

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

# UnlabelledBatch windows are drawn in an order of their own.
_UNLABELLED_SEED = 500_000


class Reach(Protocol):
    """What a network sees around a frame."""

    @property
    def frames_before(self) -> int:
        """Frames before the output frame."""

    @property
    def frames_after(self) -> int:
        """Frames after it."""


class EpochOrder:
    """An endless stream of the numbers below ``count``: all of them in each epoch, each epoch in another order.

    The order of epoch e is ``torch.randperm`` from the seed ``seed * 1_000_003 + e``: where the stream goes on follows
    from the step alone, and nothing need be saved.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed
        self._orders: dict[int, Tensor] = {}

    def take(self, start: int, n: int) -> Tensor:
        """(n,) the numbers at places ``start`` and on."""
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


class _Windows:
    """Which windows a step takes, and which of them are mirrored; shared by both sources."""

    def __init__(self, views: ViewStore, reach: Reach, loop: LoopConfig, batch: int, seed: int) -> None:
        self._views, self._batch, self._flips = views, batch, loop.flips
        self._shape = (loop.outputs, loop.stride)
        self._around = (reach.frames_before, reach.frames_after + (loop.outputs - 1) * loop.stride)
        self._starts = views.starts(*self._shape)
        self._windows = len(views) if self._starts is None else len(self._starts)
        self.epoch = self._windows * (2 if loop.flips else 1)
        self._stream = EpochOrder(self.epoch, seed)

    def chosen(self, step: int) -> tuple[Tensor, Tensor]:
        """(N,) first output frames, and (N,) whether to mirror."""
        number = self._stream.take(step * self._batch, self._batch).to(self._views.device)
        return self._frames(number % self._windows), number >= self._windows

    def spread(self, windows: int) -> Tensor:
        """(<= windows,) first output frames, evenly over everything."""
        count = min(windows, self._windows)
        place = torch.arange(count, dtype=torch.float64) * (self._windows / count)
        return self._frames(place.long().to(self._views.device))

    def _frames(self, number: Tensor) -> Tensor:
        return number if self._starts is None else self._starts[number]


class LabelledWindows(_Windows):
    """Labelled windows of a data set.

    Args:
        views: with labels.
        rule: input rule.
        reach: of the network.
        loop: of the run.
        batch: windows per step.

    Attributes:
        epoch: windows of one pass: every frame and, with flips, its mirror image.
    """

    def __init__(self, views: ViewStore, rule: InputRule, reach: Reach, loop: LoopConfig, batch: int) -> None:
        super().__init__(views, reach, loop, batch, loop.seed)
        self._rule = rule

    def batch(self, step: int) -> Batch:
        """The windows of a step."""
        frames, mirrored = self.chosen(step)
        batch = self._views.labelled(frames, *self._around, *self._shape)
        if not self._flips:
            return batch
        order_2d, order_3d = (get_skeleton(s).flip_order for s in (self._rule.skeleton_2d, self._rule.skeleton_3d))
        across = torch.where(mirrored, -1.0, 1.0)[:, None]
        return Batch(
            _flip_some(batch.features, mirrored, order_2d),
            _flip_some(batch.joints, mirrored, order_3d),
            torch.cat([batch.root[..., :1] * across[..., None], batch.root[..., 1:]], dim=-1),
            torch.cat([batch.centre[..., :1] * across[..., None], batch.centre[..., 1:]], dim=-1),
            batch.spread,
        )

    def exam(self, outputs: int) -> Batch:
        """Windows of so many outputs in all, evenly over everything, as they were recorded."""
        frames = self.spread(max(1, outputs // self._shape[0]))
        return self._views.labelled(frames, *self._around, *self._shape)

    def state(self) -> Mapping[str, Any]:
        """Nothing: all follows from the step."""
        return {}


class UnlabelledWindows(_Windows):
    """UnlabelledBatch windows; arguments as of :class:`LabelledWindows`."""

    def __init__(self, views: ViewStore, rule: InputRule, reach: Reach, loop: LoopConfig, batch: int) -> None:
        super().__init__(views, reach, loop, batch, loop.seed + _UNLABELLED_SEED)
        self._order = get_skeleton(rule.skeleton_2d).flip_order

    def batch(self, step: int) -> UnlabelledBatch:
        """The windows of a step."""
        frames, mirrored = self.chosen(step)
        batch = self._views.unlabelled(frames, *self._around, *self._shape)
        return mirror_selected(batch, mirrored, self._order) if self._flips else batch

    def exam(self, windows: int) -> UnlabelledBatch:
        """At most so many windows, evenly over everything, as they were recorded."""
        return self._views.unlabelled(self.spread(windows), *self._around, *self._shape)


def mirror_selected(seen: UnlabelledBatch, mirrored: Tensor, flip_order: tuple[int, ...]) -> UnlabelledBatch:
    """Mirror chosen windows: what was seen, and the camera that saw it.

    Args:
        seen: windows.
        mirrored: (N,) which of them.
        flip_order: of the 2D skeleton.
    """
    across = torch.where(mirrored, -1.0, 1.0)
    lens, order = seen.lens, list(flip_order)
    width, chosen = lens.width[:, None, None], mirrored[:, None, None]
    keypoints = torch.where(chosen[..., None], seen.keypoints[:, :, order], seen.keypoints)
    x = torch.where(chosen, width - keypoints[..., 0], keypoints[..., 0])
    fx, fy, cx, cy = lens.intrinsics.unbind(-1)
    intrinsics = torch.stack([fx, fy, torch.where(mirrored, lens.width - cx, cx), cy], dim=-1)
    # In a mirror, x changes its sign: p2 goes with x * x, so it changes as well.
    k1, k2, p1, p2, k3 = lens.distortion.unbind(-1)
    rotations = seen.rotations
    if rotations is not None:
        one = torch.ones_like(across)
        mirror = torch.stack([across, one, one], dim=-1)[:, None]
        rotations = mirror[..., None] * rotations * mirror[..., None, :]
    return dataclasses.replace(
        seen,
        features=_flip_some(seen.features, mirrored, flip_order),
        keypoints=torch.stack([x, keypoints[..., 1]], dim=-1),
        scores=torch.where(chosen, seen.scores[:, :, order], seen.scores),
        centre=torch.cat([seen.centre[..., :1] * across[:, None, None], seen.centre[..., 1:]], dim=-1),
        rotations=rotations,
        lens=dataclasses.replace(
            lens, intrinsics=intrinsics, distortion=torch.stack([k1, k2, p1, p2 * across, k3], dim=-1)
        ),
    )


def _flip_some(values: Tensor, mirrored: Tensor, flip_order: tuple[int, ...]) -> Tensor:
    """Mirror chosen windows of (N, T, J, 2 or more), in place."""
    chosen = torch.nonzero(mirrored)[:, 0]
    values[chosen] = flip(values[chosen], flip_order)
    return values
