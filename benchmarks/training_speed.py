"""Speed and memory of training on a data set, compared with a plain loop over windows.

    python benchmarks/training_speed.py [--frames 1560000] [--widths 3 3 3] [--channels 256] [--batch 1024]

The plain loop cuts the window of every frame out of its sequence, pads it at the edges, normalizes it, stacks the
batch, and runs the network in its dilated form. vp3d normalizes every frame once, gathers windows by one index, and
runs the strided form. Batch, network and outputs are the same. ``--frames`` generates a data set of this size of four
cameras and prints the memory that training on it needs.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
import torch

from vp3d_cli.lift.input_rule import InputRule
from vp3d_cli.lift.temporal import TemporalConfig, TemporalModel
from vp3d_cli.train.config import LoopConfig
from vp3d_cli.train.objective import mpjpe_loss
from vp3d_cli.train.sequences.view import Camera, View, ViewStore
from vp3d_cli.train.sequences.windows import LabelledWindows

RULE = InputRule("screen", False, 50.0, "h36m17", "h36m17")
SIZE = (1000, 1002)
CAMERA = Camera((1145.0, 1143.0, 512.0, 515.0), SIZE, rotation=np.eye(3), translation=np.array([0.0, 0.0, 5.0]))


def random_views(frames: int, cameras: int = 4, length: int = 2000) -> list[View]:
    """Random sequences; their content does not affect speed or memory."""
    rng = np.random.default_rng(0)
    views = []
    for start in range(0, frames, length):
        count = min(length, frames - start)
        joints = rng.standard_normal((count, 17, 3), np.float32)
        for _ in range(cameras):
            keypoints = rng.standard_normal((count, 17, 2), np.float32) * 100 + 500
            views.append(View(keypoints, CAMERA, joints=joints))
    return views


class PlainLoop:
    """Plain loop over windows."""

    def __init__(self, views: list[View], before: int, after: int) -> None:
        self._views, self._before, self._after = views, before, after
        self._pairs = [(v, f) for v, view in enumerate(views) for f in range(len(view.keypoints))]

    def batch(self, chosen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Windows (N, T, 17, 2) and joints (N, 1, 17, 3)."""
        windows, labels = [], []
        for number in chosen:
            v, frame = self._pairs[number]
            keypoints, joints = self._views[v].keypoints, self._views[v].joints
            assert joints is not None
            start, stop = frame - self._before, frame + self._after + 1
            window = keypoints[max(start, 0) : stop]
            window = np.pad(window, ((max(-start, 0), max(stop - len(keypoints), 0)), (0, 0), (0, 0)), "edge")
            x, y = window[..., 0] / SIZE[0] * 2 - 1, window[..., 1] / SIZE[0] * 2 - SIZE[1] / SIZE[0]
            windows.append(np.stack([x, y], axis=-1))
            labels.append((joints[frame] - joints[frame, 0])[None])
        return torch.from_numpy(np.stack(windows)), torch.from_numpy(np.stack(labels))


def timed(step: Callable[[int], None], repeats: int) -> float:
    """Median seconds of processor time of a step."""
    step(0)
    seconds = []
    for i in range(1, repeats + 1):
        started = time.process_time()
        step(i)
        seconds.append(time.process_time() - started)
    return float(np.median(seconds))


def compare(widths: tuple[int, ...], channels: int, batch: int, repeats: int) -> None:
    """Print frames per second of both."""
    config = TemporalConfig(widths=widths, channels=channels, dropout=0.25)
    model = TemporalModel(config)
    optimizer = torch.optim.Adam(model.parameters(), amsgrad=True)
    views = random_views(20_000)
    source = LabelledWindows(ViewStore(views, RULE), RULE, config, LoopConfig(batch=batch, flips=False), batch)
    plain = PlainLoop(views, config.frames_before, config.frames_after)
    order = np.random.default_rng(0)

    def train_on(answer: torch.Tensor, joints: torch.Tensor) -> None:
        loss = mpjpe_loss(answer, joints)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    def ours(step: int) -> None:
        drawn = source.batch(step)
        train_on(model.forward_strided(drawn.features), drawn.joints)

    def chosen() -> np.ndarray:
        return order.integers(0, source.epoch, batch)

    def theirs(step: int) -> None:
        windows, joints = plain.batch(chosen())
        train_on(model(windows), joints)

    def theirs_strided(step: int) -> None:
        windows, joints = plain.batch(chosen())
        train_on(model.forward_strided(windows), joints)

    def draw(step: int) -> None:
        source.batch(step)

    def draw_plainly(step: int) -> None:
        plain.batch(chosen())

    print(f"{config.receptive_field} frames, {channels} channels, batch {batch}, {torch.get_num_threads()} threads")
    print("windows per second of processor time:")
    for name, fast, slow in (
        ("making windows", draw, draw_plainly),
        ("training", ours, theirs),
        ("training, plain loop with the strided form", ours, theirs_strided),
    ):
        seconds, longer = timed(fast, repeats), timed(slow, repeats)
        print(f"  {name}: {batch / seconds:.0f}, plain {batch / longer:.0f}: {longer / seconds:.1f} times")


def peak_gb() -> float:
    """Most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def memory(frames: int, widths: tuple[int, ...], batch: int) -> None:
    """Print what memory a data set of full size takes."""
    config = TemporalConfig(widths=widths, channels=1024)
    views = random_views(frames)
    print(f"{frames} frames of 4 cameras: {peak_gb():.2f} GB for the arrays that were read")
    held = ViewStore(views, RULE)
    del views
    source = LabelledWindows(held, RULE, config, LoopConfig(batch=batch), batch)
    print(f"  {source.epoch} windows in an epoch, {peak_gb():.2f} GB with everything normalized")
    model = TemporalModel(config)
    for step in range(2):
        drawn = source.batch(step)
        torch.autograd.backward(mpjpe_loss(model.forward_strided(drawn.features), drawn.joints))
    print(f"  {peak_gb():.2f} GB at most, with steps of {batch} windows of {config.receptive_field} frames")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[3, 3, 3])
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--frames", type=int, help="of a made-up data set; says what memory it takes")
    args = parser.parse_args()
    if args.frames:
        memory(args.frames, tuple(args.widths), args.batch)
    else:
        compare(tuple(args.widths), args.channels, args.batch, args.repeats)


if __name__ == "__main__":
    main()
