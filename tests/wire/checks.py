"""What every test on the wire asks of an error, of the client after it, and of the connections."""

from __future__ import annotations

import asyncio
import pickle
import traceback
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import pytest

from distinct_async import DistinctClient, RetryPolicy, Timeouts
from distinct_async.errors import DistinctError

from .server import FaultServer

KEY = "distinct-key-0f9d2c77"
VANTIO_KEY = "sk_vantio-key-5b1e8a41"
KEYS = (KEY, VANTIO_KEY)

USER_ID = "user-8c1d-of-a-visitor"
ADDRESS = "203.0.113.77"
USER_AGENT = "Mozilla/5.0 (Phone of a visitor)"
PERSONAL = (USER_ID, ADDRESS, USER_AGENT)

AT_ONCE = RetryPolicy(attempts=3, base=0, cap=0)
ROOMY = Timeouts(connect=5, attempt=5)  # nothing that responses is ever this slow
BRIEF = Timeouts(connect=0.2, attempt=0.2)  # for what never responses

Build = Callable[..., DistinctClient]


@dataclass(frozen=True)
class Ask:
    """One way to call: the coroutine, and the name that its errors must tell."""

    operation: str
    vendor: str
    call: Callable[[DistinctClient], Awaitable[object]]

    def __str__(self) -> str:
        return self.operation


USER = Ask("metrics.user", "distinct", lambda client: client.metrics.user(USER_ID, experience_id="exp-1"))
EXPERIENCE = Ask("metrics.experience", "distinct", lambda client: client.metrics.experience("exp-1"))
TOUCHPOINT = Ask("metrics.touchpoint", "distinct", lambda client: client.metrics.touchpoint("tp-1"))
IMPRESSION = Ask("impressions.get", "vantio", lambda client: client.impressions.get("imp_123abc"))
BOTH_VENDORS = pytest.mark.parametrize("ask", [USER, IMPRESSION], ids=str)


async def failure(call: Awaitable[object]) -> DistinctError:
    """The error that this call ends in; any other end fails the test."""
    with pytest.raises(DistinctError) as caught:
        await call
    return caught.value


def family(error: BaseException) -> Iterator[BaseException]:
    """The error with all its causes and contexts, shown or suppressed."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [other for other in (one.__cause__, one.__context__) if other is not None]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions


def rendered(error: BaseException) -> str:
    """Every traceback of the family, with the locals of every frame."""
    return "\n".join(
        "".join(traceback.TracebackException.from_exception(one, capture_locals=True).format()) for one in family(error)
    )


def shown(error: BaseException) -> str:
    """Everything of an error that ends up in a log, a terminal, a queue or an error tracker."""
    parts = [text for one in family(error) for text in (str(one), repr(one))]
    if isinstance(error, DistinctError):
        parts += [pickle.dumps(error).decode("latin-1"), repr(vars(error))]
    return "\n".join([*parts, rendered(error)])


def assert_holds_no_key(error: BaseException) -> None:
    text = shown(error)
    assert [] == [key for key in KEYS if key in text]


def assert_correct(error: DistinctError, ask: Ask, attempts: int) -> None:
    """It names operation, vendor, attempts and time, comes back from a pickle, and gives nothing away."""
    assert ask.operation in str(error)
    assert (ask.vendor, attempts) == (error.vendor, error.attempts)
    assert f"{attempts} attempt" in str(error)
    assert 0 <= error.elapsed < 10
    copy = pickle.loads(pickle.dumps(error))
    assert (type(error), str(error), repr(error)) == (type(copy), str(copy), repr(copy))
    assert [] == [word for word in PERSONAL if word in str(error)]
    assert_holds_no_key(error)


async def assert_recovers(client: DistinctClient, server: FaultServer, ask: Ask, *, kept: int = 1) -> None:
    """The same client completes an ordinary call, keeps no more connections than these, and closes them when closed."""
    server.calm()
    before = len(server.requests)
    assert None is not await ask.call(client)
    assert before < len(server.requests)
    assert await server.settles(at_most=kept)
    await client.close()
    assert await server.settles(at_most=0)
    assert set() == asyncio.all_tasks() - server.tasks - {asyncio.current_task()}
