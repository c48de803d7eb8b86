"""Turns verdicts into deeds: wait for a place, send, sleep, return, raise.

The order of one call is: slot, pause, rate, send. The slot is held over all attempts. Time in the queue for it, or for
the rate, is never a timeout. A call that is cancelled while it waits gives back its slot and its retry tokens.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

from attrs import define, evolve, frozen

from distinct_async.config import Limits
from distinct_async.core import Core, Gate, LoopState
from distinct_async.errors import APIError, ClientStateError, DecodeError, DistinctError, RequestTimeoutError
from distinct_async.sansio import dialect
from distinct_async.sansio.messages import Failure, Reading, Reply, Request
from distinct_async.sansio.retry import Again, judge, retry_after

T = TypeVar("T")

log: logging.Logger = logging.getLogger("distinct_async")

_SPREAD = 0.1  # of a pause, at most a second: over so much time the starts are spread after it


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
    unsent: int = 0  # from the budget, for a retry that is still waiting


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
        asked = loop.time()
        call = Call(asked, asked, asked)
        try:
            async with gate.slots:
                now = loop.time()
                call.began, call.ends, call.waited = now, now + (self.limits.deadline or float("inf")), now - asked
                reading = await self._attempt(request, state, gate, call, now)
                while reading.error is not None:
                    await self._wait(reading, reading.error, request, state, gate, call)
                    reading = await self._attempt(request, state, gate, call, loop.time())
        finally:
            if call.unsent:
                self.core.budgets[request.vendor].give_back(call.unsent)
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
            if (error := await self._admit(state, gate, call)) is not None:
                return Reading(error=error)
            now = loop.time()
        elif now >= call.ends or state.closing.is_set():
            return Reading(error=self._too_late())
        left = call.ends - now
        call.unsent = 0
        call.attempts += 1
        outcome = await state.session.send(request, min(limits.attempt, left), limits.connect)
        call.on_wire += loop.time() - now
        if isinstance(outcome, Failure) and outcome.limit == "attempt" and left < limits.attempt:
            outcome = evolve(
                outcome,
                limit="deadline",
                text=f"no complete answer within the deadline of {self.limits.deadline:.3g} s",
            )
        reading = dialect.read(request, outcome)
        if reading.foreign:
            state.session.discard_connection()
        return reading

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
            await self._sleep(state, wait)
            call.waited += state.loop.time() - now
            return
        raise self._finished(error, request, call, now - call.asked)

    async def _admit(self, state: LoopState, gate: Gate, call: Call) -> DistinctError | None:
        """Wait for the pause and the rate, and take a turn; or return why no request is to be sent."""
        loop = state.loop
        while not state.closing.is_set():
            now = loop.time()
            if (paused := gate.pause_until - now) > 0:
                if gate.pause_until >= call.ends:
                    left = call.ends - now
                    text = (
                        f"the server's Retry-After ({paused:.3g} s left) exceeds the {left:.3g} s before the deadline"
                    )
                    return RequestTimeoutError(text, limit="deadline")
                await self._sleep(state, paused + self.dice() * min(1.0, gate.pause_length * _SPREAD))
                call.waited += loop.time() - now
                continue
            async with gate.queue:
                while gate.pause_until <= (turn := loop.time()) < gate.next_start and not state.closing.is_set():
                    await self._sleep(state, gate.next_start - turn)
                call.waited += turn - now
                call.ends += turn - now  # time in the queue for the rate is never a timeout
                if turn >= call.ends:
                    return self._too_late()
                if turn >= gate.pause_until and not state.closing.is_set():
                    gate.take_turn(turn)
                    return None
        return ClientStateError("the client was closed during this call")

    def _too_late(self) -> RequestTimeoutError:
        text = f"the deadline of {self.limits.deadline:.3g} s passed before the request could be sent"
        return RequestTimeoutError(text, limit="deadline")

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
        call.taken = call.unsent = taken
        wait = verdict.wait if policy.sleep else 0.0
        text, name = "%s: attempt %d failed (%s), again after %.3g s", type(reading.error).__name__
        log.info(text, _name(request), call.attempts, name, wait, extra=_figures(request, call))
        return wait

    @staticmethod
    async def _sleep(state: LoopState, seconds: float) -> None:
        """Sleep, or until the client is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await state.closing.wait()

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
