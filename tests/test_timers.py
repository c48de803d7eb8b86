"""Many time limits, one timer: each is kept, and none costs a timer of its own."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, field

from distinct_async.timers import AttemptTimers


@define
class Clock:
    """A loop's clock, turned by hand: `timers` are those that are set."""

    now: float = 100.0
    timers: list["Timer"] = field(factory=list)
    set_ever: int = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> "Timer":
        self.set_ever += 1
        self.timers.append(timer := Timer(self, when, callback))
        return timer

    async def turn(self, now: float) -> None:
        self.now = now
        for timer in [each for each in self.timers if each.due <= now]:
            self.timers.remove(timer)
            timer.callback()
        for _ in range(2):
            await asyncio.sleep(0)


@define(eq=False)
class Timer:
    """What a loop's call_at gives."""

    clock: Clock
    due: float
    callback: Callable[[], None]

    def when(self) -> float:
        return self.due

    def cancel(self) -> None:
        if self in self.clock.timers:
            self.clock.timers.remove(self)


class Attempts:
    """Attempts that hang, each under a limit; `ended` are those whose time was up, in order."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.timers = AttemptTimers()
        self.timers._loop = self.clock  # type: ignore[assignment]  # all of it that is used
        self.ended: list[float] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def begin(self, *seconds: float) -> None:
        self.tasks += [asyncio.create_task(self._hang(each)) for each in seconds]
        await asyncio.sleep(0)

    async def _hang(self, seconds: float) -> None:
        limit = self.timers.start(seconds)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not limit.cancelled_alone:
                raise
            self.ended.append(seconds)
        finally:
            self.timers.stop(limit)


@pytest.fixture
async def attempts() -> Any:
    made = Attempts()
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


async def test_each_attempt_ends_when_its_own_time_is_up_and_no_sooner(attempts: Attempts) -> None:
    await attempts.begin(30, 5, 90, 5.5)
    seen = []
    for now in (104.9, 105, 105.4, 130, 189.9, 190):
        await attempts.clock.turn(now)
        seen.append([*attempts.ended])
    assert [[], [5], [5], [5, 5.5, 30], [5, 5.5, 30], [5, 5.5, 30, 90]] == [sorted(each) for each in seen]
    assert [] == attempts.clock.timers


async def test_attempts_that_end_in_time_share_one_timer_that_goes_on_with_who_is_left(attempts: Attempts) -> None:
    for _ in range(100):
        await attempts.begin(30)
        attempts.tasks[-1].cancel()
        await asyncio.sleep(0)
        attempts.clock.now += 0.1
    await attempts.begin(30)
    assert 1 == attempts.clock.set_ever
    await attempts.clock.turn(130)  # when the first one's time would have been up
    assert (2, [140.0]) == (attempts.clock.set_ever, [round(timer.due, 6) for timer in attempts.clock.timers])
    await attempts.clock.turn(140.001)
    assert ([30], []) == (attempts.ended, attempts.clock.timers)


async def test_a_shorter_limit_is_not_kept_waiting_by_the_timer_of_a_longer_one(attempts: Attempts) -> None:
    await attempts.begin(30)
    await attempts.begin(1)
    assert [101] == [timer.due for timer in attempts.clock.timers]
    await attempts.clock.turn(101)
    assert ([1], [130]) == (attempts.ended, [timer.due for timer in attempts.clock.timers])


async def test_a_timer_that_comes_a_little_early_is_set_again(attempts: Attempts) -> None:
    await attempts.begin(1)
    (timer,) = attempts.clock.timers
    attempts.clock.timers.clear()
    timer.callback()
    assert ([], [101]) == (attempts.ended, [timer.due for timer in attempts.clock.timers])


async def test_the_end_of_all_is_one_for_each_and_leaves_no_timer(attempts: Attempts) -> None:
    await attempts.begin(30, 60)
    attempts.timers.expire_all()
    attempts.timers.expire_all()
    await attempts.clock.turn(100)
    assert ([30, 60], []) == (attempts.ended, attempts.clock.timers)


async def test_a_cancellation_passes_and_is_no_timeout(attempts: Attempts) -> None:
    await attempts.begin(30)
    attempts.tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempts.tasks[0]
    await attempts.clock.turn(130)
    assert [] == attempts.ended


async def test_whoever_else_cancels_at_the_same_moment_has_the_last_word_and_no_request_is_left_open(
    attempts: Attempts,
) -> None:
    await attempts.begin(30, 30)
    one, other = attempts.tasks
    attempts.timers.expire_all()
    one.cancel()
    await attempts.clock.turn(100)
    assert ([30], True, 1) == (attempts.ended, one.cancelled(), one.cancelling())
    assert (False, 0) == (other.cancelled(), other.cancelling())


async def test_a_limit_within_a_task_that_was_cancelled_before_still_ends_its_own_attempt(attempts: Attempts) -> None:
    async def stubborn() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await attempts._hang(1)

    attempts.tasks.append(task := asyncio.create_task(stubborn()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    await attempts.clock.turn(101)
    assert ([1], 1) == (attempts.ended, task.cancelling())
