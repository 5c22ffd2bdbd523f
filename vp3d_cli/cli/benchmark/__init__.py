"""``vp3d bench``: how fast this machine is, stage by stage, over a folder of videos, and in the lifter's network."""

from vp3d_cli.cli.benchmark.folder import BatchBench, bench_batch
from vp3d_cli.cli.benchmark.stages import BenchResult, bench, example_clip

__all__ = ["BatchBench", "BenchResult", "bench", "bench_batch", "example_clip"]
