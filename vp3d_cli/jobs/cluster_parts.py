"""Long videos in parts on a cluster: the batch submits each part as a task of its own, and then their joining.

No task of dask waits for another one, so that there is no deadlock however few threads there are; and what was found in
a part is a file beside the results, so that it is lost with no machine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vp3d_cli.jobs.cluster_slot import Receiver, Slot
from vp3d_cli.jobs.messages import JOIN, PART, PLAN, Order
from vp3d_cli.jobs.remote import Url, to_place
from vp3d_cli.pipeline.settings import InferSettings


def can_be_shared(settings: InferSettings, order: Order) -> bool:
    """Whether all machines see the video and what is found in its parts, and somebody has asked for parts."""
    wanted = settings.segment_min is not None and not {"pose", "keypoints"}.isdisjoint(order.needed)
    if not wanted or order.keep is None or order.copies:
        return False
    return not any(isinstance(to_place(place), Url) for place in (order.video, order.keep))


class SharedVideo:
    """One attempt at a video in parts."""

    def __init__(
        self,
        slot: Slot,
        order: Order,
        submit: Callable[[Receiver, Order], None],
        withdraw: Callable[[Slot], None],
        lock: threading.RLock,
        patient: bool,
    ) -> None:
        """Nothing is submitted yet.

        Args:
            slot: that has the video; hears of its progress and end.
            order: of the whole.
            submit: hands an order to the cluster, for somebody to hear of.
            withdraw: takes back all that was submitted for a slot.
            lock: held by who submits or ends; never by the thread that brings progress.
            patient: when a part fails that may succeed another time, wait for the others, whose work is kept.
        """
        self.slot = slot
        self._order, self._submit, self._withdraw = order, submit, withdraw
        self._lock, self._patient = lock, patient
        self._parts: list[dict[str, Any]] = []
        self._frames: list[int] = []  # done of each part
        self._left: set[int] = set()
        self._failure: list[dict[str, Any]] | None = None
        self._over = self._resumed = False
        self._since = 0.0

    def begin(self) -> None:
        """Have somebody plan the parts."""
        self.hand_out(None)

    def hand_out(self, number: int | None) -> None:
        """Submit a part, or the plan where it is None; once more, if a machine could not do it."""
        with self._lock:
            if not self._over:
                share = {"do": PLAN} if number is None else {"do": PART, "part": self._parts[number]}
                self._submit(_Share(self, number), replace(self._order, share=share))

    def progress(self, number: int, report: Mapping[str, Any]) -> None:
        """A part is so far."""
        self._frames[number] = report["done"]
        total = sum(part["frames"] for part in self._parts)
        self.slot.tell({**report, "done": min(sum(self._frames), total), "total": total})

    def planned(self, parts: Sequence[dict[str, Any]]) -> None:
        """The parts are known: submit them. If there are none, the whole."""
        with self._lock:
            if self._over:
                return
            self._since = time.monotonic()
            self._parts, self._frames, self._left = list(parts), [0] * len(parts), set(range(len(parts)))
            if not parts:
                self._over = True
                self._submit(self.slot, self._order)
            for number in range(len(parts)):
                self.hand_out(number)

    def done(self, number: int, kept: bool) -> None:
        """A part is done; after the last one, submit their joining."""
        with self._lock:
            if self._over:
                return
            self._left.discard(number)
            self.progress(number, {"event": "progress", "stage": "detect", "done": self._parts[number]["frames"]})
            self._resumed |= kept
            self._go_on()

    def failed(self, number: int | None, reports: Sequence[dict[str, Any]]) -> None:
        """A part, or the plan, has failed, and with it the video: at once, or when its other parts have ended."""
        with self._lock:
            if self._over:
                return
            last = reports[-1]
            hopeless = last["event"] == "failed" and last["expected"]  # trying again changes nothing
            if self._failure is None or hopeless:
                if number is not None and last["event"] == "lost":
                    which = f"part {number + 1} of {len(self._parts)}"
                    reports = [*reports[:-1], {**last, "reason": f"{which}: {last['reason']}"}]
                self._failure = [report for report in reports if report["event"] != "progress"]
            if number is not None:
                self._left.discard(number)
            if hopeless or not self._patient:
                self._left.clear()
            self._go_on()

    def give_up(self, reason: str) -> None:
        """The cluster is away: the video is done again, and finds what is kept of its parts."""
        with self._lock:
            if not self._over:
                self._over = True
                self._withdraw(self.slot)
                self.slot.end(reason, blameless=True)

    def _go_on(self) -> None:
        """If no part is to be waited for: join them, or fail."""
        if self._left:
            return
        self._over = True
        if self._failure is not None:
            self._withdraw(self.slot)
            self.slot.finish(self._failure)
            return
        share = {"do": JOIN, "resumed": self._resumed, "spent_s": time.monotonic() - self._since}
        self._submit(self.slot, replace(self._order, share=share))


class _Share:
    """Hears of a part, or of the plan."""

    def __init__(self, video: SharedVideo, number: int | None) -> None:
        self._video, self._number = video, number

    @property
    def owner(self) -> Slot:
        return self._video.slot

    def tell(self, report: dict[str, Any]) -> None:
        if report["event"] == "failed":
            self._video.failed(self._number, [report])
        elif self._number is not None:
            self._video.progress(self._number, report)

    def finish(self, reports: Sequence[dict[str, Any]]) -> None:
        if reports[-1]["event"] != "finished":
            self._video.failed(self._number, reports)
            return
        said = reports[-2]
        if self._number is None:
            self._video.planned(said["parts"])
        else:
            self._video.done(self._number, said["kept"])

    def end(self, reason: str, blameless: bool = False) -> None:
        if blameless:
            self._video.give_up(reason)
        else:
            self._video.failed(self._number, [{"event": "lost", "reason": reason, "words": ""}])

    def elsewhere(self, reason: str) -> None:
        self._video.hand_out(self._number)
