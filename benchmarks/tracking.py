"""IDF1, MOTA and identity switches of the tracker on crossings simulated from motion capture.

People of a motion archive walk through one another in front of a simulated camera. Their keypoints have detector
errors: jitter, misses, false people, double detections and, for occluded people, keypoints that vanish or jump to the
person in front. The scores are computed by motmetrics.

    pip install motmetrics            # and, for --trackers: trackers, norfair
    python benchmarks/tracking.py mocap.npz --scenes 12 --trackers vp3d oracle
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import motmetrics
import numpy as np
from crossings import SIZE_WH, Array, Noise, Scene, crossing_people, load_walks, simulate
from scipy.optimize import linear_sum_assignment

from vp3d_cli.track import track_people

Tracker = Callable[[Scene], list[tuple[Array, Array]]]


def ours(scene: Scene) -> list[tuple[Array, Array]]:
    """The product's tracker."""
    tracks = track_people(scene.detections, scene.times_s, SIZE_WH)
    return [(t.first + np.flatnonzero(t.present), t.boxes_xyxy[t.present]) for t in tracks]


def oracle(scene: Scene) -> list[tuple[Array, Array]]:
    """What the best possible tracker would get from these detections: each goes to the truth it fits best."""
    rows = []
    for f, found in enumerate(scene.detections):
        here = np.flatnonzero(np.isfinite(scene.truth[:, f, 0]))
        distance = np.nan_to_num(iou_distance(scene.truth[here, f], found.boxes_xyxy), nan=1e3)
        for a, b in zip(*linear_sum_assignment(distance), strict=True):
            if distance[a, b] < 1:
                rows.append((f, int(here[a]), found.boxes_xyxy[b]))
    return _grouped(rows)


def _grouped(rows: list[tuple[int, int, Array]]) -> list[tuple[Array, Array]]:
    ids = sorted({r[1] for r in rows})
    return [
        (np.array([f for f, i, _ in rows if i == who]), np.array([b for _, i, b in rows if i == who])) for who in ids
    ]


def of_trackers(kind: str, **options: Any) -> Tracker:
    """A tracker of the package ``trackers`` on the same boxes."""

    def track(scene: Scene) -> list[tuple[Array, Array]]:
        import supervision
        import trackers

        fps = 1 / float(np.median(np.diff(scene.times_s)))
        tracker = getattr(trackers, kind)(lost_track_buffer=2 * 30, frame_rate=fps, **options)
        rows = []
        for f, found in enumerate(scene.detections):
            given = supervision.Detections(
                xyxy=found.boxes_xyxy, confidence=found.person_scores, class_id=np.zeros(len(found), int)
            )
            out = tracker.update(given)
            rows += [(f, int(i), box) for i, box in zip(out.tracker_id, out.xyxy, strict=True) if i >= 0]
        return _grouped(rows)

    return track


def norfair(scene: Scene) -> list[tuple[Array, Array]]:
    """norfair on the same keypoints, with its keypoint distance."""
    import norfair as library

    fps = 1 / float(np.median(np.diff(scene.times_s)))

    def distance(detection: Any, tracked: Any) -> float:
        size = np.ptp(detection.points[:, 1]) + 1e-6
        good = detection.scores > 0.2
        gap = np.linalg.norm(detection.points - tracked.estimate, axis=1)[good]
        return float(np.median(gap) / size) if good.any() else 1e3

    tracker = library.Tracker(
        distance, distance_threshold=0.25, hit_counter_max=int(2 * fps), initialization_delay=int(0.15 * fps)
    )
    rows = []
    for f, found in enumerate(scene.detections):
        given = [
            library.Detection(k, scores=s, data=b)
            for k, s, b in zip(found.keypoints, found.scores, found.boxes_xyxy, strict=True)
        ]
        for t in tracker.update(given):
            if t.last_detection in given:
                rows.append((f, t.id, t.last_detection.data))
    return _grouped(rows)


