"""A bounded queue between two threads that either may end at any time, and a worker thread that uses it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class BoundedQueue(Generic[T]):
    """A bounded queue from one thread, the producer, to another, the consumer.

    Attributes:
        cancelled: the consumer wants nothing more.
        peak: the most items that ever waited.
    """

    def __init__(self, limit: int) -> None:
        """An empty queue for at most ``limit`` items."""
        self.cancelled = False
        self.peak = 0
        self._limit = limit
        self._items: deque[T] = deque()
        self._finished = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Add an item as soon as there is room; drop it if the queue was cancelled."""
        with self._changed:
            self._changed.wait_for(lambda: self.cancelled or len(self._items) < self._limit)
            if not self.cancelled:
                self._items.append(item)
                self.peak = max(self.peak, len(self._items))
                self._changed.notify_all()

    def get(self) -> T | None:
        """The next item, or None at the end; raises what the producer ended with."""
        with self._changed:
            self._changed.wait_for(lambda: self.cancelled or self._finished or self._items)
            if self._items:
                self._changed.notify_all()
                return self._items.popleft()
            if self._error is not None:
                raise self._error
            return None

    def finish(self, error: BaseException | None) -> None:
        """Say that no item follows, and what the producer ended with, if it failed."""
        with self._changed:
            self._finished, self._error = True, error
            self._changed.notify_all()

    def cancel(self) -> None:
        """Drop what waits; whoever puts more is not blocked."""
        with self._changed:
            self.cancelled = True
            self._items.clear()
            self._changed.notify_all()


class BackgroundWorker(Generic[T]):
    """Calls a function with each item in a thread, while the caller makes the next one.

    Use it in a ``with`` statement::

        with BackgroundWorker(writer.write, ahead=2) as background:
            for frame in reader:
                background.put(draw(frame))

    The ``with`` statement waits until all is done; where its block raises, the rest is dropped. What the function
    raises comes out of :meth:`put` or of the end of the ``with`` statement. Either way the thread has ended then.
    """

    def __init__(self, function: Callable[[T], None], ahead: int) -> None:
        """Nothing is started yet.

        Args:
            function: called in the thread with each item, in order.
            ahead: items that may wait for it.
        """
        self._function = function
        self._items: BoundedQueue[T] = BoundedQueue(ahead)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="vp3d-background", daemon=True)

    def __enter__(self) -> BackgroundWorker[T]:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._items.cancel()
        self._items.finish(None)
        self._thread.join()
        if kind is None:
            self._raise()

    def put(self, item: T) -> None:
        """Add an item; waits while too many are waiting.

        Raises:
            Whatever the function raised meanwhile.
        """
        self._items.put(item)
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            while (item := self._items.get()) is not None:
                self._function(item)
        except BaseException as error:  # noqa: BLE001 (raised again in the caller's thread)
            self._error = error
            self._items.cancel()
