"""Faults in an response: each row of the table "The response is broken"."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest

from distinct_async.errors import APIError, DecodeError, ProtocolError, RequestTimeoutError, ServerError

from .checks import BOTH_VENDORS, BRIEF, IMPRESSION, ROOMY, USER, Ask, Build, assert_correct, assert_recovers, failure
from .faults import BODY, LIMIT, PAGE, READ, READ_UNTIL_CLOSED, SLOW, TOO_LARGE, Fault, every_fault, nested
from .responses import whole
from .server import FaultServer, say, say_and_close

if TYPE_CHECKING:
    from distinct_async import DistinctClient


pytestmark = pytest.mark.usefixtures("_no_debug")


def careful(build: Build, fault: Fault) -> DistinctClient:
    return build(max_body=LIMIT, timeout=BRIEF if fault.never_ends else ROOMY)


@BOTH_VENDORS
@every_fault
async def test_a_broken_answer_ends_in_the_error_of_its_row(
    server: FaultServer, build: Build, ask: Ask, fault: Fault
) -> None:
    client = careful(build, fault)
    server.steady = fault.play
    error = await failure(ask.call(client))
    assert fault.error is type(error)
    assert len(server.requests) in fault.requests
    assert [] == [words for words in fault.says if words not in str(error)]
    assert_correct(error, ask, fault.attempts)
    await assert_recovers(client, server, ask)


@every_fault
async def test_a_fault_that_passes_is_survived_where_it_may_be_tried_again(
    server: FaultServer, build: Build, fault: Fault
) -> None:
    client = careful(build, fault)
    server.script(fault.play)
    if fault.again:
        assert None is not await USER.call(client)
        assert 2 == len(server.requests)
    else:
        assert fault.error is type(await failure(USER.call(client)))
        assert 1 == len(server.requests)
    await assert_recovers(client, server, USER)


@pytest.mark.parametrize("fault", TOO_LARGE, ids=lambda fault: fault.name)
async def test_a_body_without_end_costs_little_memory_and_its_connection(
    server: FaultServer, build: Build, fault: Fault
) -> None:
    client = careful(build, fault)
    await USER.call(client)
    server.steady = fault.play
    tracemalloc.start()
    try:
        await failure(USER.call(client))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 * LIMIT
    assert await server.settles(at_most=0)
    await assert_recovers(client, server, USER)


@pytest.mark.parametrize("limit", ["attempt", "deadline"])
async def test_a_slow_answer_names_the_limit_that_was_hit(server: FaultServer, build: Build, limit: str) -> None:
    client = build(timeout=BRIEF) if limit == "attempt" else build(timeout=ROOMY, deadline=0.3)
    server.steady = SLOW
    error = await failure(USER.call(client))
    assert isinstance(error, RequestTimeoutError)
    assert limit == error.limit
    assert (3 if limit == "attempt" else 1) == error.attempts == len(server.requests)
    assert_correct(error, USER, error.attempts)
    await assert_recovers(client, server, USER)


async def test_the_deadline_holds_over_all_attempts(server: FaultServer, build: Build) -> None:
    client = build(timeout=BRIEF, deadline=0.3)
    server.steady = SLOW
    error = await failure(USER.call(client))
    assert isinstance(error, RequestTimeoutError)
    assert "deadline" == error.limit
    assert 0.3 <= error.elapsed < 1.5
    assert 2 == len(server.requests)
    await assert_recovers(client, server, USER)


# -- what looks odd and is fine


@pytest.mark.parametrize("data", READ.values(), ids=READ)
async def test_an_odd_answer_is_read(server: FaultServer, client: DistinctClient, data: bytes) -> None:
    server.script(say(data))
    assert 2 == (await client.metrics.user("user-1", experience_id="exp-1")).total_touchpoints
    assert 1 == len(server.requests)
    await assert_recovers(client, server, USER)


@pytest.mark.parametrize("data", READ_UNTIL_CLOSED.values(), ids=READ_UNTIL_CLOSED)
async def test_an_answer_that_ends_with_its_connection_is_read(
    server: FaultServer, client: DistinctClient, data: bytes
) -> None:
    server.script(say_and_close(data))
    assert 2 == (await client.metrics.user("user-1", experience_id="exp-1")).total_touchpoints
    assert 1 == len(server.requests)
    await assert_recovers(client, server, USER)


async def test_only_encodings_that_we_can_bound_are_asked_for(server: FaultServer, client: DistinctClient) -> None:
    await USER.call(client)
    asked = {word.strip() for word in server.requests[0].headers["accept-encoding"].split(",")}
    assert {"gzip", "deflate"} == asked
    await assert_recovers(client, server, USER)


async def test_a_cookie_is_not_kept(server: FaultServer, build: Build) -> None:
    url = f"http://localhost:{server.port}"  # a jar takes no cookies from bare addresses
    client = build(base_url=url, vantio_base_url=url)
    server.script(say(whole(BODY, 200, ("Set-Cookie", "session=1; Path=/"), ("Set-Cookie", "\x01=;;;"))))
    await USER.call(client)
    await IMPRESSION.call(client)
    assert [False, False] == ["cookie" in request.headers for request in server.requests]
    await assert_recovers(client, server, USER)


@pytest.mark.parametrize("levels", [1_000, 100_000])
async def test_deep_nesting_in_a_field_nobody_knows_is_read_or_refused(
    server: FaultServer, client: DistinctClient, levels: int
) -> None:
    body = b'{"unknown":' + nested(levels) + b"," + BODY[1:]
    server.steady = say(whole(body))
    try:
        await USER.call(client)
    except DecodeError as error:
        assert_correct(error, USER, attempts=1)
    assert 1 == len(server.requests)
    await assert_recovers(client, server, USER)


# -- redirects and refusals with a body of another kind


@BOTH_VENDORS
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_named_and_the_other_host_sees_no_connection(
    server: FaultServer, client: DistinctClient, ask: Ask, status: int
) -> None:
    async with FaultServer(host="127.0.0.1") as other:
        server.steady = say(whole(b"", status, ("Location", f"{other.url}/there")))
        error = await failure(ask.call(client))
        assert ProtocolError is type(error)
        assert f"127.0.0.1:{other.port}/there" in str(error)
        assert ("vantio_base_url" if ask is IMPRESSION else "base_url") in str(error)
        assert (1, 0) == (len(server.requests), other.connections)
        assert_correct(error, ask, attempts=1)
        await assert_recovers(client, server, ask)


async def test_a_redirect_loop_ends_at_its_first_turn(server: FaultServer, client: DistinctClient) -> None:
    server.steady = say(whole(b"", 302, ("Location", f"{server.url}/v3/touchpoint/metrics?metricsType=USER")))
    assert ProtocolError is type(await failure(USER.call(client)))
    assert 1 == len(server.requests)
    await assert_recovers(client, server, USER)


@BOTH_VENDORS
async def test_html_with_502_keeps_a_capped_body_that_is_not_shown(
    server: FaultServer, client: DistinctClient, ask: Ask
) -> None:
    server.steady = say(whole(PAGE + b"<p>padding" * 10_000, 502, content_type="text/html"))
    error = await failure(ask.call(client))
    assert isinstance(error, ServerError)
    assert isinstance(error, APIError)
    assert (502, PAGE.decode()) == (error.status, error.body[: len(PAGE)])
    assert len(error.body) <= 4096
    assert "<" not in str(error) + repr(error)
    assert_correct(error, ask, attempts=3)
    await assert_recovers(client, server, ask)


@BOTH_VENDORS
async def test_html_with_200_keeps_a_capped_excerpt_that_is_not_shown(
    server: FaultServer, client: DistinctClient, ask: Ask
) -> None:
    server.steady = say(whole(PAGE + b"<p>padding" * 10_000, content_type="text/html"))
    error = await failure(ask.call(client))
    assert isinstance(error, DecodeError)
    assert PAGE.decode() == error.excerpt[: len(PAGE)]
    assert len(error.excerpt) <= 1024
    assert "<" not in str(error) + repr(error)
    await assert_recovers(client, server, ask)
