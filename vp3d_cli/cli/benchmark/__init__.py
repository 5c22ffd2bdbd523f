"""``vp3d bench``: speed of this machine: pipeline stages, a batch, and the lifter network."""

from vp3d_cli.cli.benchmark.folder import BatchBench, bench_batch
from vp3d_cli.cli.benchmark.stages import BenchResult, bench, example_clip

__all__ = ["BatchBench", "BenchResult", "bench", "bench_batch", "example_clip"]
