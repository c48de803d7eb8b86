"""An outage under load: no storm of retries while it lasts, and retries work again when it is over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from distinct_async import RetryPolicy
from distinct_async.errors import DistinctError, RateLimitError, ServerError, TransportError

from .checks import IMPRESSION, USER, Ask, Build, assert_recovers, failure
from .responses import whole
from .server import Behaviour, say, say_and_close

if TYPE_CHECKING:
    from distinct_async import DistinctClient

    from .server import FaultServer

pytestmark = pytest.mark.usefixtures("_no_debug")

CALLS = 400
FOUR = RetryPolicy(attempts=4, base=0, cap=0)
DOWN = say(whole({"statusCode": 503, "message": "Down for maintenance"}, 503))
BUSY = say(whole({"statusCode": 429, "message": "Slow down"}, 429))
CUT = say_and_close(whole(b"x" * 99)[:-9])


def call(client: DistinctClient, ask: Ask, number: int) -> asyncio.Future[object]:
    """One call of this vendor; each impression is another one, so that none is asked for on behalf of others."""
    return asyncio.ensure_future(ask.call(client) if ask is USER else client.impressions.get(f"imp_{number}"))


async def storm(client: DistinctClient, ask: Ask) -> set[type]:
    ends = await asyncio.gather(*(call(client, ask, n) for n in range(CALLS)), return_exceptions=True)
    return {type(end) for end in ends}


every_outage = pytest.mark.parametrize(
    ("outage", "due"),
    [
        pytest.param(DOWN, ServerError, id="503"),
        pytest.param(BUSY, RateLimitError, id="429"),
        pytest.param(CUT, TransportError, id="cut bodies"),
    ],
)
both = pytest.mark.parametrize("ask", [USER, IMPRESSION], ids=str)


@both
@every_outage
async def test_an_outage_causes_no_storm_and_single_failures_are_retried_again_after_it(
    server: FaultServer, build: Build, ask: Ask, outage: Behaviour, due: type[DistinctError]
) -> None:
    client = build(retry=FOUR)
    server.steady = outage
    assert {due} == await storm(client, ask)
    assert CALLS < len(server.requests) < 1.35 * CALLS

    before = len(server.requests)
    error = await failure(call(client, ask, CALLS))
    assert (due, 1, 1) == (type(error), error.attempts, len(server.requests) - before)

    server.calm()
    for number in range(20):
        await call(client, ask, CALLS + 1 + number)
    for number in range(5):
        server.script(outage)
        before = len(server.requests)
        await call(client, ask, CALLS + 50 + number)
        assert 2 == len(server.requests) - before
    await assert_recovers(client, server, ask, kept=16)


async def test_one_vendors_outage_takes_no_retries_from_the_other(server: FaultServer, build: Build) -> None:
    client = build(retry=FOUR)
    server.steady = DOWN
    assert {ServerError} == await storm(client, IMPRESSION)
    server.calm()
    server.script(DOWN, DOWN)
    before = len(server.requests)
    await USER.call(client)
    assert 3 == len(server.requests) - before
    await assert_recovers(client, server, USER, kept=16)


async def test_a_view_spends_the_same_budget(server: FaultServer, build: Build) -> None:
    client = build(retry=FOUR)
    server.steady = DOWN
    assert {ServerError} == await storm(client.with_options(timeout=9), USER)
    assert 1 == (await failure(USER.call(client))).attempts
    await assert_recovers(client, server, USER, kept=16)
