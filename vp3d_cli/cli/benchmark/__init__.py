"""``vp3d bench``: how fast this machine is, stage by stage, over a folder of videos, and in the lifter's network."""

from vp3d_cli.cli.benchmark.folder import BatchBench, bench_batch
from vp3d_cli.cli.benchmark.lifter import LifterBench, bench_lifter
from vp3d_cli.cli.benchmark.stages import BenchResult, bench, example_clip

__all__ = ["BatchBench", "BenchResult", "LifterBench", "bench", "bench_batch", "bench_lifter", "example_clip"]
