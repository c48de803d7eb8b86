"""The life of a client: each row of the table of that name."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import os
import pickle
import sys
import threading
import time
import tracemalloc
import warnings
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import pytest

from distinct_async import DistinctClient, RetryPolicy, Timeouts
from distinct_async.errors import ClientStateError, ConfigurationError, DistinctError, InvalidRequestError

from . import responses
from .checks import (
    AT_ONCE,
    BOTH_VENDORS,
    EXPERIENCE,
    IMPRESSION,
    KEY,
    ROOMY,
    USER,
    VANTIO_KEY,
    Ask,
    Build,
    assert_holds_no_key,
    assert_recovers,
    failure,
)
from .responses import chunked, encoded, head, whole
from .server import Exchange, FaultServer, in_a_thread, say, say_and_hang, serve_correctly

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator


# -- closing


async def close_promptly(client: DistinctClient) -> None:
    """Close, much sooner than any time limit of a call would end it."""
    async with asyncio.timeout(2):
        await client.close()


@BOTH_VENDORS
async def test_a_call_whose_client_is_closed_ends_in_a_client_state_error(
    server: FaultServer, client: DistinctClient, ask: Ask
) -> None:
    server.steady = say_and_hang()
    calls = [asyncio.ensure_future(ask.call(client)) for _ in range(3)]
    await server.sees(1)
    await close_promptly(client)
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [ClientStateError] * 3 == [type(end) for end in ends]
    assert await server.settles()


async def test_a_call_in_the_queue_of_a_closed_client_is_never_sent(server: FaultServer, build: Build) -> None:
    client = build(max_concurrency=1)
    server.steady = say_and_hang()
    calls = [asyncio.ensure_future(USER.call(client)) for _ in range(20)]
    await server.sees(1)
    await close_promptly(client)
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [ClientStateError] * 20 == [type(end) for end in ends]
    assert 1 == len(server.requests)
    assert await server.settles()


async def test_a_call_that_waits_to_try_again_ends_when_its_client_is_closed(server: FaultServer, build: Build) -> None:
    client = build(retry=RetryPolicy(attempts=3))
    server.steady = say(whole(b"", 429, ("Retry-After", "30")))
    call = asyncio.ensure_future(USER.call(client))
    await server.sees(1)
    await asyncio.sleep(0.05)
    await close_promptly(client)
    (end,) = await asyncio.gather(call, return_exceptions=True)
    assert ClientStateError is type(end)
    assert await server.settles()


@pytest.mark.parametrize("ask", [USER, IMPRESSION, EXPERIENCE], ids=str)
@pytest.mark.parametrize("used", [True, False])
async def test_a_closed_client_refuses_every_call(
    server: FaultServer, client: DistinctClient, ask: Ask, *, used: bool
) -> None:
    if used:
        await USER.call(client)
    await client.close()
    assert ClientStateError is type(await failure(ask.call(client)))
    assert (1 if used else 0) == len(server.requests)
    assert await server.settles()


async def test_a_closed_client_refuses_a_walk(server: FaultServer, client: DistinctClient) -> None:
    async with client:
        await USER.call(client)
    assert ClientStateError is type(await failure(client.metrics.total_visits("tp-1").collect()))
    assert 1 == len(server.requests)
    assert await server.settles()


async def test_closing_twice_is_fine(server: FaultServer, client: DistinctClient) -> None:
    await USER.call(client)
    await client.close()
    await client.close()
    assert await server.settles()


async def test_closing_from_two_tasks_at_once_is_fine(server: FaultServer, client: DistinctClient) -> None:
    await USER.call(client)
    await asyncio.gather(client.close(), client.close())
    assert await server.settles()


async def test_closing_what_was_never_used_is_fine(client: DistinctClient) -> None:
    await client.close()


async def test_closing_a_view_or_its_origin_closes_both(server: FaultServer, client: DistinctClient) -> None:
    view = client.with_options(timeout=1)
    await USER.call(view)
    await client.close()
    assert ClientStateError is type(await failure(USER.call(view)))
    assert await server.settles()


async def test_a_lent_session_outlives_its_client(server: FaultServer, build: Build) -> None:
    async with aiohttp.ClientSession() as session:
        client = build(session=session)
        await USER.call(client)
        await client.close()
        assert not session.closed
        async with session.get(server.url + server.requests[0].target) as response:
            assert 200 == response.status
    assert await server.settles()


# -- loops, threads and processes


@pytest.fixture
def threaded() -> Iterator[FaultServer]:
    with in_a_thread(FaultServer()) as server:
        yield server


def of(server: FaultServer, **changes: Any) -> DistinctClient:
    settings: dict[str, Any] = {
        "base_url": server.url,
        "vantio_base_url": server.url,
        "timeout": ROOMY,
        "retry": AT_ONCE,
    }
    return DistinctClient(KEY, vantio_api_key=VANTIO_KEY, **(settings | changes))


async def ask_each(client: DistinctClient) -> None:
    await asyncio.gather(USER.call(client), IMPRESSION.call(client), EXPERIENCE.call(client))


def test_a_client_built_outside_a_loop_serves_one_run_after_another_quietly(
    threaded: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="distinct_async")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client = of(threaded)
        for _ in range(3):
            asyncio.run(ask_each(client), debug=False)
            gc.collect()
        asyncio.run(client.close(), debug=False)
        del client
        gc.collect()
    assert [] == [str(warning.message) for warning in caught]
    assert [] == [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert 7 == len(threaded.requests)  # the impression is asked for once: it is kept
    assert 0 == asyncio.run(left_open(threaded))


async def left_open(server: FaultServer) -> int:
    await server.settles()
    return server.open_connections


def test_a_run_that_was_cut_short_leaves_the_next_one_untouched(threaded: FaultServer) -> None:
    client = of(threaded)
    threaded.script(say_and_hang())

    async def cut_short() -> None:
        async with asyncio.timeout(0.1):
            await USER.call(client)

    with pytest.raises(TimeoutError):
        asyncio.run(cut_short())
    asyncio.run(ask_each(client))
    asyncio.run(client.close())
    assert 0 == asyncio.run(left_open(threaded))


def test_a_run_that_was_killed_leaves_the_next_one_untouched(threaded: FaultServer) -> None:
    client = of(threaded)
    threaded.script(say_and_hang(), say_and_hang())

    async def killed() -> None:
        first, second = asyncio.ensure_future(USER.call(client)), asyncio.ensure_future(IMPRESSION.call(client))
        await asyncio.sleep(0.1)
        assert [False, False] == [first.done(), second.done()]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(killed())
    asyncio.run(ask_each(client))
    asyncio.run(client.close())
    assert 0 == asyncio.run(left_open(threaded))


@pytest.mark.parametrize("after", [ask_each, DistinctClient.close])
def test_a_session_whose_loop_was_closed_without_it_is_released(
    threaded: FaultServer, after: Callable[[DistinctClient], Coroutine[Any, Any, None]]
) -> None:
    sessions: list[aiohttp.ClientSession] = []

    def session() -> aiohttp.ClientSession:
        sessions.append(aiohttp.ClientSession())
        return sessions[-1]

    client, loop = of(threaded, session=session), asyncio.new_event_loop()
    loop.run_until_complete(USER.call(client))
    loop.close()  # asyncio.run would have ended its generators first
    assert [False] == [each.closed for each in sessions]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(after(client))
        assert sessions[0].closed
        asyncio.run(client.close())
        gc.collect()
    texts = [str(warning.message) for warning in caught]  # asyncio's own, of the socket, cannot be helped
    assert [] == [text for text in texts if "client session" in text or "connector" in text]


async def test_another_open_loop_is_refused_before_any_request(server: FaultServer, client: DistinctClient) -> None:
    await USER.call(client)

    def elsewhere() -> list[type[BaseException]]:
        async def main() -> list[type[BaseException]]:
            return [type(await failure(ask.call(client))) for ask in (USER, IMPRESSION)]

        return asyncio.run(main())

    assert [ClientStateError] * 2 == await asyncio.to_thread(elsewhere)
    assert 1 == len(server.requests)
    await assert_recovers(client, server, USER)


async def test_another_open_loop_cannot_close_the_client(server: FaultServer, client: DistinctClient) -> None:
    await USER.call(client)
    error = await asyncio.to_thread(lambda: asyncio.run(failure(client.close())))
    assert ClientStateError is type(error)
    await assert_recovers(client, server, USER)


FORKED = """
import asyncio, os, sys
from distinct_async import DistinctClient
from distinct_async.errors import ClientStateError

