"""Turns verdicts into deeds: wait for a place, send, sleep, return, raise.

The order of one call is: slot, pause, rate, send. The slot is held over all attempts; time in the queue for it, or for
the rate, is never a timeout. Everything that belongs to one event loop is one object, `LoopState`, made on first use.
"""

import asyncio
import logging
import os
import random
import sys
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, evolve, field, frozen

from distinct_async.config import Limits, Settings
from distinct_async.errors import APIError, ClientStateError, DecodeError, DistinctError, RequestTimeoutError
from distinct_async.sansio import dialect
from distinct_async.sansio.messages import Failure, Reading, Reply, Request, Vendor
from distinct_async.sansio.retry import Again, Budget, judge, retry_after

if TYPE_CHECKING:
    from distinct_async.session import Session

T = TypeVar("T")

log: logging.Logger = logging.getLogger("distinct_async")

_SPREAD = 0.1  # of a pause, at most a second: over so much time the starts are spread after it


@define(eq=False)
class Gate:
    """One vendor's door: so many at a time, so many a second, and nobody during a pause."""

    slots: asyncio.Semaphore
    rate: float | None
    pause_until: float = 0.0  # loop time
    pause_length: float = 0.0
    next_start: float = 0.0

    def hold(self, now: float, seconds: float) -> bool:
        """Let nobody start for so long. True where this begins a pause, False where one is going on already."""
        begins = now >= self.pause_until
        if now + seconds > self.pause_until:
            self.pause_until, self.pause_length = now + seconds, seconds
        return begins

    def turn(self, now: float) -> float:
        """Take the next start that the rate allows, and return how long it is until then."""
        if self.rate is None:
            return 0.0
        start = max(now, self.next_start)
        self.next_start = start + 1 / self.rate
        return start - now


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


@define
class Call:
    """The clock of one call. `ends` moves on by the time that the rate made it wait."""

    asked: float
    began: float
    ends: float
    waited: float = 0.0
    on_wire: float = 0.0
    attempts: int = 0
    taken: int = 0  # from the budget, for the last retry


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
        from importlib.metadata import version

        from distinct_async.session import Session

        settings = self.settings
        agent = f"distinct-async/{version('distinct-async')} Python/{sys.version_info[0]}.{sys.version_info[1]}"
        gates: dict[Vendor, Gate] = {
            vendor: Gate(asyncio.Semaphore(settings.max_concurrency), settings.rate_limit)
            for vendor in settings.base_urls
        }
        state = LoopState(loop, Session(settings, agent), gates)
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


