"""Impressions on real sockets: the cache, one request for many callers, many ids in order, and lists."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any
from urllib.parse import unquote

import pytest

from distinct_async import DistinctClient
from distinct_async.errors import (
    ClientStateError,
    ConfigurationError,
    DecodeError,
    DistinctError,
    InvalidRequestError,
    NotFoundError,
    RequestTimeoutError,
    ServerError,
)
from distinct_async.models import Impression
from distinct_async.testing import FakeServer, World
from tests.rig import VANTIO_KEY, query, served
from tests.wire import responses
from tests.wire.responses import whole
from tests.wire.server import Behaviour, Exchange, FaultServer

PATH = "/api/v1/impressions/"


def impression(impression_id: str, **changes: object) -> dict[str, Any]:
    return responses.IMPRESSION | {"id": impression_id, "metadata": {"seen": []}} | changes


class Vendor:
    """A vendor that can be held up: it responses each id, unknown ones (`no...`) with a 404."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.status = 200
        self.gone = 0  # requests that the client gave up

    async def __call__(self, exchange: Exchange) -> None:
        impression_id = unquote(exchange.seen.path.removeprefix(PATH))
        if not self.open.is_set():
            opened, left = (asyncio.ensure_future(one) for one in (self.open.wait(), exchange.hold()))
            await asyncio.wait([opened, left], return_when=asyncio.FIRST_COMPLETED)
            if left.done():
                opened.cancel()
                self.gone += 1
                return
            left.cancel()
            await asyncio.wait([left])
        status = 404 if impression_id.startswith("no") else self.status
        await exchange.send(whole(impression(impression_id) if status == 200 else {"message": "No"}, status))


def asked(server: FaultServer) -> list[str]:
    return [seen.path.removeprefix(PATH) for seen in server.requests]


def start(client: DistinctClient, impression_id: str, times: int = 1) -> list[asyncio.Task[Impression]]:
    return [asyncio.create_task(client.impressions.get(impression_id)) for _ in range(times)]


async def turns() -> None:
    """Let everything happen that needs no socket."""
    for _ in range(20):
        await asyncio.sleep(0)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.002)


# -- the cache


async def test_an_impression_is_asked_for_once() -> None:
    async with served(Vendor()) as (client, server):
        assert await client.impressions.get("a") == await client.impressions.get("a")
    assert ["a"] == asked(server)


async def test_a_404_is_not_kept() -> None:
    async with served(whole(b"", 404), impression("a")) as (client, server):
        with pytest.raises(NotFoundError):
            await client.impressions.get("a")
        assert "a" == (await client.impressions.get("a")).id
    assert 2 == len(server.requests)


@pytest.mark.parametrize("bad", [whole(b"", 500), whole(b"{"), whole({"id": "a"}), whole(b"[]")])
async def test_no_failure_is_kept(bad: bytes) -> None:
    async with served(bad, impression("a")) as (client, server):
        with pytest.raises(DistinctError):
            await client.impressions.get("a")
        assert "a" == (await client.impressions.get("a")).id
    assert 2 == len(server.requests)


async def test_a_cache_of_0_keeps_nothing() -> None:
    async with served(Vendor(), impression_cache=0) as (client, server):
        for _ in range(3):
            await client.impressions.get("a")
        await asyncio.gather(*start(client, "b", 5))
        await client.impressions.get("b")
    assert ["a", "a", "a", "b", "b"] == asked(server), "callers at the same time share a request all the same"


async def test_the_cache_keeps_the_ids_last_used() -> None:
    async with served(Vendor(), impression_cache=2) as (client, server):
        for impression_id in ("a", "b", "a", "c", "a", "b", "c", "a"):
            await client.impressions.get(impression_id)
    assert ["a", "b", "c", "b", "c", "a"] == asked(server)


async def test_the_cache_never_holds_more_than_it_may() -> None:
    async with served(Vendor(), impression_cache=3, max_concurrency=50) as (client, _):
        await asyncio.gather(*(client.impressions.get(f"a{n}") for n in range(50)))
        assert 3 == len(client._engine.core.impressions)


async def test_a_kept_impression_needs_an_open_client_and_a_key() -> None:
    async with served(Vendor()) as (client, _):
        await client.impressions.get("a")
        await client.close()
        with pytest.raises(ClientStateError):
            await client.impressions.get("a")
    async with DistinctClient() as keyless:
        with pytest.raises(ConfigurationError, match="VANTIO_API_KEY"):
            await keyless.impressions.get("a")


