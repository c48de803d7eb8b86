"""What a client and its views share, and what of it belongs to one event loop: made on first use, ended by `close`."""

import asyncio
import os
import warnings
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from attrs import define, field

from distinct_async.config import Settings
from distinct_async.errors import ClientStateError, DistinctError
from distinct_async.sansio.messages import Reply
from distinct_async.sansio.retry import Budget
from distinct_async.vendors import Vendor

if TYPE_CHECKING:
    from distinct_async.session import Session


_TIMER_LATENESS = 0.02  # seconds, on a busy loop


@define(eq=False)
class Gate:
    """Concurrency limit, rate limit and shared pause of one vendor.

    Nothing is reserved ahead: whoever is cancelled while waiting leaves no trace. Callers queue for the rate under
    `queue`, of which only the head sleeps; a turn is taken at the moment the request is sent.
    """

    slots: asyncio.Semaphore
    rate: float | None
    queue: asyncio.Lock = field(factory=asyncio.Lock)
    pause_until: float = 0.0  # loop time
    pause_length: float = 0.0
    next_start: float = 0.0

    def hold(self, now: float, seconds: float) -> bool:
        """Let nobody start for so long. True where this begins a pause, False where one is going on already."""
        begins = now >= self.pause_until
        if now + seconds > self.pause_until:
            self.pause_until, self.pause_length = now + seconds, seconds
        return begins

    def take_turn(self, now: float) -> None:
        """Note that a request is sent now, which delays the next one by the rate's interval."""
        if self.rate is not None:
            interval = 1 / self.rate
            # A timer fires a little late; counted from when it was due, that does not lower the rate
            late = now - self.next_start
            self.next_start = (self.next_start if late < min(_TIMER_LATENESS, interval) else now) + interval


@define(eq=False)
class Flight:
    """One impression being asked for, by the first of its callers; the others wait for the lock."""

    lock: asyncio.Lock = field(factory=asyncio.Lock)
    callers: int = 0
    reply: Reply | None = None
    error: DistinctError | None = None


@define(eq=False)
class LoopState:
    """Everything of a client that belongs to one event loop, and to one process."""

    loop: asyncio.AbstractEventLoop
    session: "Session"
    gates: dict[Vendor, Gate]
    pid: int = field(factory=os.getpid)
    closing: asyncio.Event = field(factory=asyncio.Event)
    idle: asyncio.Event = field(factory=asyncio.Event)
    calls: int = 0
    tasks: set[asyncio.Task[Any]] = field(factory=set)
    flights: dict[object, Flight] = field(factory=dict)  # impressions being asked for
    guard: AsyncGenerator[None, None] | None = None


class Core:
    """What a client and its `with_options` views share: settings, budgets, the cache, and the loop's state."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.budgets: dict[Vendor, Budget] = {vendor: Budget() for vendor in settings.base_urls}
        self.impressions: dict[str, Reply] = {}  # by id, the oldest use first
        self.closed: bool = False
        self._state: LoopState | None = None

    def state(self) -> LoopState:
        """The running loop's state, made on first use; :exc:`ClientStateError` where it belongs to another."""
        if self.closed:
            raise ClientStateError("the client is closed: make a new one")
        loop, state = asyncio.get_running_loop(), self._state
        if state is not None and not state.loop.is_closed():
            if _is_elsewhere(state, loop):
                raise _elsewhere(state)
            if not state.session.closed:
                return state
            if not state.session.owned:
                raise ClientStateError("the aiohttp.ClientSession that was lent to the client is closed")
        if state is not None and state.pid == os.getpid():
            state.session.abandon()
        self._state = self._open(loop)
        return self._state

    def _open(self, loop: asyncio.AbstractEventLoop) -> LoopState:
        # Only now, since it takes as long as everything else together: aiohttp comes with it.
        from distinct_async.session import Session

        settings = self.settings
        gates: dict[Vendor, Gate] = {
            vendor: Gate(asyncio.Semaphore(settings.max_concurrency), settings.rate_limit)
            for vendor in settings.base_urls
        }
        state = LoopState(loop, Session(settings), gates)
        # asyncio.run() closes all started async generators before it closes the loop: this one then closes the session,
        # so that a client at module level leaves no socket behind.
        state.guard = _close_with_loop(state.session)
        with suppress(StopIteration):
            state.guard.__anext__().__await__().send(None)
        return state

    async def close(self) -> None:
        """End what is going on with `ClientStateError`, wait for it, and close the session; twice is fine."""
        state = self._state
        if state is not None and not state.loop.is_closed() and _is_elsewhere(state, asyncio.get_running_loop()):
            raise _elsewhere(state)
        self.closed, self._state = True, None
        if state is None or state.loop.is_closed():
            if state is not None and state.pid == os.getpid():
                state.session.abandon()
            return
        state.closing.set()
        state.session.interrupt()
        while state.calls:
            state.idle.clear()
            await state.idle.wait()
        if state.tasks:
            await asyncio.wait(state.tasks)
        if state.guard is not None:
            await state.guard.aclose()
        for _ in range(3):  # for the end of walks that were left by `break`: their last step comes by the loop's turns
            await asyncio.sleep(0)

    def __del__(self) -> None:
        """Tell of a client that was used and never closed."""
        if getattr(self, "_state", None) is not None:
            text = "unclosed DistinctClient: use `async with DistinctClient(...)`, or `await client.close()`"
            warnings.warn(text, ResourceWarning, source=self, stacklevel=2)


def _is_elsewhere(state: LoopState, loop: asyncio.AbstractEventLoop) -> bool:
    return state.loop is not loop or state.pid != os.getpid()


def _elsewhere(state: LoopState) -> ClientStateError:
    """Why we do not touch what another process, or another loop that is still open, is using."""
    if state.pid != os.getpid():
        hint = "make a client after the fork, in each process"
        return ClientStateError(f"the client was used in another process (pid {state.pid}): {hint}")
    hint = "make one client per loop (one per thread)"
    return ClientStateError(f"the client belongs to another event loop, which is still open: {hint}")


async def drain(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel the tasks and wait until each has ended, even where we are cancelled ourselves meanwhile."""
    left = set(tasks)
    for task in left:
        task.cancel()
    cancelled: asyncio.CancelledError | None = None
    while left:
        try:
            _, left = await asyncio.wait(left)
        except asyncio.CancelledError as error:
            cancelled, left = error, {task for task in left if not task.done()}
    for task in tasks:
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not complain
    if cancelled is not None:
        raise cancelled


async def _close_with_loop(session: "Session") -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await session.close()
