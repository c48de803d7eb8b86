"""A response to another question: left on an idle connection, or given by a cache that ignores the query."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from distinct_async.errors import DecodeError, PageLoopError, ProtocolError

from . import responses
from .checks import EXPERIENCE, KEY, TOUCHPOINT, USER, Ask, Build, failure
from .responses import IMPRESSION, Json, correct, distinct, whole
from .server import Behaviour, Exchange, FaultServer, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distinct_async import DistinctClient

UNIQUE = Ask("metrics.touchpoint", "distinct", lambda client: client.metrics.touchpoint("tp-1", visits_type="UNIQUE"))
ONE = Ask("impressions.get", "vantio", lambda client: client.impressions.get("imp_123abc"))
LIST = Ask("impressions.list", "vantio", lambda client: client.impressions.list().collect())


def of(touchpoint_id: str, visits_type: str = "TOTAL", **changes: Any) -> Json:
    """A touchpoint's response, as `correct` gives it for tp-1."""
    body = responses.touchpoint(visits_type)
    body["data"]["touchpoints"] |= {"id": touchpoint_id, **changes}
    return body


async def serve_any_touchpoint(exchange: Exchange) -> None:
    query = {name: values[-1] for name, values in parse_qs(urlsplit(exchange.seen.target).query).items()}
    body = of(query["touchpointId"], query.get("visitsType", "TOTAL")) if "touchpointId" in query else None
    await exchange.send(whole(body or correct(exchange.seen.target)))


def unsolicited(body: Json) -> Behaviour:
    """Serve correctly, and send this too when the client has read that."""

    async def behave(exchange: Exchange) -> None:
        await serve_any_touchpoint(exchange)
        await asyncio.sleep(0.02)
        await exchange.send(whole(body))

    return behave


def late(body: Json) -> Behaviour:
    """Send this first, and then what was asked for: the connection is one response behind from here on."""

    async def behave(exchange: Exchange) -> None:
        await exchange.send(whole(body))
        await asyncio.sleep(0.02)
        await serve_any_touchpoint(exchange)

    return behave


@pytest.mark.parametrize("other", ["tp-9", "tp-1", "tp-2"])
async def test_a_connection_with_an_unsolicited_response_is_not_used_again(
    server: FaultServer, client: DistinctClient, other: str
) -> None:
    server.steady = serve_any_touchpoint
    server.script(unsolicited(of(other, totalVisits=77)))

    await client.metrics.touchpoint("tp-1")
    await asyncio.sleep(0.06)
    second = await client.metrics.touchpoint("tp-2")

    assert ("tp-2", 3) == (second.id, second.total_visits)
    assert (2, 2) == (len(server.requests), server.connections)


async def test_a_server_that_greets_with_bytes_is_an_error_and_no_endless_search_for_a_connection(
    server: FaultServer, client: DistinctClient
) -> None:
    server.greeting = b"SSH-2.0-OpenSSH_9.6\r\n"

    assert 3 == (await failure(client.metrics.touchpoint("tp-1"))).attempts


OTHERS: Sequence[tuple[Ask, Json]] = [
    (TOUCHPOINT, of("tp-2")),
    (TOUCHPOINT, of("TP-1")),
    (TOUCHPOINT, of("tp-1 ")),
    (TOUCHPOINT, of("tp-2") | {"statusCode": "200"}),  # not read in one go
    (TOUCHPOINT, of("tp-2", "UNIQUE")),
    (UNIQUE, of("tp-2", "UNIQUE")),
    (UNIQUE, of("tp-2")),
    (ONE, IMPRESSION | {"id": "imp_9"}),
    (ONE, IMPRESSION | {"id": "IMP_123ABC"}),
    (ONE, IMPRESSION | {"id": ""}),
]


@pytest.mark.parametrize(("ask", "body"), OTHERS)
async def test_a_response_for_another_id_closes_the_connection_and_is_retried(
    server: FaultServer, client: DistinctClient, ask: Ask, body: Json
) -> None:
    server.script(say(whole(body)))

    await ask.call(client)

    assert (2, 2) == (len(server.requests), server.connections)


@pytest.mark.parametrize(("ask", "body"), OTHERS)
async def test_a_response_for_another_id_that_stays_is_a_protocol_error(
    server: FaultServer, client: DistinctClient, ask: Ask, body: Json
) -> None:
    server.steady = say(whole(body))

    error = await failure(ask.call(client))

    assert ProtocolError is type(error)
    assert (3, ask.vendor) == (error.attempts, error.vendor)
    assert "but the response is for" in str(error)
    assert "cache or proxy" in str(error)


async def test_a_response_that_came_late_does_not_shift_those_behind_it(
    server: FaultServer, client: DistinctClient
) -> None:
    server.steady = serve_any_touchpoint
    server.script(late(of("tp-9")))

    ids = [(await client.metrics.touchpoint(f"tp-{number}")).id for number in range(1, 6)]

    assert [f"tp-{number}" for number in range(1, 6)] == ids
    assert (6, 2) == (len(server.requests), server.connections)


async def test_one_impression_is_never_kept_under_the_id_of_another(
    server: FaultServer, client: DistinctClient
) -> None:
    server.steady = say(whole(IMPRESSION | {"id": "b"}))

    assert isinstance(await failure(client.impressions.get("a")), ProtocolError)
    assert "b" == (await client.impressions.get("b")).id
    server.calm()
    assert "a" == (await client.impressions.get("a")).id


async def test_of_many_impressions_none_is_given_for_another(server: FaultServer, client: DistinctClient) -> None:
    server.script(*[say(whole(IMPRESSION | {"id": "x"}))] * 2)

    assert ["a", "b", "c"] == [each.id async for each in client.impressions.get_many(["a", "b", "c"])]
    server.steady = say(whole(IMPRESSION | {"id": "x"}))
    with pytest.raises(ProtocolError):
        [each async for each in client.impressions.get_many(["d"], missing="skip")]