async def test_no_two_callers_share_metadata() -> None:
    async with served(Vendor()) as (client, _):
        found = await asyncio.gather(*start(client, "a", 3))
        found.append(await client.impressions.get("a"))
        many: Any = client.impressions.get_many(["a", "a"])
        found += [each async for each in many]
        for number, each in enumerate(found):
            metadata: Any = each.metadata
            metadata["mine"] = number
            metadata["seen"].append(number)
    assert [{"seen": [n], "mine": n} for n in range(6)] == [each.metadata for each in found]


async def test_the_cache_is_by_the_exact_id() -> None:
    async with served(Vendor()) as (client, server):
        for impression_id in ("a", "A", " a", "a/", "a"):
            await client.impressions.get(impression_id)
    assert ["a", "A", "%20a", "a%2F"] == asked(server)


# -- one request for many callers


async def test_callers_of_one_id_share_a_request_and_callers_of_others_do_not() -> None:
    vendor = Vendor()
    vendor.open.clear()
    async with served(vendor) as (client, server):
        tasks = [*start(client, "a", 20), *start(client, "b", 20)]
        await server.sees(2)
        vendor.open.set()
        found = await asyncio.gather(*tasks)
    assert ["a"] * 20 + ["b"] * 20 == [each.id for each in found]
    assert ["a", "b"] == sorted(asked(server))


