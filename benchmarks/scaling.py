"""Cost of each stage by resolution, number of people and length: the tables of docs/scaling.md.

    python benchmarks/scaling.py                  # an hour on one free core
    python benchmarks/scaling.py --frames 24 --repeats 1 --lengths 1 2

Clips are made from the example by ffmpeg. Costs are milliseconds of processor time per frame on one core, medians over
the repeats, without ffmpeg's own work while encoding. Prints Markdown.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vp3d_cli.cli.benchmark import BenchResult, bench, example_clip
from vp3d_cli.io.detections import Detections
from vp3d_cli.lift.lifter import Lifter, load_lifter
from vp3d_cli.pipeline.detection import detect_frames, tracks_of
from vp3d_cli.pipeline.infer import lift_person, place_in_world
from vp3d_cli.pipeline.run import Models
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.types import Keypoints2D, Track2D
from vp3d_cli.video import VideoReader, find_ffmpeg

HEIGHTS = {"480p": 480, "720p": 720, "1080p": 1080, "4K": 2160}
PEOPLE = (1, 2, 5)
# Somebody who stays in their place in the example, and five of them side by side.
CROP = "crop=424:480:420:0"
STAGES = ("decode", "detect", "track and preprocess", "lift", "world", "draw", "end to end")
FPS = 30


def make(clip: Path, filters: str, frames: int) -> Path:
    """The beginning of the example through ffmpeg's filters."""
    command = [find_ffmpeg(), "-v", "error", "-y", "-i", str(example_clip()), "-an", "-vf", filters, "-frames:v"]
    command += [str(frames), "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", str(clip)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return clip


def row(name: str, result: BenchResult) -> str:
    """A line of the table: milliseconds of one core per frame of each stage."""
    cpu = {stage.stage: 1e3 * stage.cpu_seconds / result.frames for stage in result.stages}
    cells = [f"{cpu[stage]:.1f}" if cpu[stage] >= 1 else f"{cpu[stage]:.2f}" for stage in STAGES]
    return f"| {name} | {result.people} | " + " | ".join(cells) + f" | {result.cpu_ratio_to_detector:.2f} |"


def measure_clips(folder: Path, frames: int, repeats: int) -> None:
    """Tables by resolution and by people."""
    header = "| clip | people | " + " | ".join(STAGES) + " | detect / end to end |"
    rule = "| --- |" + " ---: |" * (len(STAGES) + 2)
    clips = {name: f"scale=-2:{height}" for name, height in HEIGHTS.items()}
    for count in PEOPLE:
        copies = "".join(f"[p{i}]" for i in range(count))
        beside = "null" if count == 1 else f"split={count}{copies};{copies}hstack=inputs={count}"
        clips[f"{count} side by side"] = f"{CROP},{beside},pad={424 * max(PEOPLE)}:480"
    print(f"{header}\n{rule}", flush=True)
    for name, filters in clips.items():
        clip = make(folder / "clip.mp4", filters, frames)
        print(row(name, bench(clip, InferSettings(), max_frames=frames, repeats=repeats)), flush=True)


def measure_lengths(minutes: Sequence[float]) -> None:
    """What comes after detection, by length: the example's detections to and fro."""
    settings, lifter = InferSettings(), load_lifter()
    with VideoReader(example_clip()) as reader:
        size_wh = reader.info.size_wh
        seen = detect_frames(reader, Models(settings).detector, info=reader.info)
    print("\n| minutes | frames | people | track | condition, lift, place | ground | peak memory, MB |")
    print("|" + " ---: |" * 7, flush=True)
    for length in minutes:
        _one_length(seen, size_wh, lifter, settings, round(length * 60 * FPS))


def _one_length(
    seen: Detections, size_wh: tuple[int, int], lifter: Lifter, settings: InferSettings, frames: int
) -> None:
    last = len(seen) - 1
    index = last - np.abs(np.arange(frames) % (2 * last) - last)  # to and fro, so that everyone moves smoothly
    people: list[Keypoints2D] = [seen[int(i)] for i in index]
    times = np.arange(frames) / FPS
    marks = [time.process_time()]
    tracks_of(Detections(people, times, FPS, size_wh))
    marks.append(time.process_time())
    whole = [track.over(last + 1) for track in tracks_of(seen)[:2]]
    tracks = [
        Track2D(t.person_id, t.keypoints[index], t.scores[index], t.boxes_xyxy[index], t.observed[index]) for t in whole
    ]
    camera = settings.camera(size_wh).as_tuple()
    motions = [lift_person(track, times, lifter, camera, size_wh, settings) for track in tracks]
    marks.append(time.process_time())
    place_in_world(motions, times)
    marks.append(time.process_time())
    costs = " | ".join(f"{1e3 * cost / frames:.2f}" for cost in np.diff(marks))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"| {frames / FPS / 60:g} | {frames} | {len(tracks)} | {costs} | {peak:.0f} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=200, help="of each clip")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--lengths", type=float, nargs="+", default=[1, 10, 60], help="minutes")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure_clips(Path(folder), chosen.frames, chosen.repeats)
    measure_lengths(chosen.lengths)


if __name__ == "__main__":
    main()