def page(offset: int, *, touchpoint_id: str = "tp-1", echo: int | None = None, word: str = "total") -> Json:
    """Two of six visits."""
    items = [{"userId": f"u-{offset + row}", "timestampUTC": f"2024-01-01T10:00:0{offset + row}Z"} for row in range(2)]
    details = {"items": items, "pagination": {"offset": offset if echo is None else echo, "pageSize": 2}}
    touchpoint = {"id": touchpoint_id, "name": "n", "value": "v", f"{word}Visits": 6, f"{word}VisitsDetails": details}
    return distinct({"touchpoints": touchpoint})


@pytest.mark.parametrize("prefetch", [1, 4])
@pytest.mark.parametrize(
    "wrong", [page(2, touchpoint_id="tp-2"), page(2, touchpoint_id="tp-2", word="unique"), page(0), page(4)]
)
async def test_a_walk_asks_again_for_a_page_of_another_touchpoint_or_offset(
    server: FaultServer, client: DistinctClient, wrong: Json, prefetch: int
) -> None:
    confused = True

    async def serve(exchange: Exchange) -> None:
        nonlocal confused
        offset = int(parse_qs(urlsplit(exchange.seen.target).query).get("offset", ["0"])[0])
        if confused and offset == 2:
            confused = False
            await exchange.send(whole(wrong))
        else:
            await exchange.send(whole(page(offset)))

    server.steady = serve
    async with client.metrics.total_visits("tp-1", page_size=2, prefetch=prefetch).run() as run:
        rows = [row.user_id async for row in run]

    assert [f"u-{row}" for row in range(6)] == rows
    assert run.report.complete


async def test_a_walk_whose_pages_become_those_of_another_touchpoint_ends_in_an_error_with_its_checkpoint(
    server: FaultServer, client: DistinctClient
) -> None:
    server.script(say(whole(page(0))))
    server.steady = say(whole(page(2, touchpoint_id="tp-2")))

    error = await failure(client.metrics.total_visits("tp-1", page_size=2, prefetch=1).collect())

    assert ProtocolError is type(error)
    assert error.checkpoint is not None
    assert 2 == error.checkpoint.position


@pytest.mark.parametrize("echo", [0, 1, 50])
async def test_a_page_that_says_to_be_at_another_offset_is_not_given(
    server: FaultServer, client: DistinctClient, echo: int
) -> None:
    server.steady = say(whole(page(2, echo=echo)))

    error = await failure(client.metrics.touchpoint("tp-1", page_size=2, offset=2))

    assert (ProtocolError, 3) == (type(error), error.attempts)
    assert f"requested offset 2, but the server returned offset {echo}" in str(error)


async def test_a_walk_whose_pages_say_to_be_at_another_offset_is_a_loop(
    server: FaultServer, client: DistinctClient
) -> None:
    server.steady = say(whole(page(0)))

    error = await failure(client.metrics.total_visits("tp-1", page_size=2, prefetch=1).collect())

    assert PageLoopError is type(error)
    assert 3 == len(server.requests)


SHAPES: dict[Ask, Json] = {
    EXPERIENCE: responses.experience(),
    USER: responses.user(),
    TOUCHPOINT: responses.touchpoint(),
    UNIQUE: responses.touchpoint("UNIQUE"),
    ONE: IMPRESSION,
    LIST: {"impressions": [IMPRESSION]},
}


NAMES = ["experience", "user", "TOTAL", "UNIQUE", "impression", "list"]


@pytest.mark.parametrize("body", SHAPES.values(), ids=NAMES)
@pytest.mark.parametrize("ask", SHAPES, ids=NAMES)
async def test_a_response_of_another_shape_is_a_decode_error_and_its_connection_is_closed(
    server: FaultServer, client: DistinctClient, ask: Ask, body: Json
) -> None:
    if body is SHAPES[ask] or (ask.vendor == "vantio") is not (body is IMPRESSION or "impressions" in body):
        return  # its own, or the other vendor's
    server.script(say(whole(body)))

    assert isinstance(await failure(ask.call(client)), DecodeError)
    assert 1 == len(server.requests)
    await ask.call(client)
    assert 2 == server.connections


@pytest.mark.parametrize("ask", [TOUCHPOINT, ONE], ids=str)
@pytest.mark.parametrize("found", [None, 5, ...])
async def test_a_missing_id_is_a_decode_error_as_ever(
    server: FaultServer, client: DistinctClient, ask: Ask, found: object
) -> None:
    body = of("tp-1") if ask is TOUCHPOINT else dict(IMPRESSION)
    inner = body["data"]["touchpoints"] if ask is TOUCHPOINT else body
    inner["id"] = found
    if found is ...:
        del inner["id"]
    server.steady = say(whole(body))

    error = await failure(ask.call(client))

    assert (DecodeError, 1) == (type(error), error.attempts)


@pytest.mark.parametrize("found", ["x" * 5000, f"x{KEY}"])
async def test_of_the_other_id_the_error_shows_the_beginning_and_no_key(
    server: FaultServer, client: DistinctClient, found: str
) -> None:
    server.steady = say(whole(of(found)))

    error = await failure(client.metrics.touchpoint("tp-1"))

    assert len(str(error)) < 500
    assert KEY not in str(error)


async def test_with_a_lent_session_a_response_for_another_id_is_retried_too(server: FaultServer, build: Build) -> None:
    server.script(say(whole(of("tp-2"))))
    async with aiohttp.ClientSession() as session:
        assert "tp-1" == (await build(session=session).metrics.touchpoint("tp-1")).id