async def test_the_first_callers_cancellation_does_not_cancel_the_others() -> None:
    vendor = Vendor()
    vendor.open.clear()
    async with served(vendor) as (client, server):
        first, *others = start(client, "a", 5)
        await server.sees(1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await server.sees(2)  # the next caller took over
        vendor.open.set()
        assert ["a"] * 4 == [each.id for each in await asyncio.gather(*others)]
    assert 2 == len(server.requests)


async def test_a_later_callers_cancellation_is_its_own() -> None:
    vendor = Vendor()
    vendor.open.clear()
    async with served(vendor) as (client, server):
        first, second, third = start(client, "a", 3)
        await server.sees(1)
        second.cancel()
        await turns()
        assert second.cancelled()
        vendor.open.set()
        assert ["a", "a"] == [(await first).id, (await third).id]
    assert 1 == len(server.requests)


async def test_when_all_callers_are_gone_the_request_is_cancelled_at_the_server() -> None:
    vendor = Vendor()
    vendor.open.clear()
    async with served(vendor) as (client, server):
        tasks = start(client, "a", 5)
        await server.sees(1)
        for task in reversed(tasks):  # the one that asks goes last, so that nobody takes over
            task.cancel()
        await asyncio.wait(tasks)
        assert [True] * 5 == [task.cancelled() for task in tasks]
        await until(lambda: vendor.gone == 1)
        assert await server.settles()
        assert {} == client._engine.core.state().flights
        vendor.open.set()
        assert "a" == (await client.impressions.get("a")).id
    assert 2 == len(server.requests)


async def test_callers_that_go_one_after_another_leave_nothing() -> None:
    vendor = Vendor()
    vendor.open.clear()
    async with served(vendor) as (client, server):
        tasks = start(client, "a", 3)
        for count, task in enumerate(tasks, 1):
            await server.sees(count)
            task.cancel()
            await asyncio.wait([task])
        await until(lambda: vendor.gone == 3)
        assert await server.settles()
        assert {} == client._engine.core.state().flights
    assert 3 == len(server.requests)


@pytest.mark.parametrize("status", [404, 500])
async def test_a_failure_reaches_each_caller_as_its_own_exception(status: int) -> None:
    vendor = Vendor()
    vendor.status = status
    vendor.open.clear()
    async with served(vendor) as (client, server):
        tasks = start(client, "a", 4)
        await server.sees(1)
        vendor.open.set()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert {NotFoundError if status == 404 else ServerError} == {type(error) for error in errors}
    assert 4 == len({id(error) for error in errors})
    assert 1 == len({str(error) for error in errors})
    assert 1 == len(server.requests)
    one, *others = errors
    assert isinstance(one, NotFoundError | ServerError)
    one.headers["mine"] = "1"
    one.add_note("mine")
    assert [False] * 3 == ["mine" in getattr(other, "headers", {"mine": ""}) for other in others]
    assert [False] * 3 == [hasattr(other, "__notes__") for other in others]
    assert [True] * 3 == [
        other.__traceback__ is not one.__traceback__ for other in others if isinstance(other, Exception)
    ]


async def test_a_wrong_shape_reaches_each_caller_as_its_own_exception() -> None:
    async with served({"id": 5}) as (client, server):
        errors = await asyncio.gather(*start(client, "a", 3), return_exceptions=True)
    assert {DecodeError} == {type(error) for error in errors}
    assert (3, 1) == (len({id(error) for error in errors}), len(server.requests))


async def test_a_caller_after_a_failure_asks_anew() -> None:
    async with served(whole(b"", 500), impression("a")) as (client, server):
        failed = await asyncio.gather(*start(client, "a", 3), return_exceptions=True)
        assert {ServerError} == {type(error) for error in failed}
        assert "a" == (await client.impressions.get("a")).id
    assert 2 == len(server.requests)


async def test_a_caller_that_asks_again_at_once_is_not_given_the_old_failure() -> None:
    async def stubborn(client: DistinctClient) -> Impression:
        try:
            return await client.impressions.get("a")
        except ServerError:
            return await client.impressions.get("a")

    async with served(whole(b"", 500), impression("a")) as (client, server):
        asker = asyncio.create_task(stubborn(client))  # made first, so that it is the one that asks
        first, *others = await asyncio.gather(asker, *start(client, "a", 2), return_exceptions=True)
    assert isinstance(first, Impression)
    assert [ServerError, ServerError] == [type(each) for each in others]
    assert 2 == len(server.requests)


async def test_nobody_waits_under_another_callers_deadline() -> None:
    vendor = Vendor()
    vendor.open.clear()
    async with served(vendor) as (client, server):
        patient = start(client, "a")
        await server.sees(1)
        with pytest.raises(RequestTimeoutError):
            await client.with_options(timeout=0.05).impressions.get("a")
        vendor.open.set()
        assert "a" == (await patient[0]).id


async def test_a_closed_client_ends_every_waiting_caller() -> None:
    vendor = Vendor()
    vendor.open.clear()
    async with served(vendor) as (client, server):
        tasks = start(client, "a", 3)
        await server.sees(1)
        await client.close()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert {ClientStateError} == {type(error) for error in errors}
    assert (3, 1) == (len({id(error) for error in errors}), len(server.requests))


# -- many ids


async def some(*ids: Any) -> AsyncIterator[Any]:
    for impression_id in ids:
        await asyncio.sleep(0)
        yield impression_id


async def collected(client: DistinctClient, ids: Any, **options: Any) -> list[str | None]:
    return [each and each.id async for each in client.impressions.get_many(ids, **options)]


async def given_before(client: DistinctClient, error: type[BaseException], ids: Any, **options: Any) -> list[str]:
    """The ids given before this error came."""
    given: list[str] = []

    async def read() -> None:
        async for each in client.impressions.get_many(ids, **options):
            given.append(each.id)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(error):
        await read()
    return given


ITERABLES: dict[str, Callable[[list[str]], Any]] = {
    "list": list,
    "iterator": iter,
    "dict": dict.fromkeys,
    "async generator": lambda ids: some(*ids),
}


@pytest.mark.parametrize("make", ITERABLES.values(), ids=ITERABLES)
async def test_many_come_in_the_order_of_their_ids(make: Callable[[list[str]], Any]) -> None:
    ids = [f"a{n}" for n in range(40)]

    async def first_is_slowest(exchange: Exchange) -> None:
        impression_id = exchange.seen.path.removeprefix(PATH)
        await asyncio.sleep(0.03 if impression_id in {"a0", "a5"} else 0)
        await exchange.send(whole(impression(impression_id)))

    async with served(first_is_slowest, max_concurrency=4) as (client, server):
        assert ids == await collected(client, make(ids))
    assert ids == sorted(asked(server), key=lambda each: int(each[1:]))
    assert 2 <= server.peak_in_flight <= 4


@pytest.mark.parametrize("cache", [0, 100])
async def test_many_give_one_result_for_each_id_also_for_the_same(cache: int) -> None:
    ids = ["a", "a", "b", "a", "no", "no", "a"]
    async with served(Vendor(), impression_cache=cache) as (client, _):
        assert ["a", "a", "b", "a", None, None, "a"] == await collected(client, ids, missing="none")


async def test_many_of_nothing_are_nothing() -> None:
    async with served(Vendor()) as (client, server):
        assert [] == await collected(client, [])
        assert [] == await collected(client, some())
    assert 0 == server.connections


async def test_missing_ones_can_be_raised_skipped_or_none() -> None:
    ids = ["a", "no1", "b", "no2"]
    async with served(Vendor()) as (client, _):
        assert ["a"] == await given_before(client, NotFoundError, ids)
        assert ["a"] == await given_before(client, NotFoundError, ids, missing="raise")
        assert ["a", "b"] == await collected(client, ids, missing="skip")
        assert ["a", None, "b", None] == await collected(client, ids, missing="none")


@pytest.mark.parametrize("missing", ["skip", "none"])
async def test_only_a_404_counts_as_missing(missing: str) -> None:
    vendor = Vendor()
    vendor.status = 403
    async with served(vendor) as (client, _):
        assert [] == await given_before(client, DistinctError, ["a"], missing=missing)


@pytest.mark.parametrize("bad", ["", ".", "..", "a\nb", None, 5, b"a"], ids=repr)
async def test_a_bad_id_is_refused_in_its_place(bad: Any) -> None:
    async with served(Vendor()) as (client, _):
        assert ["a", "b"] == await given_before(client, InvalidRequestError, ["a", "b", bad, "c"], missing="none")
        assert ["a", "b"] == await given_before(client, InvalidRequestError, some("a", "b", bad, "c"))


@pytest.mark.parametrize("ids", ["imp_1", b"imp_1", 5, None], ids=repr)
async def test_what_is_no_collection_of_ids_is_refused_at_once(ids: Any) -> None:
    async with served(Vendor()) as (client, _):
        with pytest.raises(InvalidRequestError, match="ids"):
            client.impressions.get_many(ids)


@pytest.mark.parametrize("missing", ["ignore", None, "", []])
async def test_another_missing_is_refused_at_once(missing: Any) -> None:
    async with served(Vendor()) as (client, _):
        with pytest.raises(InvalidRequestError, match="missing"):
            client.impressions.get_many(["a"], missing=missing)


class Ids:
    """Ids without end, counted, and whether their generator was ended."""

    def __init__(self) -> None:
        self.read = 0
        self.ended = False

    def plain(self) -> Iterator[str]:
        try:
            for self.read in itertools.count(1):
                yield f"a{self.read}"
        finally:
            self.ended = True

    async def slow(self) -> AsyncIterator[str]:
        for each in self.plain():
            await asyncio.sleep(0)
            yield each


@pytest.mark.parametrize("kind", ["plain", "slow"])
@pytest.mark.parametrize("ahead", [1, 3])
async def test_ids_are_read_no_further_ahead_than_requests_may_be_in_flight(kind: str, ahead: int) -> None:
    vendor, ids = Vendor(), Ids()
    async with served(vendor, max_concurrency=ahead) as (client, server):
        many = client.impressions.get_many(getattr(ids, kind)())
        async with aclosing(many):
            for given in range(1, 20):
                assert f"a{given}" == (await anext(many)).id
                await asyncio.sleep(0.003)
                assert given <= ids.read <= given + ahead
        assert ahead >= server.peak_in_flight
        assert set() == client._engine.core.state().tasks


async def test_a_slow_vendor_does_not_let_ids_pile_up() -> None:
    vendor, ids = Vendor(), Ids()
    vendor.open.clear()
    async with served(vendor, max_concurrency=3) as (client, server):
        task = asyncio.create_task(collected(client, ids.plain()))
        await server.sees(3)
        await asyncio.sleep(0.05)
        assert 3 == ids.read
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: vendor.gone == 3)
        assert set() == client._engine.core.state().tasks