@frozen(eq=False)
class Engine:
    """Makes calls under one set of limits."""

    core: Core
    limits: Limits
    dice: Callable[[], float] = random.random

    async def call(self, request: Request, read: Callable[[Reply], T]) -> T:
        """One call, to the model that `read` makes of its answer."""
        reply = await self.fetch(request)
        return self.reading(reply, read)

    def reading(self, reply: Reply, read: Callable[[Reply], T]) -> T:
        """`read(reply)`; a `DecodeError` is told which call it belongs to."""
        try:
            return read(reply)
        except DecodeError as wrong:
            error = wrong.with_traceback(None)
        call = Call(0.0, 0.0, 0.0, reply.waited, reply.on_wire, reply.attempts)
        raise self._finished(error, reply.request, call, reply.waited + reply.on_wire)

    @staticmethod
    def start(state: LoopState, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task that `close` waits for."""
        task = state.loop.create_task(coroutine)
        state.tasks.add(task)
        task.add_done_callback(state.tasks.discard)
        return task

    async def fetch(self, request: Request, state: LoopState | None = None) -> Reply:
        """One call, to its answer's payload, still as JSON text.

        :param state: the loop's, where it was looked up already.
        """
        self.core.settings.key(request.vendor)
        state = state or self.core.state()
        loop, gate = state.loop, state.gates[request.vendor]
        state.calls += 1
        try:
            asked = loop.time()
            async with gate.slots:
                now = loop.time()
                call = Call(asked, now, now + (self.limits.deadline or float("inf")), now - asked)
                reading = await self._attempt(request, state, gate, call, now)
                while reading.error is not None:
                    await self._wait(reading, reading.error, request, state, gate, call)
                    reading = await self._attempt(request, state, gate, call, loop.time())
        finally:
            state.calls -= 1
            if not state.calls:
                state.idle.set()
        self.core.budgets[request.vendor].give_back(call.taken)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s: answered", _name(request), extra=_figures(request, call))
        return Reply(reading.payload, request, call.attempts, call.waited, call.on_wire)

    async def _attempt(self, request: Request, state: LoopState, gate: Gate, call: Call, now: float) -> Reading:
        """One attempt, after the pause and the rate have let it pass."""
        loop, limits = state.loop, self.limits.timeouts
        if gate.pause_until or gate.rate:
            if not await self._pass(state, gate, call):
                text = "a pause that the server asked for outlasts the deadline"
                return Reading(error=RequestTimeoutError(text, limit="deadline"))
            now = loop.time()
        left = call.ends - now
        if left <= 0 or state.closing.is_set():
            return Reading(error=RequestTimeoutError("the deadline has passed", limit="deadline"))
        call.attempts += 1
        outcome = await state.session.send(request, min(limits.attempt, left), limits.connect)
        call.on_wire += loop.time() - now
        if isinstance(outcome, Failure) and outcome.limit == "attempt" and left < limits.attempt:
            outcome = evolve(
                outcome,
                limit="deadline",
                text=f"no complete answer within the deadline of {self.limits.deadline:.3g} s",
            )
        return dialect.read(request, outcome)

    async def _wait(
        self, reading: Reading, error: DistinctError, request: Request, state: LoopState, gate: Gate, call: Call
    ) -> None:
        """Wait until the next attempt; raises the error where there is to be none."""
        now = state.loop.time()
        if state.closing.is_set():
            error = ClientStateError("the client was closed during this call")
        elif state.session.closed:
            error = ClientStateError("the aiohttp.ClientSession beneath the client was closed during this call")
        elif (wait := self._judge(request, reading, gate, call, now)) is not None:
            await self._sleep(state, call, wait)
            return
        raise self._finished(error, request, call, now - call.asked)

    async def _pass(self, state: LoopState, gate: Gate, call: Call) -> bool:
        """Wait for the pause, then for the rate. False where the pause would outlast the call's deadline."""
        loop = state.loop
        while not state.closing.is_set():
            if (paused := gate.pause_until - loop.time()) > 0:
                if gate.pause_until >= call.ends:
                    return False
                spread = self.dice() * min(1.0, gate.pause_length * _SPREAD)
                await self._sleep(state, call, paused + spread)
                continue
            turn = gate.turn(loop.time())
            call.ends += turn
            if turn > 0:
                await self._sleep(state, call, turn)
            if gate.pause_until <= loop.time():
                break
        return True

    def _judge(self, request: Request, reading: Reading, gate: Gate, call: Call, now: float) -> float | None:
        """Seconds until the next attempt; None where this was the last."""
        policy, budget = self.limits.retry, self.core.budgets[request.vendor]
        moment = datetime.now(UTC)
        asked = retry_after(reading.retry_after, moment)
        if isinstance(reading.error, APIError):
            reading.error.retry_after = asked
        if reading.throttled and asked and asked <= policy.max_retry_after and policy.sleep and gate.hold(now, asked):
            log.warning("%s asks for a pause of %.3g s: all requests to it wait", request.vendor, asked)
        verdict = judge(
            policy, reading, call.attempts, now - call.began, moment, self.dice(), deadline=call.ends - call.began
        )
        if not isinstance(verdict, Again) or not (taken := budget.take(throttled=reading.throttled)):
            return None
        call.taken = taken
        wait = verdict.wait if policy.sleep else 0.0
        text, name = "%s: attempt %d failed (%s), again after %.3g s", type(reading.error).__name__
        log.info(text, _name(request), call.attempts, name, wait, extra=_figures(request, call))
        return wait

    async def _sleep(self, state: LoopState, call: Call, seconds: float) -> None:
        """Sleep, or until the client is closed."""
        began = state.loop.time()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await state.closing.wait()
        call.waited += state.loop.time() - began

    def _finished(self, error: DistinctError, request: Request, call: Call, elapsed: float) -> DistinctError:
        """The error, with what only we know, and without any key that an answer may have echoed."""
        error.vendor, error.operation = request.vendor, request.operation
        error.attempts, error.elapsed = call.attempts, elapsed
        error.waited, error.on_wire = call.waited, call.on_wire
        blank = self.core.settings.blank
        error.message = blank(error.message)
        if isinstance(error, DecodeError):
            error.excerpt = blank(error.excerpt)[: dialect.EXCERPT_KEPT]
        elif isinstance(error, APIError):
            error.body = blank(error.body)[: dialect.BODY_KEPT]
            error.message = error.message if error.stated else error.message[: dialect.EXCERPT_KEPT]
            error.request_id = error.request_id and blank(error.request_id)
            headers = [(blank(name), blank(text)) for name, text in error.headers.items()]
            error.headers.clear()
            error.headers.update(headers)
        error.args = (error.message,)
        return error


def _name(request: Request) -> str:
    return request.operation.partition("(")[0]


def _figures(request: Request, call: Call) -> dict[str, object]:
    """For log records: figures and the operation's name, nothing else."""
    return {
        "operation": _name(request),
        "attempts": call.attempts,
        "waited": round(call.waited, 6),
        "on_wire": round(call.on_wire, 6),
    }
