"""A pool of training windows, renewed a little at every step.

Making a window costs about as much as training on it, and a window may be used several times without harm where
millions are made. Every chunk of the pool is drawn from a seed of its own, so a pool can be rebuilt exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vp3d_cli.normalize import InputRule, normalize
from vp3d_cli.train.engine import DataEngine, Windows

# Frames drawn at once: few enough for intermediate results to stay in the processor's cache.
CHUNK_FRAMES = 256 * 27


@dataclass(frozen=True)
class Batch:
    """Windows as the network sees them; N windows, T frames, O output frames.

    Attributes:
        features: (N, T, J, 2 or 3).
        joints: (N, O, 17, 3) root-relative joints, answer axes, metres.
        root: (N, O, 3) root joint, answer axes, metres.
        centre, spread: (N, O, 2) and (N, O), for :func:`vp3d_cli.normalize.decode_root`.
    """

    features: Tensor
    joints: Tensor
    root: Tensor
    centre: Tensor
    spread: Tensor

    def select(self, index: Tensor | slice) -> Batch:
        """The windows with these indices."""
        fields = (self.features, self.joints, self.root, self.centre, self.spread)
        return Batch(*(values[index] for values in fields))


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