async def test_leaving_early_cancels_what_is_in_flight() -> None:
    vendor, ids = Vendor(), Ids()
    async with served(vendor, max_concurrency=4) as (client, server):
        many = client.impressions.get_many(ids.plain())
        async with aclosing(many):
            await anext(many)
            vendor.open.clear()
            await anext(many)
            await until(lambda: 0 < server.in_flight)
        assert set() == client._engine.core.state().tasks
        await until(lambda: 0 == server.in_flight)
        assert 0 < vendor.gone


async def test_a_plain_break_leaves_nothing_once_the_client_is_closed() -> None:
    vendor, ids = Vendor(), Ids()
    async with served(vendor, max_concurrency=4) as (client, server):
        async for _ in client.impressions.get_many(ids.plain()):
            vendor.open.clear()
            break
        gc.collect()
        await client.close()
        assert set() == asyncio.all_tasks() - server.tasks - {asyncio.current_task()}


async def test_ids_that_fail_fail_in_their_place() -> None:
    async def ids() -> AsyncIterator[str]:
        yield "a"
        yield "b"
        raise KeyError("the source broke")

    vendor = Vendor()
    vendor.open.clear()
    async with served(vendor) as (client, server):
        task = asyncio.create_task(given_before(client, KeyError, ids()))
        await server.sees(2)
        await turns()
        vendor.open.set()
        assert ["a", "b"] == await task