def iou_distance(a: Array, b: Array) -> Array:
    """(N, M) 1 - IoU, NaN where the boxes overlap by less than half."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = np.prod(np.clip(high - low, 0, None), -1)
    area_a, area_b = np.prod(a[:, 2:] - a[:, :2], -1), np.prod(b[:, 2:] - b[:, :2], -1)
    iou = inter / (area_a[:, None] + area_b[None] - inter + 1e-9)
    return np.where(iou >= 0.5, 1 - iou, np.nan)


def bridge(frames: Array, boxes: Array, longest: float) -> tuple[Array, Array]:
    """Interpolate boxes over gaps up to ``longest`` frames, as the pipeline does when it fills gaps."""
    every = np.arange(frames[0], frames[-1] + 1)
    after = np.searchsorted(frames, every)
    gap = frames[after] - frames[np.maximum(after - 1, 0)]
    keep = (frames[after] == every) | (gap <= longest)
    filled = np.stack([np.interp(every, frames, boxes[:, i]) for i in range(4)], -1)
    return every[keep], filled[keep]


def judge(scene: Scene, found: list[tuple[Array, Array]]) -> Any:
    """One motmetrics accumulator for a scene."""
    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    per_frame: list[list[tuple[int, Array]]] = [[] for _ in scene.detections]
    for who, (frames, boxes) in enumerate(found):
        for f, b in zip(frames, boxes, strict=True):
            per_frame[f].append((who, b))
    for f, rows in enumerate(per_frame):
        truth, hidden = (np.flatnonzero(np.isfinite(b[:, f, 0])) for b in (scene.truth, scene.hidden))
        boxes = np.array([b for _, b in rows]).reshape(-1, 4)
        distance = iou_distance(scene.truth[truth, f], boxes)
        # As MOTChallenge does: boxes that fit someone hidden better than anyone in view are set aside.
        every = np.nan_to_num(np.vstack([distance, iou_distance(scene.hidden[hidden, f], boxes)]), nan=1e3)
        a, b = linear_sum_assignment(every)
        aside = b[(a >= len(truth)) & (every[a, b] < 1)]
        keep = np.setdiff1d(np.arange(len(rows)), aside)
        accumulator.update(truth, [rows[k][0] for k in keep], distance[:, keep])
    return accumulator


def main() -> None:
    """Parse, simulate, track, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("mocap", type=Path)
    parser.add_argument("--scenes", type=int, default=12, help="scenes for each number of people")
    parser.add_argument("--people", type=int, nargs="*", default=[2, 3, 4, 5, 6])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--miss", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trackers", nargs="*", default=["vp3d"], help="vp3d oracle bytetrack ocsort norfair")
    args = parser.parse_args()
    walks = load_walks(args.mocap, args.fps)
    trackers: dict[str, Tracker] = {
        "vp3d": ours,
        "oracle": oracle,
        "bytetrack": of_trackers("ByteTrackTracker", track_activation_threshold=0.4, high_conf_det_threshold=0.4),
        "ocsort": of_trackers("OCSORTTracker", high_conf_det_threshold=0.4),
        "norfair": norfair,
    }
    metrics = ["idf1", "mota", "num_switches", "num_fragmentations", "idp", "idr"]
    print(f"{'tracker':10} people  gaps    IDF1   MOTA  switches  IDP    IDR    ms/frame")
    for name in args.trackers:
        tracker = trackers[name]
        everything: dict[bool, list[Any]] = {False: [], True: []}
        for people in args.people:
            part: dict[bool, list[Any]] = {False: [], True: []}
            spent, count = 0.0, 0
            for number in range(args.scenes):
                rng = np.random.default_rng([args.seed, people, number])
                frames = int(args.seconds * args.fps)
                bodies = crossing_people(walks, people, frames, args.fps, rng)
                scene = simulate(bodies, args.fps, Noise(miss=args.miss), rng)
                begin = time.perf_counter()
                found = tracker(scene)
                spent, count = spent + time.perf_counter() - begin, count + frames
                part[False].append(judge(scene, found))
                part[True].append(judge(scene, [bridge(*f, longest=1.0 * args.fps) for f in found]))
            for bridged, accumulators in part.items():
                everything[bridged] += accumulators
                show(name, str(people), bridged, accumulators, metrics, 1000 * spent / count)
        for bridged, accumulators in everything.items():
            show(name, "all", bridged, accumulators, metrics, float("nan"))


def show(name: str, people: str, bridged: bool, accumulators: list[Any], metrics: list[str], ms: float) -> None:
    """Print one line of the table: all scenes of a kind together."""
    table = motmetrics.metrics.create().compute_many(accumulators, metrics=metrics, generate_overall=True)
    row = table.loc["OVERALL"]
    print(
        f"{name:10} {people:>6}  {'filled' if bridged else 'left':6} {row.idf1:.4f} {row.mota:.4f}"
        f" {int(row.num_switches):6d}    {row.idp:.4f} {row.idr:.4f} {ms:8.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
