"""The window pool: chunks of any size give the same distribution, and a pool can be restored."""

from __future__ import annotations

import pytest
import torch

from tests.motions import write_archive
from vp3d_cli.lift.input_rule import InputRule
from vp3d_cli.train.batch import Batch
from vp3d_cli.train.config import LoopConfig
from vp3d_cli.train.mocap.motion import MotionClip, read_motion
from vp3d_cli.train.synthesis.engine import DataEngine
from vp3d_cli.train.synthesis.pool import CHUNK_FRAMES, SyntheticWindows, WindowPool, chunk_windows

FRAMES = 9
RULE = InputRule(normalization="ray")
GIB = 1 << 30


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[MotionClip]:
    return read_motion(write_archive(tmp_path_factory.mktemp("motion") / "motion.npz"))


def pool_of(clips: list[MotionClip], chunk: int, capacity: int = 4096, seed: int = 1) -> WindowPool:
    return WindowPool(DataEngine(clips, FRAMES, 30.0), RULE, range(4, 5), capacity, seed, 0, chunk)


def everything(pool: WindowPool) -> Batch:
    return pool._windows


@pytest.mark.parametrize("frames", [27, 363, 10_000])
def test_a_cpu_generates_what_its_cache_holds(frames: int) -> None:
    assert chunk_windows(frames, 24576, None) == max(1, CHUNK_FRAMES // frames)


def test_a_gpu_generates_more_at_once_as_its_memory_allows() -> None:
    assert chunk_windows(363, 24576, None) == 19
    assert chunk_windows(363, 24576, 80 * GIB) == 304
    assert 19 < chunk_windows(363, 24576, 8 * GIB) < 100
    assert chunk_windows(363, 24576, GIB // 4) == 19
    assert chunk_windows(363, 800, 80 * GIB) == 100  # a small pool is renewed in eight parts


def test_large_chunks_have_the_distribution_of_small_ones(clips: list[MotionClip]) -> None:
    small, large, other = pool_of(clips, 64), pool_of(clips, 2048), pool_of(clips, 64, seed=2)
    assert len(small) == len(large) == 4096
    for name in ("features", "joints", "root", "centre", "spread"):
        a, b, c = (getattr(everything(pool), name).double().flatten(1) for pool in (small, large, other))
        spread = a.std(0).clamp_min(1e-6)
        noise = spread * (2 / len(a)) ** 0.5  # standard deviation of the difference of two means
        for values in (b, c):
            assert ((a.mean(0) - values.mean(0)) / noise).abs().max() < 5.5
        quantiles = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9], dtype=torch.float64)
        differences = [(a.quantile(quantiles, 0) - v.quantile(quantiles, 0)).abs() / spread for v in (b, c)]
        assert differences[0].mean() < 0.05
        assert differences[0].mean() < 2 * differences[1].mean()


def test_windows_of_a_large_chunk_differ(clips: list[MotionClip]) -> None:
    features = everything(pool_of(clips, 1024, 1024)).features.flatten(1)
    distances = torch.cdist(features, features) + torch.eye(len(features)) * 1e6
    assert distances.min() > 0


def test_a_pool_is_restored_with_its_chunks(clips: list[MotionClip]) -> None:
    loop = LoopConfig(batch=64, pool=512, reuse=1, steps=10)

    def source(state: object = None) -> SyntheticWindows:
        return SyntheticWindows(DataEngine(clips, FRAMES, 30.0), RULE, range(4, 5), loop, 64, state)  # type: ignore[arg-type]

    first = source({"sampler": torch.Generator().manual_seed(1).get_state(), "first_chunk": 0, "chunk": 32})
    for step in range(5):
        first.batch(step)
    state = first.state()
    assert (state["chunk"], state["first_chunk"]) == (32, 10)
    again = source(state)
    for step in range(5, 8):
        assert torch.equal(first.batch(step).features, again.batch(step).features)
    older = source({name: value for name, value in state.items() if name != "chunk"})
    assert older.state()["chunk"] == CHUNK_FRAMES // FRAMES
