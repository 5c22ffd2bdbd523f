"""A pool of training windows, renewed a little at every step.

Making a window costs about as much as training on it, and a window may be used several times without harm where
millions are made. Every chunk of the pool is drawn from a seed of its own, so a pool can be rebuilt exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from vp3d_cli.lift.input_rule import InputRule, flip, normalize
from vp3d_cli.lift.skeleton_mapping import as_trained
from vp3d_cli.skeletons import get_skeleton
from vp3d_cli.train.batch import Batch
from vp3d_cli.train.config import LoopConfig
from vp3d_cli.train.synthesis.engine import DataEngine, Windows

__all__ = ["Batch", "SyntheticWindows", "WindowPool", "mirrored", "prepare"]

# Frames drawn at once: few enough for intermediate results to stay in the processor's cache.
CHUNK_FRAMES = 256 * 27


def prepare(windows: Windows, rule: InputRule, outputs: range, *, clean: bool = False) -> Batch:
    """Apply the input rule to windows and keep the labels of the output frames.

    Args:
        windows: from the data engine.
        rule: the lifter's input rule.
        outputs: the frames that the lifter answers for.
        clean: take exact keypoints with confidence 1 instead of simulated detections.
    """
    keypoints = windows.clean_keypoints if clean else windows.keypoints
    scores = torch.ones_like(windows.scores) if clean else windows.scores
    keypoints, scores = as_trained(keypoints, scores, rule)
    seen = normalize(keypoints, scores, windows.intrinsics[:, None], windows.size_wh[:, None], rule)
    frames = slice(outputs.start, outputs.stop, outputs.step)
    joints, root = windows.joints, windows.root[:, :, None]
    joints, root = seen.from_camera(joints)[:, frames], seen.from_camera(root)[:, frames, 0]
    return Batch(seen.features, joints, root, seen.centre[:, frames], seen.spread[:, frames])


class WindowPool:
    """Holds ``capacity`` windows, rounded up to whole chunks.

    Args:
        engine: draws windows.
        rule, outputs: see :func:`prepare`.
        capacity: windows held.
        seed: of the chunks.
        first_chunk: index of the first chunk that is held; a pool rebuilt with the value of :attr:`first_chunk` of
            another pool is equal to it.
    """

    def __init__(
        self,
        engine: DataEngine,
        rule: InputRule,
        outputs: range,
        capacity: int,
        seed: int,
        first_chunk: int = 0,
    ) -> None:
        self._engine, self._rule, self._outputs = engine, rule, outputs
        self._seed = seed
        self.chunk = max(1, CHUNK_FRAMES // engine.frames)
        self._chunks = -(-capacity // self.chunk)
        self.first_chunk = first_chunk
        slots = {}
        for chunk in range(first_chunk, first_chunk + self._chunks):
            slots[chunk % self._chunks] = self._make(chunk)
        parts = [slots[slot] for slot in range(self._chunks)]
        names = ("features", "joints", "root", "centre", "spread")
        self._windows = Batch(*(torch.cat([getattr(part, name) for part in parts]) for name in names))

    def __len__(self) -> int:
        return self._chunks * self.chunk

    def renew(self) -> None:
        """Replace the oldest chunk by a new one."""
        slot = self.first_chunk % self._chunks
        new = self._make(self.first_chunk + self._chunks)
        place = slice(slot * self.chunk, (slot + 1) * self.chunk)
        for name in ("features", "joints", "root", "centre", "spread"):
            getattr(self._windows, name)[place] = getattr(new, name)
        self.first_chunk += 1

    def sample(self, n: int, generator: torch.Generator) -> Batch:
        """Draw n windows evenly."""
        index = torch.randint(len(self), (n,), generator=generator, device=self._engine.device)
        return self._windows.select(index)

    def _make(self, chunk: int) -> Batch:
        self._engine.generator.manual_seed(self._seed * 1_000_003 + chunk)
        return prepare(self._engine.draw(self.chunk), self._rule, self._outputs)


class SyntheticWindows:
    """Batches of windows from motions without end.

    Args:
        engine: draws windows.
        rule, outputs: see :func:`prepare`.
        loop: of the run.
        batch: windows per step.
        state: of a source to go on from.
    """

    epoch: int | None = None

    def __init__(
        self,
        engine: DataEngine,
        rule: InputRule,
        outputs: range,
        loop: LoopConfig,
        batch: int,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self._rule, self._loop, self._batch = rule, loop, batch
        self._sampler = torch.Generator(engine.device).manual_seed(loop.seed)
        self._coin = torch.Generator()
        if state is not None:
            self._sampler.set_state(state["sampler"])
        first_chunk = state["first_chunk"] if state is not None else 0
        self._pool = WindowPool(engine, rule, outputs, loop.pool, loop.seed, first_chunk)

    def batch(self, step: int) -> Batch:
        """The windows of a step; every other batch, by chance, is mirrored."""
        for _ in range(self._chunks_due(step)):
            self._pool.renew()
        batch = self._pool.sample(self._batch, self._sampler)
        heads = torch.rand(1, generator=self._coin.manual_seed(step)).item() >= 0.5
        return mirrored(batch, self._rule) if heads and self._loop.flips else batch

    def state(self) -> Mapping[str, Any]:
        """Of the sampler and the pool."""
        return {"sampler": self._sampler.get_state(), "first_chunk": self._pool.first_chunk}

    def _chunks_due(self, step: int) -> int:
        """Chunks to renew before a step so that each window is used ``reuse`` times on average."""
        per_step = self._batch / (self._loop.reuse * self._pool.chunk)
        return int((step + 1) * per_step) - int(step * per_step)


def mirrored(batch: Batch, rule: InputRule) -> Batch:
    """Swap left and right: features and labels alike."""
    mirror = torch.tensor([-1.0, 1.0, 1.0], device=batch.root.device)
    return Batch(
        flip(batch.features, get_skeleton(rule.skeleton_2d).flip_order),
        flip(batch.joints, get_skeleton(rule.skeleton_3d).flip_order),
        batch.root * mirror,
        batch.centre * mirror[:2],
        batch.spread,
    )
