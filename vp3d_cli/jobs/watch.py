"""When a video has taken too long, and what it was at: the clock beside each worker that has one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vp3d_cli.jobs.work import FETCHING, HASHING, SENDING

_STAGES = {
    "detect": "finding people",
    "lift": "lifting to 3D",
    "render": "drawing",
    HASHING: "reading the video",
    FETCHING: "fetching the video",
    SENDING: "sending the result",
}


@dataclass(frozen=True)
class Limits:
    """When to give up.

    Attributes:
        retries: further attempts at a video whose worker died, hung or met with an error that vp3d did not expect.
        timeout_s: that one video may take; None for no limit.
        stall_s: without progress before a worker counts as hanging; None for no limit.
        fail_fast: end the batch at the first failure.
    """

    retries: int = 1
    timeout_s: float | None = None
    stall_s: float | None = 900.0
    fail_fast: bool = False


@dataclass
class Watch:
    """One attempt at a video; times are of the monotonic clock.

    Attributes:
        since: when it began.
        sign_of_life: when its worker was last heard of.
        doing: what that was, in words.
    """

    since: float
    sign_of_life: float
    doing: str = ""

    def hear(self, report: Mapping[str, Any], now: float) -> None:
        """Take note of a report."""
        self.sign_of_life = now
        if report["event"] == "progress":
            self.doing = f" while {_STAGES.get(report['stage'], report['stage'])}, frame {report['done']}"

    def deadline(self, limits: Limits) -> tuple[float | None, str]:
        """When the worker has to be ended, None for never; and why then."""
        ends: list[tuple[float, str]] = []
        if limits.timeout_s is not None:
            ends.append((self.since + limits.timeout_s, f"took longer than {limits.timeout_s:g} s (--timeout)"))
        if limits.stall_s is not None:
            ends.append((self.sign_of_life + limits.stall_s, f"hung: no progress for {limits.stall_s:g} s (--stall)"))
        return min(ends) if ends else (None, "")
