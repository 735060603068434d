"""One thread for all the work of one model, so that a question overtakes a batch instead of sharing its cores."""

from __future__ import annotations

import itertools
import queue
import threading
from concurrent.futures import Future
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Urgency(IntEnum):
    """Who goes first; the oldest first among equals."""

    STOP = 0
    QUESTION = 1
    BATCH = 2


class Turns:
    """A thread that runs jobs one at a time, the most urgent first. A job that was cancelled while it waited never runs."""

    def __init__(self, name: str) -> None:
        self._waiting: queue.PriorityQueue[tuple[Urgency, int, Future[Any], Callable[[], Any]]] = queue.PriorityQueue()
        self._order = itertools.count()
        self.closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, urgency: Urgency, job: Callable[[], T]) -> Future[T]:
        """Queue a job. Raises RuntimeError after `close`."""
        future: Future[T] = Future()
        with self._lock:
            if self.closed:
                raise RuntimeError("the embedder is closed")
            self._waiting.put((urgency, next(self._order), future, job))
        return future

    def close(self) -> None:
        """Finish the job that runs, cancel those that wait, and return when the thread has ended."""
        with self._lock:
            if not self.closed:
                self.closed = True
                self._waiting.put((Urgency.STOP, next(self._order), Future(), lambda: None))
        self._thread.join()

    def _work(self) -> None:
        while True:
            urgency, _, future, job = self._waiting.get()
            if urgency is Urgency.STOP:
                break
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(job())
                except BaseException as error:  # it belongs to whoever awaits the future
                    future.set_exception(error)
        while not self._waiting.empty():
            self._waiting.get()[2].cancel()
