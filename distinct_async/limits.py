"""Time limits of many attempts with one timer of the event loop.

`asyncio.timeout` creates and cancels a timer for each attempt, and enters and leaves two coroutines: that cost more
than everything else of this package in a request. Here an attempt is an entry in a dict, and the loop wakes up for the
one that is due first. A limit cancels its task as `asyncio.timeout` does.
"""

import asyncio
from typing import Any

from attrs import define


@define(eq=False)
class Limit:
    """The time limit of one attempt. When it expires, the task that makes the attempt is cancelled."""

    task: asyncio.Task[Any]
    due: float
    requests: int  # cancellation requests of the task before
    expired: bool = False

    @property
    def alone(self) -> bool:
        """Whether only this limit has cancelled the task, so that the cancellation ends here."""
        return self.expired and self.task.cancelling() - 1 <= self.requests


class TimeLimits:
    """The time limits of all attempts in progress. Created inside the event loop it belongs to."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._running: dict[Limit, None] = {}  # the oldest first
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, seconds: float) -> Limit:
        """Start a time limit for the running task, which must call `end` in any case."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit needs a task")
        limit = Limit(task, self._loop.time() + seconds, task.cancelling())
        self._running[limit] = None
        if self._timer is None or limit.due < self._timer.when():
            self._set(limit.due)
        return limit

    def end(self, limit: Limit) -> None:
        """End a limit. The timer stays for the next attempt."""
        self._running.pop(limit, None)
        if limit.expired:
            limit.task.uncancel()

    def end_all(self) -> None:
        """Expire all limits, and cancel the timer."""
        self._expire(float("inf"))

    def _set(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        self._expire(self._loop.time())

    def _expire(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for limit in [each for each in self._running if each.due <= now]:
            del self._running[limit]
            limit.expired = True
            limit.task.cancel()
        if self._running:
            self._set(min(limit.due for limit in self._running))
