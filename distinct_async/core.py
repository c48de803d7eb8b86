"""What a client and its views share; what belongs to one event loop is created on first use, and closed by `close`."""

import asyncio
import os
import warnings
from collections.abc import AsyncGenerator, Iterable
from contextlib import AbstractAsyncContextManager, suppress
from types import AsyncGeneratorType
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

    Attributes:
        slots: One for each request in flight.
        rate: Requests per second; None for no limit.
        limiter: The user's own limiter.
        queue: Held by the call that is next to send.
        pause_until: Loop time at which the pause ends.
        pause_length: Seconds that the pause was asked for.
        next_start: Loop time before which the rate allows no request.
    """

    slots: asyncio.Semaphore
    rate: float | None
    limiter: AbstractAsyncContextManager[object, bool | None] | None = None
    queue: asyncio.Lock = field(factory=asyncio.Lock)
    pause_until: float = 0.0
    pause_length: float = 0.0
    next_start: float = 0.0

    def hold(self, now: float, seconds: float) -> bool:
        """Pause all requests for so many seconds; return whether this begins a pause rather than extending one."""
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
    """A single flight: the first caller for an impression sends the request, the others wait for the lock."""

    lock: asyncio.Lock = field(factory=asyncio.Lock)
    callers: int = 0
    reply: Reply[Any] | None = None
    error: DistinctError | None = None


@define(eq=False)
class LoopState:
    """All that belongs to one event loop in one process.

    Attributes:
        loop: The event loop.
        session: The HTTP session.
        gates: The limits of each vendor.
        pid: The process.
        closing: Set when the client is being closed.
        idle: Set when no call is in progress any more.
        calls: How many are.
        tasks: Tasks that `close` waits for.
        waits: The waits for the user's own limiter.
        flights: The impressions that are being fetched, by id and options.
        guard: Closes the session when the loop ends without `close`.
    """

    loop: asyncio.AbstractEventLoop
    session: "Session"
    gates: dict[Vendor, Gate]
    pid: int = field(factory=os.getpid)
    closing: asyncio.Event = field(factory=asyncio.Event)
    idle: asyncio.Event = field(factory=asyncio.Event)
    calls: int = 0
    tasks: set[asyncio.Task[Any]] = field(factory=set)
    waits: set[asyncio.Timeout] = field(factory=set)
    flights: dict[object, Flight] = field(factory=dict)
    guard: AsyncGenerator[None, None] | None = None


class Core:
    """What a client and its views share.

    Attributes:
        settings: The settings.
        budgets: The retry budget of each vendor.
        impressions: The cache, by id; least recently used is evicted first.
        closed: Whether the client is closed.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.budgets: dict[Vendor, Budget] = {vendor: Budget() for vendor in settings.base_urls}
        self.impressions: dict[str, Reply[Any]] = {}  # in the order of their last use
        self.closed: bool = False
        self._loop_state: LoopState | None = None

    def state(self) -> LoopState:
        """Return the running loop's state, created on first use.

        Raises:
            ClientStateError: If the client is closed, or belongs to another loop or process.
        """
        if self.closed:
            raise ClientStateError("the client is closed: make a new one")
        loop, state = asyncio.get_running_loop(), self._loop_state
        if state is not None and not state.loop.is_closed():
            if _belongs_elsewhere(state, loop):
                raise _elsewhere_error(state)
            if not state.session.closed:
                return state
            if not state.session.owned:
                raise ClientStateError("the aiohttp.ClientSession of this client was closed")
        if state is not None and state.pid == os.getpid():
            state.session.abandon()
        self._loop_state = self._open_loop_state(loop)
        return self._loop_state

    def _open_loop_state(self, loop: asyncio.AbstractEventLoop) -> LoopState:
        # Only now, because it imports aiohttp, which takes as long as everything else together.
        from distinct_async.session import Session

        settings, rate = self.settings, self.settings.rate_limit
        rate, limiter = (None, rate) if isinstance(rate, AbstractAsyncContextManager) else (rate, None)
        gates: dict[Vendor, Gate] = {
            vendor: Gate(asyncio.Semaphore(settings.max_concurrency), rate, limiter) for vendor in settings.base_urls
        }
        state = LoopState(loop, Session(settings), gates)
        # asyncio.run() closes all started async generators before it closes the loop: this one closes the session then,
        # so that a client at module level leaves no socket open.
        state.guard = _close_with_loop(state.session)
        with suppress(StopIteration):
            state.guard.__anext__().__await__().send(None)
        return state

    async def close(self) -> None:
        """End all calls with `ClientStateError`, wait for them and close the session; calling it twice is fine."""
        state = self._loop_state
        if state is not None and not state.loop.is_closed() and _belongs_elsewhere(state, asyncio.get_running_loop()):
            raise _elsewhere_error(state)
        self.closed, self._loop_state = True, None
        if state is None or state.loop.is_closed():
            if state is not None and state.pid == os.getpid():
                state.session.abandon()
            return
        state.closing.set()
        state.session.interrupt()
        for limiter_wait in state.waits:
            limiter_wait.reschedule(0)
        while state.calls:
            state.idle.clear()
            await state.idle.wait()
        if state.tasks:
            await asyncio.wait(state.tasks)
        await state.session.close()
        if isinstance(state.guard, AsyncGeneratorType) and not state.guard.ag_running:  # the loop may be closing it
            await state.guard.aclose()
        for _ in range(3):  # a walk that was left by `break` ends by itself within these turns of the loop
            await asyncio.sleep(0)

    def __del__(self) -> None:
        """Warn of a client that was used and never closed."""
        if getattr(self, "_loop_state", None) is not None:
            text = "unclosed DistinctClient: use `async with DistinctClient(...)`, or `await client.close()`"
            warnings.warn(text, ResourceWarning, source=self, stacklevel=2)


def _belongs_elsewhere(state: LoopState, loop: asyncio.AbstractEventLoop) -> bool:
    return state.loop is not loop or state.pid != os.getpid()


def _elsewhere_error(state: LoopState) -> ClientStateError:
    """Return the error for a client that another process, or another loop that is still open, is using."""
    if state.pid != os.getpid():
        hint = "make a client after the fork, in each process"
        return ClientStateError(f"the client was used in another process (pid {state.pid}): {hint}")
    hint = "make one client per loop (one per thread)"
    return ClientStateError(f"the client belongs to another event loop, which is still open: {hint}")


async def drain(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel the tasks and wait until each has ended, also if the caller is cancelled meanwhile."""
    pending = set(tasks)
    for task in pending:
        task.cancel()
    cancellation: asyncio.CancelledError | None = None
    while pending:
        try:
            _, pending = await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cancellation, pending = error, {task for task in pending if not task.done()}
    for task in tasks:
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not warn
    if cancellation is not None:
        raise cancellation


async def _close_with_loop(session: "Session") -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await session.close()
