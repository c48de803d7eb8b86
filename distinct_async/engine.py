"""Executes retry decisions: waits for a slot, the pause and the rate, sends, waits again, returns or raises.

The order of one call is: slot, pause, rate, send. The slot is held over all attempts. Time in the queue for it, or for
the rate, is never a timeout. A call that is cancelled while it waits gives back its slot and its retry tokens.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from datetime import UTC, datetime
from functools import partial
from math import inf
from typing import Any, TypeVar, cast

from attrs import define, evolve, field, frozen

from distinct_async.config import CallOptions
from distinct_async.core import Core, Gate, LoopState
from distinct_async.errors import (
    Annotations,
    APIError,
    ClientStateError,
    DecodeError,
    DistinctError,
    RequestTimeoutError,
    TransportError,
    annotate,
)
from distinct_async.redaction import hide
from distinct_async.sansio import dialect
from distinct_async.sansio.messages import Attempt, AttemptCallback, NoResponse, Reading, Reply, Request
from distinct_async.sansio.retry import callback_problem, invalid, judge

T = TypeVar("T")

log: logging.Logger = logging.getLogger("distinct_async")

_REQUEST_ID_KEPT = 200  # characters of a request id
_PAUSE_SPREAD = 0.1  # of a pause, at most a second: requests start over that much time after it


@define
class Call:
    """One call: what it has cost so far, and how long it may take.

    Attributes:
        request: The request.
        asked: Loop time of the call.
        started: Loop time at which it got its slot.
        deadline: Loop time at which it must have ended; moved on by the time in the queue for the rate.
        waited: Seconds in queues, in pauses and between attempts.
        on_wire: Seconds of the attempts.
        attempts: Requests sent.
        tokens: What the last retry took from the retry budget.
        unsent: What a retry that is still waiting took from it.
        duration: Seconds of the attempt that has just ended; None once it is reported.
        status: Its status; None without a response.
        headers: The headers of its response.
        reported: How much of `waited` earlier attempts have reported.
    """

    request: Request[Any]
    asked: float
    started: float = 0.0
    deadline: float = inf
    waited: float = 0.0
    on_wire: float = 0.0
    attempts: int = 0
    tokens: int = 0
    unsent: int = 0
    duration: float | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default={}, repr=False)  # may echo a key; nobody writes to the default
    reported: float = 0.0

    def reply(self, value: T) -> Reply[T]:
        """Return the value of the response with what it cost."""
        return Reply(value, self.request, self.attempts, self.waited, self.on_wire)

    def log_fields(self) -> dict[str, object]:
        """Figures and the operation's name for log records, nothing else."""
        times = {"waited": round(self.waited, 6), "on_wire": round(self.on_wire, 6)}
        return {"operation": self.request.name, "attempts": self.attempts, **times}


@define(eq=False)
class Observer:
    """Calls the user's `on_attempt`. Its exceptions end nothing: the first is logged, later ones are dropped.

    Attributes:
        callback: The user's function.
        failed: Whether it has raised an exception.
    """

    callback: AttemptCallback
    failed: bool = False

    @classmethod
    def of(cls, callback: AttemptCallback | None) -> "Observer | None":
        """Return an observer that calls this function; None for none.

        Raises:
            ConfigurationError: If it is not a function, or one that would have to be awaited.
        """
        if callback is None:
            return None
        if problem := callback_problem(callback):
            raise invalid("on_attempt", problem)
        return cls(callback)

    def notify(self, attempt: Attempt) -> None:
        """Call the function."""
        try:
            self.callback(attempt)
        except Exception:  # metrics must not end the call that they measure
            if not self.failed:
                log.exception("on_attempt raised an exception; further ones are not logged")
            self.failed = True


