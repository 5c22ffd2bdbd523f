"""A video that several machines do together: the share of one of them, in its worker process.

First one plans in which parts the video is done, then each part is done anywhere and what was found in it kept beside
the results, then one takes all that is kept and makes the results. :mod:`vp3d_cli.jobs.cluster_parts` hands out the
shares. ``Order.share`` says which one it is: ``do``, and what belongs to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vp3d_cli.detect.base import Detector
from vp3d_cli.errors import OutputError, Vp3dError
from vp3d_cli.jobs.messages import JOIN, PART, PLAN, Order
from vp3d_cli.pipeline.chunks import Segment, SideBySide, detect_segment, kept_note, plan_segments
from vp3d_cli.pipeline.detection import Progress, Seen
from vp3d_cli.pipeline.detection_cache import read_partial
from vp3d_cli.pipeline.settings import InferSettings

_OF_THE_PART = ("warm_up_s", "start_s", "end_s", "first", "frames", "sha256")


def do_share(order: Order, settings: InferSettings, detector: Detector, progress: Progress) -> dict[str, Any]:
    """Plan the parts of a video, or do one of them.

    Args:
        order: has a share of these kinds.
        settings: of the video.
        detector: of these settings.
        progress: called with ("detect", done, total).

    Returns:
        A report: ``planned``, with the ``parts`` to give in the orders for them (none: in one piece); or ``part``, with
        whether it was ``kept`` by an earlier run.

    Raises:
        DetectorError: the detector failed; what was found before is kept.
        OutputError: what was found cannot be kept.
        VideoError: the video cannot be read.
    """
    share = order.share
    if share is None or share["do"] not in (PLAN, PART) or order.keep is None:
        raise ValueError(f"no share of a video: {share}")
    if share["do"] == PLAN:
        parts = plan_segments(order.video, settings, Path(order.keep))
        return {"event": "planned", "parts": [_as_json(part) for part in parts]}
    return {"event": "part", "kept": _do_part(_from_json(order.video, settings, share["part"]), detector, progress)}


def taken_together(order: Order, detector: Detector) -> SideBySide | None:
    """How the parts of a video are done that others have done before; None if nobody has.

    A part that is not there any more is done here.
    """
    share = order.share
    if share is None or share["do"] != JOIN:
        return None
    resumed = bool(share["resumed"])

    def one_after_another(parts: Sequence[Segment], report: Progress) -> list[Seen]:
        total, before = sum(part.frames for part in parts), 0
        seen: list[Seen] = []

        def add(stage: str, done: int, of: int | None) -> None:
            report(stage, before + done, total)

        for part in parts:
            seen.append(detect_segment(part, add, detector, resumed=resumed))
            before += part.frames
        return seen

    return one_after_another


def _do_part(part: Segment, detector: Detector, progress: Progress) -> bool:
    """Find everyone in a part, and keep it; whether an earlier run had done so."""
    assert part.keep is not None  # of plan_segments with a place
    if read_partial(part.keep, part.stretch, detector) is not None:
        progress("detect", part.frames, part.frames)
        return True
    try:
        seen = detect_segment(part, progress, detector)
    except Vp3dError as error:
        note = kept_note([part])
        raise type(error)(f"{error}; {note}" if note else str(error)) from error.__cause__
    if len(seen.times_s) and read_partial(part.keep, part.stretch, detector) is None:
        raise OutputError(seen.warnings[-1] if seen.warnings else f"{part.keep} could not be written")
    return False


def _as_json(part: Segment) -> dict[str, Any]:
    return {**{name: getattr(part, name) for name in _OF_THE_PART}, "keep": str(part.keep)}


def _from_json(video: str, settings: InferSettings, stored: Mapping[str, Any]) -> Segment:
    return Segment(video, settings, **{**stored, "keep": Path(stored["keep"])})
