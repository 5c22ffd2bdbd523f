"""Window pool: generated windows that are reused a few times, and replaced chunk by chunk.

Generating a window costs about as much as training on it, and reusing windows a few times does no harm when there are
millions. Every chunk of the pool is generated from a seed of its own, so a pool can be restored exactly.
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

# Frames generated at once on a CPU: few enough for intermediate results to stay in the processor's cache.
CHUNK_FRAMES = 256 * 27
# A GPU spends its time on launching kernels unless chunks are larger: up to so many times as many frames, in a fiftieth
# of its memory. A frame takes 3.6 kB on a CPU (363 frames, ray input); twice that leaves room for fragmentation.
_GPU_CHUNKS = 16
_GPU_SHARE = 1 / 50
_BYTES_PER_FRAME = 7200
# A pool has at least so many chunks on a GPU: it is renewed little by little.
_CHUNKS_PER_POOL = 8


def chunk_windows(frames: int, capacity: int, gpu_bytes: int | None) -> int:
    """Return how many windows to generate at once.

    Args:
        frames: frames of a window.
        capacity: windows of the pool.
        gpu_bytes: memory of the GPU; None for a CPU.
    """
    least = max(1, CHUNK_FRAMES // frames)
    if gpu_bytes is None:
        return least
    most = min(_GPU_CHUNKS * CHUNK_FRAMES, int(_GPU_SHARE * gpu_bytes / _BYTES_PER_FRAME))
    return max(least, min(most // frames, capacity // _CHUNKS_PER_POOL))


def gpu_memory(device: torch.device) -> int | None:
    """Return the memory of a GPU in bytes; None for other devices."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


def make_batch(windows: Windows, rule: InputRule, outputs: range, *, clean: bool = False) -> Batch:
    """Apply the input rule to generated windows, and select the labels of the output frames.

    Args:
        windows: generated windows.
        rule: input rule of the lifter.
        outputs: output frames of the lifter.
        clean: use exact keypoints with confidence 1 instead of simulated detections.
    """
    keypoints = windows.clean_keypoints if clean else windows.keypoints
    scores = torch.ones_like(windows.scores) if clean else windows.scores
    keypoints, scores = as_trained(keypoints, scores, rule)
    normalized = normalize(keypoints, scores, windows.intrinsics[:, None], windows.size_wh[:, None], rule)
    frames = slice(outputs.start, outputs.stop, outputs.step)
    joints, root = windows.joints, windows.root[:, :, None]
    joints, root = normalized.from_camera(joints)[:, frames], normalized.from_camera(root)[:, frames, 0]
    return Batch(normalized.features, joints, root, normalized.centre[:, frames], normalized.spread[:, frames])


class WindowPool:
    """Pool of generated windows.

    Args:
        engine: generator of windows.
        rule, outputs: see :func:`make_batch`.
        capacity: number of windows, rounded up to whole chunks.
        seed: seed of the chunks.
        first_chunk: index of the oldest chunk; a pool created with the :attr:`first_chunk` and :attr:`chunk` of another
            one is equal to it.
        chunk: windows generated at once; by default, what suits the device (:func:`chunk_windows`).
    """

    def __init__(
        self,
        engine: DataEngine,
        rule: InputRule,
        outputs: range,
        capacity: int,
        seed: int,
        first_chunk: int = 0,
        chunk: int | None = None,
    ) -> None:
        self._engine, self._rule, self._outputs = engine, rule, outputs
        self._seed = seed
        self.chunk = chunk or chunk_windows(engine.frames, capacity, gpu_memory(engine.device))
        self._chunks = -(-capacity // self.chunk)
        self.first_chunk = first_chunk
        slots = {}
        for index in range(first_chunk, first_chunk + self._chunks):
            slots[index % self._chunks] = self._make(index)
        parts = [slots[slot] for slot in range(self._chunks)]
        names = ("features", "joints", "root", "centre", "spread")
        self._windows = Batch(*(torch.cat([getattr(part, name) for part in parts]) for name in names))

    def __len__(self) -> int:
        return self._chunks * self.chunk

    def renew(self) -> None:
        """Replace the oldest chunk by a newly generated one."""
        slot = self.first_chunk % self._chunks
        new = self._make(self.first_chunk + self._chunks)
        place = slice(slot * self.chunk, (slot + 1) * self.chunk)
        for name in ("features", "joints", "root", "centre", "spread"):
            getattr(self._windows, name)[place] = getattr(new, name)
        self.first_chunk += 1

    def sample(self, n: int, generator: torch.Generator) -> Batch:
        """Draw n windows uniformly."""
        index = torch.randint(len(self), (n,), generator=generator, device=self._engine.device)
        return self._windows.select(index)

    def _make(self, chunk: int) -> Batch:
        self._engine.generator.manual_seed(self._seed * 1_000_003 + chunk)
        return make_batch(self._engine.draw(self.chunk), self._rule, self._outputs)


class SyntheticWindows:
    """Source of generated batches, see :class:`vp3d_cli.train.batch.BatchSource`.

    Args:
        engine: generator of windows.
        rule, outputs: see :func:`make_batch`.
        loop: configuration of the loop.
        batch: windows per step.
        state: state of the source to resume.
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
        self._flip_generator = torch.Generator()
        if state is not None:
            self._sampler.set_state(state["sampler"])
        first_chunk, chunk = 0, None
        if state is not None:  # states of versions with chunks of one size do not have it
            first_chunk, chunk = state["first_chunk"], state.get("chunk", max(1, CHUNK_FRAMES // engine.frames))
        self._pool = WindowPool(engine, rule, outputs, loop.pool, loop.seed, first_chunk, chunk)

    def batch(self, step: int) -> Batch:
        """Return the batch of a step; half of all batches, at random, are mirrored."""
        for _ in range(self._chunks_to_renew(step)):
            self._pool.renew()
        batch = self._pool.sample(self._batch, self._sampler)
        mirrored = torch.rand(1, generator=self._flip_generator.manual_seed(step)).item() >= 0.5
        return mirror_batch(batch, self._rule) if mirrored and self._loop.flips else batch

    def state(self) -> Mapping[str, Any]:
        """Return the state of the sampler and the pool."""
        return {"sampler": self._sampler.get_state(), "first_chunk": self._pool.first_chunk, "chunk": self._pool.chunk}

    def _chunks_to_renew(self, step: int) -> int:
        """Number of chunks to replace before a step, for ``reuse`` uses per window on average."""
        per_step = self._batch / (self._loop.reuse * self._pool.chunk)
        return int((step + 1) * per_step) - int(step * per_step)


def mirror_batch(batch: Batch, rule: InputRule) -> Batch:
    """Mirror all windows of a batch: features and labels."""
    mirror = torch.tensor([-1.0, 1.0, 1.0], device=batch.root.device)
    return Batch(
        flip(batch.features, get_skeleton(rule.skeleton_2d).flip_order),
        flip(batch.joints, get_skeleton(rule.skeleton_3d).flip_order),
        batch.root * mirror,
        batch.centre * mirror[:2],
        batch.spread,
    )