@frozen(eq=False)
class Engine:
    """Makes calls.

    Attributes:
        core: What all views of a client share.
        options: The limits of each call.
        observer: Is notified of each attempt.
        random: Returns a random number, drawn evenly from [0, 1).
    """

    core: Core
    options: CallOptions
    observer: Observer | None = None
    random: Callable[[], float] = random.random

    async def call(self, request: Request[T]) -> T:
        """Return the value that the request's decoder makes of the response."""
        return (await self.fetch(request)).value

    @staticmethod
    def start(state: LoopState, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Return a task that `close` waits for."""
        task = state.loop.create_task(coroutine)
        state.tasks.add(task)
        task.add_done_callback(state.tasks.discard)
        return task

    async def fetch(self, request: Request[T], state: LoopState | None = None) -> Reply[T]:
        """Make one call.

        Args:
            request: The request.
            state: The loop's state, if the caller has it already.

        Returns:
            The response's payload, and what it cost.

        Raises:
            DistinctError: The error of the last attempt, with all that is known of the call.
        """
        self.core.settings.key(request.vendor)
        state = state or self.core.state()
        gate, budget = state.gates[request.vendor], self.core.budgets[request.vendor]
        call = Call(request, state.loop.time())
        state.calls += 1
        try:
            async with gate.slots:
                call.started = state.loop.time()
                call.waited = call.started - call.asked
                if self.options.deadline is not None:
                    call.deadline = call.started + self.options.deadline
                attempt = self._attempt if gate.limiter is None else partial(self._attempt_in_limiter, gate.limiter)
                while (reading := await attempt(state, gate, call)).error is not None:
                    await self._wait_for_retry(state, gate, call, reading, reading.error)
        except asyncio.CancelledError:
            self._report_attempt(call, "CancelledError")
            raise
        finally:
            if call.unsent:
                budget.give_back(call.unsent)
            state.calls -= 1
            if not state.calls:
                state.idle.set()
        budget.give_back(call.tokens)
        if self.observer is not None or log.isEnabledFor(logging.DEBUG):
            self._report_attempt(call)
        return call.reply(cast("T", reading.value))

    async def _attempt_in_limiter(
        self, limiter: AbstractAsyncContextManager[object, bool | None], state: LoopState, gate: Gate, call: Call
    ) -> Reading[Any]:
        """Make one attempt inside the user's limiter, after the pause."""
        if gate.pause_until and (error := await self._wait_for_turn(state, gate, call)) is not None:
            return Reading(error=error)
        asked_at = state.loop.time()
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(None) as wait:  # until the client is closed
                    state.waits.add(wait)
                    try:
                        await stack.enter_async_context(limiter)
                    finally:
                        state.waits.discard(wait)
                waited = state.loop.time() - asked_at
                call.waited += waited
                call.deadline += waited  # time in the queue for the rate is never a timeout
                return await self._attempt(state, gate, call)
        except Exception as error:  # the attempt itself raises none
            if state.closing.is_set():
                return Reading(error=ClientStateError("the client was closed during this call"))
            limiter_error = TransportError(f"the limiter that was given as rate_limit raised {type(error).__name__}")
            raise self._complete_error(limiter_error, call.reply(None).annotations) from error
        raise asyncio.CancelledError  # the limiter has suppressed it

    async def _attempt(self, state: LoopState, gate: Gate, call: Call) -> Reading[Any]:
        """Make one attempt, after the pause and the rate have let it pass."""
        loop, timeouts = state.loop, self.options.timeouts
        if (gate.pause_until or gate.rate) and (error := await self._wait_for_turn(state, gate, call)) is not None:
            return Reading(error=error)
        started_at = loop.time()
        seconds_left = call.deadline - started_at
        if seconds_left <= 0 or state.closing.is_set():
            text = f"the deadline of {self.options.deadline or inf:.3g} s passed before the request could be sent"
            return Reading(error=RequestTimeoutError(text, limit="deadline"))
        call.unsent = 0
        call.attempts += 1
        call.status = None
        try:
            outcome = await state.session.send(call.request, min(timeouts.attempt, seconds_left), timeouts.connect)
        finally:
            call.duration = loop.time() - started_at
            call.on_wire += call.duration
        if not isinstance(outcome, NoResponse):
            call.status, call.headers = outcome.status, outcome.headers
        elif outcome.limit == "attempt" and seconds_left < timeouts.attempt:
            text = f"no complete response within the deadline of {self.options.deadline:.3g} s"
            outcome = evolve(outcome, limit="deadline", text=text)
        reading = dialect.read(call.request, outcome)
        if reading.foreign:
            state.session.discard_connection()
        return reading

    async def _wait_for_turn(self, state: LoopState, gate: Gate, call: Call) -> DistinctError | None:
        """Wait for the pause and the rate, and take a turn; return an error if the pause outlasts the deadline."""
        loop = state.loop
        while not state.closing.is_set():
            now = loop.time()
            if (paused := gate.pause_until - now) > 0:
                if gate.pause_until >= call.deadline:
                    deadline_left = f"the {max(0.0, call.deadline - now):.3g} s left before the deadline"
                    text = f"the server's Retry-After ({paused:.3g} s more) exceeds {deadline_left}"
                    return RequestTimeoutError(text, limit="deadline")
                await self._sleep_until_closed(
                    state, paused + self.random() * min(1.0, gate.pause_length * _PAUSE_SPREAD)
                )
                call.waited += loop.time() - now
                continue
            async with gate.queue:
                while gate.pause_until <= (turn_at := loop.time()) < gate.next_start and not state.closing.is_set():
                    await self._sleep_until_closed(state, gate.next_start - turn_at)
                call.waited += turn_at - now
                call.deadline += turn_at - now  # time in the queue for the rate is never a timeout
                if turn_at >= call.deadline:
                    break
                if turn_at >= gate.pause_until and not state.closing.is_set():
                    gate.take_turn(turn_at)
                    break
        return None

    async def _wait_for_retry(
        self, state: LoopState, gate: Gate, call: Call, reading: Reading[Any], error: DistinctError
    ) -> None:
        """Wait until the next attempt; raise the error if there is none."""
        now = state.loop.time()
        if state.closing.is_set():
            error = ClientStateError("the client was closed during this call")
        elif state.session.closed:
            error = ClientStateError("the aiohttp.ClientSession of the client was closed during this call")
        else:
            budget = self.core.budgets[call.request.vendor]
            decision = judge(
                self.options.retry,
                reading,
                attempt=call.attempts,
                elapsed=now - call.started,
                now=datetime.now(UTC),
                jitter=self.random(),
                deadline=call.deadline - call.started,
                tokens=budget.tokens,
            )
            error.reason = decision.reason
            if isinstance(error, APIError):
                error.retry_after = decision.retry_after
            if decision.pause and gate.hold(now, decision.pause):
                log.warning(
                    "%s asks for a pause of %.3g s: all requests to it wait", call.request.vendor, decision.pause
                )
            if decision.wait is not None:
                budget.tokens -= decision.tokens
                call.tokens = call.unsent = decision.tokens
                self._report_attempt(call, error, decision.wait)
                await self._sleep_until_closed(state, decision.wait)
                call.waited += state.loop.time() - now
                return
        self._report_attempt(call, error)
        raise self._complete_error(error, {**call.reply(None).annotations, "elapsed": now - call.asked})

    def _report_attempt(
        self, call: Call, error: DistinctError | str | None = None, retry_in: float | None = None
    ) -> None:
        """Report an attempt that has just ended, if there is one, to the log and to `on_attempt`."""
        if call.duration is None:
            return
        request, duration, waited = call.request, call.duration, call.waited - call.reported
        call.duration, call.reported = None, call.waited
        status = error.status if isinstance(error, APIError) else call.status
        request_id = dialect.request_id(call.headers) if call.status is not None else None
        if request_id is not None:
            request_id = hide(self.core.settings.blank(request_id), request.private)[:_REQUEST_ID_KEPT]
        name = error if error is None or isinstance(error, str) else type(error).__name__
        level = logging.DEBUG if error is None else logging.INFO if retry_in is not None else None
        if level is not None and log.isEnabledFor(level):
            fields = {**call.log_fields(), "status": status, "request_id": request_id, "duration": round(duration, 6)}
            text = f"{status or 'no response'} in {duration:.3f} s" + (f", request id {request_id}" * bool(request_id))
            if retry_in is None:
                log.debug("%s: attempt %d succeeded: %s", request.name, call.attempts, text, extra=fields)
            else:
                fields |= {"error": name, "retry_in": round(retry_in, 6)}
                message = "%s: attempt %d failed (%s), retrying in %.3g s: %s"
                log.info(message, request.name, call.attempts, name, retry_in, text, extra=fields)
        if self.observer is not None:
            self.observer.notify(
                Attempt(
                    request.vendor, request.name, call.attempts, status, request_id, waited, duration, name, retry_in
                )
            )

    @staticmethod
    async def _sleep_until_closed(state: LoopState, seconds: float) -> None:
        """Sleep, or until the client is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await state.closing.wait()

    def _complete_error(self, error: DistinctError, annotations: Annotations) -> DistinctError:
        """Return the error with what is known of its call, and without any key that the server may have echoed."""
        blank_keys = self.core.settings.blank
        error.message = blank_keys(error.message)
        if isinstance(error, DecodeError):
            error.excerpt = blank_keys(error.excerpt)[: dialect.EXCERPT_KEPT]
        elif isinstance(error, APIError):
            error.body = blank_keys(error.body)[: dialect.BODY_KEPT]
            error.message = error.message if error.stated else error.message[: dialect.EXCERPT_KEPT]
            error.request_id = error.request_id and blank_keys(error.request_id)
            headers = [(blank_keys(name), blank_keys(text)) for name, text in error.headers.items()]
            error.headers.clear()
            error.headers.update(headers)
        return annotate(error, **annotations)