async def test_closing_does_not_wait_for_ids_that_never_come() -> None:
    never = asyncio.Event()

    async def ids() -> AsyncIterator[str]:
        yield "a"
        await never.wait()
        yield "b"

    async with served(Vendor()) as (client, server):
        task = asyncio.create_task(given_before(client, ClientStateError, ids()))
        await server.sees(1)
        await asyncio.sleep(0.02)
        async with asyncio.timeout(2):
            await client.close()
        never.set()
        assert ["a"] == await task


async def test_a_closed_client_gives_no_impression_and_no_warning() -> None:
    async with served(Vendor()) as (client, _):
        await client.close()
        assert [] == await given_before(client, ClientStateError, ["a", "b"])
        gc.collect()


async def test_without_a_key_the_variable_is_named() -> None:
    async with DistinctClient() as client:
        with pytest.raises(ConfigurationError, match="VANTIO_API_KEY"):
            await collected(client, ["a"])


async def test_many_share_requests_with_other_callers_and_fill_the_cache() -> None:
    vendor = Vendor()
    vendor.open.clear()
    async with served(vendor) as (client, server):
        single = start(client, "a")
        many = asyncio.create_task(collected(client, ["a", "b"]))
        await server.sees(2)
        await turns()
        vendor.open.set()
        assert ("a", ["a", "b"]) == ((await single[0]).id, await many)
        await client.impressions.get("b")
    assert ["a", "b"] == sorted(asked(server))


# -- lists


@pytest.mark.parametrize("order", ["ascending", "descending"])
async def test_a_list_is_walked_by_program_and_by_poster(order: Any) -> None:
    world = World.sample(touchpoints=3, scans=200, users=9)
    world.add_impression("imp_other", program_id="prog_2", poster_id="poster_2")
    async with (
        FakeServer(world, order=order, max_limit=20) as fake,
        DistinctClient(vantio_api_key=fake.vantio_api_key, vantio_base_url=fake.url) as client,
    ):
        filters: list[dict[str, Any]] = [
            {},
            {"program_id": "prog_exp-1"},
            {"poster_id": "poster_tp-1"},
            {"program_id": "prog_2", "poster_id": "poster_2"},
            {"program_id": "prog_2", "poster_id": "poster_tp-1"},
        ]
        for asked_for in filters:
            found = await client.impressions.list(**asked_for).collect()
            expected = world.find_impressions(**asked_for)
            assert list(expected if order == "ascending" else expected[::-1]) == [each.id for each in found]
    assert 201 == len(world.impressions)


async def test_a_list_can_begin_later_and_end_earlier() -> None:
    world = World.sample(touchpoints=1, scans=100, users=9)
    async with (
        FakeServer(world) as fake,
        DistinctClient(vantio_api_key=fake.vantio_api_key, vantio_base_url=fake.url) as client,
    ):
        found = await client.impressions.list(page_size=10, offset=15, limit=25).collect()
    assert list(world.impressions[15:40]) == [each.id for each in found]
    assert ["15", "24", "33"] == [one.query["offset"] for one in fake.requests]


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        *((name, bad) for name in ("program_id", "poster_id") for bad in ("", " ", "a\nb", 5)),
        *(("page_size", bad) for bad in (0, -1, "1", True)),
        *((name, bad) for name in ("offset", "limit") for bad in (-1, "0", 1.0)),
        ("on_drift", "ignore"),
    ],
)
async def test_a_bad_list_is_refused_when_it_is_made(name: str, bad: Any) -> None:
    async with DistinctClient(vantio_api_key=VANTIO_KEY) as client:
        with pytest.raises(InvalidRequestError, match=name):
            client.impressions.list(**{name: bad})


@pytest.mark.parametrize(
    "bad", ["", " ", ".", "..", "a\nb", "a\r", "a\0", "\x7f", "\x9f", "\ud800", None, 5, b"a"], ids=ascii
)
async def test_a_bad_id_is_refused_before_anything_is_sent(bad: Any) -> None:
    async with served(Vendor()) as (client, server):
        with pytest.raises(InvalidRequestError, match="impression_id") as caught:
            await client.impressions.get(bad)
    assert (0, 0) == (caught.value.attempts, server.connections)


async def test_an_answer_in_several_requests_is_not_repeated_for_a_filter_that_is_not_honoured() -> None:
    same = [impression(f"a{n}") for n in range(3)]
    behaviours: list[Behaviour | object] = [{"impressions": same}]
    async with served(*behaviours) as (client, server):
        with pytest.raises(DistinctError, match="offset"):
            await client.impressions.list(program_id="prog_1").collect()
    assert [None, "2", "3"] == [query(seen).get("offset") for seen in server.requests]