url, where = sys.argv[1:]
client = DistinctClient("key", base_url=url)

async def ask():
    return await client.metrics.user("user-1", experience_id="exp-1")

def child(run):
    code = 2
    try:
        run(ask())
        code = 1
    except ClientStateError:
        code = 0
    finally:
        os._exit(code)

def fork(run):
    pid = os.fork()
    if pid == 0:
        child(run)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

async def inside():
    await ask()
    code = fork(asyncio.run)
    await ask()
    await client.close()
    return code

with asyncio.Runner() as runner:
    if where == "inside the loop":
        sys.exit(runner.run(inside()))
    runner.run(ask())
    code = fork(runner.get_loop().run_until_complete if where == "on the inherited loop" else asyncio.run)
    runner.run(ask())
    runner.run(client.close())
    sys.exit(code)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX")
@pytest.mark.parametrize("where", ["inside the loop", "on the inherited loop", "on a loop of its own"])
async def test_a_forked_child_is_refused_and_the_parents_connection_lives_on(server: FaultServer, where: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", FORKED, server.url, where),
        env=os.environ | {"PYTHONASYNCIODEBUG": ""},  # whose remarks on slow steps would be taken for complaints
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaints = await process.communicate()
    assert (0, b"") == (process.returncode, complaints)
    assert (1, 2) == (server.connections, len(server.requests))
    assert await server.settles()


# -- never closed


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("while_running", [True, False])
def test_a_client_that_was_never_closed_is_named_by_one_warning(threaded: FaultServer, *, while_running: bool) -> None:
    async def forgetful() -> None:
        client = of(threaded)
        await USER.call(client)
        if while_running:
            del client
            gc.collect()
        else:
            kept.append(client)

    kept: list[DistinctClient] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(forgetful())
        kept.clear()
        gc.collect()
    ours = [warning for warning in caught if "DistinctClient" in str(warning.message)]
    assert [ResourceWarning] == [warning.category for warning in ours]
    assert [] == [warning for warning in caught if KEY in str(warning.message)]


def test_a_client_that_was_never_used_is_nobodys_warning() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        DistinctClient(KEY)
        gc.collect()
    assert [] == [str(warning.message) for warning in caught]


# -- ten thousand


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("_no_debug")
async def test_ten_thousand_calls_queue_and_none_times_out_by_waiting(server: FaultServer, build: Build) -> None:
    limit, response = 2.0, whole(responses.user())
    client = build(timeout=Timeouts(connect=limit, attempt=limit), deadline=limit)

    async def slowly(exchange: Exchange) -> None:
        await asyncio.sleep(0.005)  # so that all together take longer than the limit, however fast the machine
        await exchange.send(response)

    server.steady = slowly
    started, calls = time.monotonic(), list[asyncio.Future[object]]()
    while len(calls) < 10_000:
        call = client.metrics.user(f"user-{len(calls)}", experience_id="exp-1")
        calls.append(asyncio.ensure_future(call))
        if len(calls) % 100 == 0:
            await asyncio.sleep(0)  # all at once would be one turn of the loop, long enough to be a timeout itself
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [] == [repr(end) for end in ends if isinstance(end, BaseException)]
    assert time.monotonic() - started > limit  # or nothing has been shown
    assert 10_000 == len(server.requests)
    assert (16, 16) == (server.peak_in_flight, server.connections)
    await client.close()
    assert await server.settles()


@pytest.mark.usefixtures("_no_debug")
async def test_many_waiting_calls_cost_little_memory(server: FaultServer, client: DistinctClient) -> None:
    server.steady = say_and_hang()
    tracemalloc.start()
    try:
        calls = [asyncio.ensure_future(USER.call(client)) for _ in range(2_000)]
        await server.sees(16)
        await asyncio.sleep(0.05)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 16 == len(server.requests)
    for call in calls:
        call.cancel()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert {asyncio.CancelledError} == {type(end) for end in ends}
    assert peak < 40 * 2**20
    assert await server.settles()
    await assert_recovers(client, server, USER)


async def test_a_connection_keeps_nothing_of_the_chunked_responses_it_has_brought(
    server: FaultServer, client: DistinctClient
) -> None:
    async def in_two(exchange: Exchange) -> None:
        await exchange.send(head(200, ("Transfer-Encoding", "chunked")))
        await asyncio.sleep(0.005)
        await exchange.send(chunked(encoded(responses.user())))

    server.steady = in_two
    for _ in range(10):
        await USER.call(client)
    gc.collect()
    assert 1 == server.connections
    assert 1 >= sum(isinstance(each, aiohttp.ClientResponse) for each in gc.get_objects())


async def test_each_vendor_has_its_own_queue(server: FaultServer, build: Build) -> None:
    client = build(max_concurrency=1)
    server.script(say_and_hang())
    stuck = asyncio.ensure_future(USER.call(client))
    await server.sees(1)
    await asyncio.wait_for(IMPRESSION.call(client), 2)
    stuck.cancel()
    await asyncio.gather(stuck, return_exceptions=True)
    await assert_recovers(client, server, USER)


@pytest.mark.parametrize("most", [1, 3])
async def test_no_more_requests_are_in_flight_than_allowed(server: FaultServer, build: Build, most: int) -> None:
    client = build(max_concurrency=most)

    async def slowly(exchange: Exchange) -> None:
        await asyncio.sleep(0.005)
        await serve_correctly(exchange)

    server.steady = slowly
    await asyncio.gather(*(client.metrics.user(f"user-{n}", experience_id="exp-1") for n in range(12)))
    assert (most, 12) == (server.peak_in_flight, len(server.requests))
    await client.close()
    assert await server.settles()


# -- keys and ids


@pytest.mark.parametrize("which", ["api_key", "vantio_api_key"])
@pytest.mark.parametrize(
    "key",
    ["a-key\r\n", "a-key\r", "a-key\n", "a-key\0", "a-\nkey: 1", "a-кey", "a-key€", "a-key\x7f", "a-key\ud800"],
)
def test_a_key_that_cannot_stand_in_a_header_is_refused_at_once(which: str, key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        DistinctClient(**{"api_key": KEY, "vantio_api_key": VANTIO_KEY, which: key})  # type: ignore[arg-type]
    assert [False, False] == ["a-" in str(caught.value), "a-" in repr(caught.value)]


ODD_IDS = [
    "a/b",
    "a?b",
    "a#b",
    "a%2Fb",
    "%2F",
    "%2e%2e",
    "..%2f",
    "...",
    "a b",
    "a+b",
    "ä€😀",
    "a;b=c",
    "a:b@c",
    "x" * 10_240,
    "\\",
]
BAD_IDS = ["", " ", ".", "..", "a\nb", "a\r\nb", "a\0b", "\x7f", "\ud800"]


@pytest.mark.parametrize("identifier", ODD_IDS, ids=lambda name: ascii(name)[:20])
async def test_an_odd_impression_id_is_exactly_one_path_segment(
    server: FaultServer, client: DistinctClient, identifier: str
) -> None:
    await client.impressions.get(identifier)
    (seen,) = server.requests
    assert f"/api/v1/impressions/{quote(identifier, safe='')}" == seen.target
    assert 4 == seen.target.count("/")
    await assert_recovers(client, server, USER)


@pytest.mark.parametrize("identifier", BAD_IDS, ids=ascii)
async def test_a_bad_impression_id_is_refused_before_any_request(
    server: FaultServer, client: DistinctClient, identifier: str
) -> None:
    error = await failure(client.impressions.get(identifier))
    assert InvalidRequestError is type(error)
    assert (0, 0) == (error.attempts, server.connections)
    await assert_recovers(client, server, USER)


@pytest.mark.parametrize(
    "identifier", ["a&userId=b", "a b+c", "ä€😀", "%26", "a#b", "x" * 10_240], ids=lambda name: ascii(name)[:20]
)
async def test_an_odd_id_in_a_query_is_exactly_one_value(
    server: FaultServer, client: DistinctClient, identifier: str
) -> None:
    await client.metrics.user(identifier, experience_id="exp-1")
    (seen,) = server.requests
    assert [f"userId={quote(identifier, safe='')}"] == [
        part for part in seen.target.split("?")[1].split("&") if "userId" in part
    ]
    await assert_recovers(client, server, USER)


@pytest.mark.parametrize("identifier", ["", " ", "a\nb", "a\0b", "\ud800"], ids=ascii)
async def test_a_bad_id_in_a_query_is_refused_before_any_request(
    server: FaultServer, client: DistinctClient, identifier: str
) -> None:
    for call in (
        client.metrics.experience(identifier),
        client.metrics.user(identifier, experience_id="exp-1"),
        client.metrics.user("user-1", experience_id=identifier),
        client.metrics.touchpoint(identifier),
    ):
        assert InvalidRequestError is type(await failure(call))
    assert 0 == server.connections
    await assert_recovers(client, server, USER)


# -- cancellation and time


@BOTH_VENDORS
async def test_the_callers_own_timeout_stays_the_callers(server: FaultServer, client: DistinctClient, ask: Ask) -> None:
    server.script(say_and_hang())
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.1):
            await ask.call(client)
    assert TimeoutError is type(caught.value)
    assert_holds_no_key(caught.value)
    await assert_recovers(client, server, ask)


@pytest.mark.parametrize("stage", ["connect", "head", "body", "wait", "queue", "pause"])
async def test_a_cancelled_call_is_cancelled_and_leaves_nothing(server: FaultServer, build: Build, stage: str) -> None:
    client = build(max_concurrency=1, retry=RetryPolicy(attempts=3, base=30, cap=60))
    hang_in_body = say_and_hang(responses.head(200, ("Content-Length", "99")) + b"{")
    pause = say(whole(b"", 429, ("Retry-After", "30")))
    server.steady = {"body": hang_in_body, "wait": pause, "pause": pause}.get(stage, say_and_hang())
    others = [asyncio.ensure_future(USER.call(client))] if stage in {"queue", "pause"} else []
    if others:
        await server.sees(1)
        await asyncio.sleep(0.03)
    call = asyncio.ensure_future(EXPERIENCE.call(client))
    if stage != "connect":
        await server.sees(1)
        await asyncio.sleep(0.03)
    else:
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await call
    assert_holds_no_key(caught.value)
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    assert await server.settles(at_most=1 if stage in {"wait", "pause"} else 0)
    if stage in {"wait", "pause"}:  # the pause goes on for all calls of this client
        await client.close()
        assert await server.settles()
    else:
        await assert_recovers(client, server, USER)


async def test_a_call_whose_client_is_closed_in_the_moment_it_is_cancelled_is_cancelled(
    server: FaultServer, client: DistinctClient
) -> None:
    server.script(say_and_hang())
    call = asyncio.ensure_future(USER.call(client))
    await server.sees(1)
    closing = asyncio.ensure_future(client.close())
    await asyncio.sleep(0)  # it has ended the call, which does not know yet
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await closing


# -- copies


@pytest.mark.parametrize("make", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_client_refuses_to_be_pickled_or_copied(make: object) -> None:
    with pytest.raises((DistinctError, TypeError)) as caught:
        make(DistinctClient(KEY))  # type: ignore[operator]
    assert KEY not in str(caught.value)


async def test_a_thread_of_its_own_may_have_a_client_of_its_own(server: FaultServer) -> None:
    def elsewhere() -> str:
        async def main() -> str:
            async with of(server) as client:
                await USER.call(client)
            return threading.current_thread().name

        return asyncio.run(main())

    names = await asyncio.gather(asyncio.to_thread(elsewhere), asyncio.to_thread(elsewhere))
    assert 2 == len(names) == len(server.requests)
    assert await server.settles()
