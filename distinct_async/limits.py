"""Time limits of many attempts under one timer of the loop's.

`asyncio.timeout` sets a timer for each attempt and cancels it, which cost more than everything else of ours in a
request. Here the timers are left out of asyncio's timeouts, which still do the cancelling: an attempt is a line in a
dict, and the loop wakes up for the one that is due first.
"""

import asyncio


class TimeLimits:
    """What is under way and until when. Made inside the loop it belongs to."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due: dict[asyncio.Timeout, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, seconds: float) -> asyncio.Timeout:
        """A limit to be entered at once, with ``async with``; `end` it in any case."""
        limit, due = asyncio.timeout(None), self._loop.time() + seconds
        self._due[limit] = due
        if self._timer is None or due < self._timer.when():
            self._set(due)
        return limit

    def end(self, limit: asyncio.Timeout) -> None:
        """Forget a limit. The timer stays: the next attempt will be glad of it."""
        del self._due[limit]

    def end_all(self) -> None:
        """Let the time of everything under way be up, and the timer with it."""
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
        running = [(limit, due) for limit, due in self._due.items() if not limit.expired()]
        for limit, due in running:
            if due <= now:
                limit.reschedule(0)  # in the loop's next turn
        if left := [due for _, due in running if due > now]:
            self._set(min(left))
