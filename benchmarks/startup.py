"""CPU seconds from the start of Python until the first frame of a video is detected.

    python benchmarks/startup.py examples/demo.mp4 --runs 5

Each run is a new process; the first one fills the cache of compiled models and is not counted. CPU seconds of all
threads and of ffmpeg count, not those of the clock: other programs change them little.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

# The command line is imported as well: it is what people start.
RUN = """
import json, resource, sys, time
import vp3d_cli.cli.main
from vp3d_cli import InferSettings, infer

def spent():
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)

class FirstFrame(Exception):
    pass

def progress(stage, done, total):
    if stage == "detect" and done == 0:
        marks["models loaded, video open"] = spent()
    if stage == "detect" and done >= 1:
        marks["first frame detected"] = spent()
        raise FirstFrame

marks = {"command line imported": spent()}
try:
    infer(sys.argv[1], progress=progress)
except FirstFrame:
    print(json.dumps(marks))
"""


def main() -> None:
    """Print the median of each mark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    runs = [_run(arguments.video) for _ in range(arguments.runs + 1)][1:]
    for mark in runs[0]:
        print(f"{mark:28s} {median(run[mark] for run in runs):.2f} s of CPU")


def _run(video: Path) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", RUN, str(video)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"startup.py: {video} failed: {done.stderr.strip().splitlines()[-1]}")
    marks: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return marks


if __name__ == "__main__":
    main()
