"""What calls cost, in numbers that no load can move: requests, requests in flight, calls of our functions, objects.

Seconds are for ``benchmarks/``. The limits stand a little above what was counted on 2026-11-27, the same under CPython
3.11 to 3.13, with asyncio's debug mode and without: a change that costs more must raise one here, where a reviewer sees
it; one that saves may lower it. To see the numbers, break a limit and read the failure.
"""

import asyncio
import gc
import json
import re
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aioresponses import CallbackResult, aioresponses
from yarl import URL

import distinct_async
from distinct_async import DistinctClient, Walk
from distinct_async.models import Visit

from .rig import client_of
from .wire import responses
from .wire.server import PATIENCE, Exchange, FaultServer

PACKAGE = str(Path(distinct_async.__file__).parent)
SIZE = 50
START = datetime(2024, 1, 1, tzinfo=UTC)


@lru_cache
def page(total: int, offset: int, size: int) -> bytes:
    """One page of a touchpoint that has so many visits."""
    items = [
        {"userId": f"user-{row}", "timestampUTC": f"{START + timedelta(seconds=row):%Y-%m-%dT%H:%M:%SZ}"}
        for row in range(offset, min(total, offset + size))
    ]
    details = {"items": items, "pagination": {"offset": offset, "pageSize": size}}
    head = {"id": str(total), "name": "Entry Scan", "value": "entry_scan"}
    touchpoint = {**head, "totalVisits": total, "totalVisitsDetails": details}
    return json.dumps(responses.distinct({"touchpoints": touchpoint})).encode()


class Vendors:
    """Both vendors without a socket. A touchpoint called ``1000`` has a thousand visits."""

    def __init__(self, mocked: aioresponses) -> None:
        self.requests = 0
        mocked.get(re.compile(r"https://api\.distinct\.so/"), callback=self._metrics, repeat=True)
        mocked.get(re.compile(r"https://vantio\.app/"), callback=self._impression, repeat=True)

    def _metrics(self, url: URL, **_: Any) -> CallbackResult:
        self.requests += 1
        query = url.query
        body = page(int(query["touchpointId"]), int(query.get("offset", 0)), int(query["pageSize"]))
        return CallbackResult(body=body, content_type="application/json")

    def _impression(self, url: URL, **_: Any) -> CallbackResult:
        self.requests += 1
        return CallbackResult(payload={**responses.IMPRESSION, "id": url.name})


@pytest.fixture
def vendors() -> Iterator[Vendors]:
    """What the client of these tests talks to."""
    with aioresponses() as mocked:
        yield Vendors(mocked)


@pytest.fixture
async def client(vendors: Vendors) -> AsyncIterator[DistinctClient]:  # noqa: ARG001 - it comes first
    """A client of them."""
    async with DistinctClient("key", vantio_api_key="key") as client:
        yield client


def visits(client: DistinctClient, total: int, *, size: int = SIZE, **options: Any) -> Walk[Visit]:
    return client.metrics.total_visits(str(total), page_size=size, **options)


# --- requests ---------------------------------------------------------------------------------------------------------


async def look(client: DistinctClient) -> None:
    await visits(client, 1000, prefetch=8)


async def resumed(client: DistinctClient) -> None:
    first = await visits(client, 1000, prefetch=8)
    await visits(client, 1000).resume(first.checkpoint).collect()


async def many(client: DistinctClient) -> None:
    async for _ in client.impressions.get_many(["a", "b", "a", "c", "b"]):
        pass


async def at_once(client: DistinctClient) -> None:
    await asyncio.gather(*(client.impressions.get("a") for _ in range(8)))


REQUESTS: list[tuple[str, int, Callable[[DistinctClient], Awaitable[object]]]] = [
    ("a walk one after the other", 20, lambda client: visits(client, 1000, prefetch=1).collect()),
    ("a walk with a window", 20, lambda client: visits(client, 1000, prefetch=16).collect()),
    ("a last page that is not full", 21, lambda client: visits(client, 1001, prefetch=8).collect()),
    ("a limit", 3, lambda client: visits(client, 1000, prefetch=16, limit=2 * SIZE + 1).collect()),
    ("a limit of nothing", 0, lambda client: visits(client, 1000, limit=0).collect()),
    ("nothing there", 1, lambda client: visits(client, 0, prefetch=8).collect()),
    ("a look", 1, look),
    ("a look, and the rest of it", 1 + 20, resumed),  # rows 49 to 999: the last row is read again
    ("impressions, some of them twice", 3, many),
    ("one impression, wanted by eight at once", 1, at_once),
]


@pytest.mark.parametrize(("expected", "call"), [row[1:] for row in REQUESTS], ids=[row[0] for row in REQUESTS])
async def test_no_call_sends_a_request_too_many(
    expected: int, call: Callable[[DistinctClient], Awaitable[object]], client: DistinctClient, vendors: Vendors
) -> None:
    await call(client)

    assert expected == vendors.requests


async def test_a_window_is_full_from_the_first_page_to_the_last() -> None:
    """A page is responded when it is the oldest, and as many as there can be are in flight: never more, never fewer."""
    pages, window = 24, 8
    responded, lacking = 0, list[int]()

    async def when_full(exchange: Exchange) -> None:
        nonlocal responded
        number = int(parse_qs(urlsplit(exchange.seen.target).query).get("offset", ["0"])[0]) // SIZE
        due = min(window, pages - number) if number else 1
        try:
            async with asyncio.timeout(0 if lacking else PATIENCE):
                while responded < number or server.in_flight < due:
                    await asyncio.sleep(0.001)
        except TimeoutError:
            lacking.append(number)
        responded += 1
        await exchange.send(responses.whole(page(pages * SIZE, number * SIZE, SIZE)))

    async with FaultServer() as server, client_of(server) as client:
        server.steady = when_full
        rows = await visits(client, pages * SIZE, prefetch=window).collect()

        assert (pages * SIZE, []) == (len(rows), lacking)
        assert (pages, window) == (len(server.requests), server.peak_in_flight)


# --- calls ------------------------------------------------------------------------------------------------------------


def ours(file: str) -> bool:
    """Whether the code is the package's: its files, and what attrs and cattrs wrote for its classes."""
    return file.startswith(PACKAGE) or (file.startswith("<") and "generated" in file and "distinct_async" in file)


@contextmanager
def counted() -> Iterator[list[str]]:
    """Every call of a Python function of ours meanwhile, in order; a coroutine that goes on counts once more."""
    calls: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and ours(frame.f_code.co_filename):
            calls.append(frame.f_code.co_qualname)

    before = sys.getprofile()
    gc.collect()
    gc.disable()  # what other tests left would be finalised, and counted, in here
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(before)
        gc.enable()


async def by_pages(client: DistinctClient, pages: int, size: int, prefetch: int) -> int:
    with counted() as calls:
        async for _ in visits(client, pages * size, size=size, prefetch=prefetch).pages():
            pass
    return len(calls)


async def by_rows(client: DistinctClient, pages: int, size: int, prefetch: int) -> int:
    with counted() as calls:
        async for _ in visits(client, pages * size, size=size, prefetch=prefetch):
            pass
    return len(calls)


async def test_one_impression_costs_few_calls(client: DistinctClient) -> None:
    await client.impressions.get("warm")
    with counted() as calls:
        await client.impressions.get("cold")
    with counted() as cached:
        await client.impressions.get("cold")

    assert len(calls) <= 37, calls  # 35
    assert len(cached) <= 12, cached  # 11


@pytest.mark.parametrize(("prefetch", "limit"), [(1, 54), (8, 55)])  # 51 and 52.4
async def test_one_more_page_costs_few_calls(prefetch: int, limit: int, client: DistinctClient) -> None:
    await by_pages(client, 1, SIZE, prefetch)
    few, many = [await by_pages(client, pages, SIZE, prefetch) for pages in (16, 32)]

    assert (many - few) / 16 <= limit


async def test_a_row_costs_no_call_in_a_page_and_one_where_it_is_given_by_itself(client: DistinctClient) -> None:
    await by_pages(client, 1, SIZE, 4)
    small, large = [await by_pages(client, 4, size, 4) for size in (SIZE, 20 * SIZE)]
    few, many = [await by_rows(client, 4, size, 4) for size in (SIZE, 20 * SIZE)]

    # In four pages: whether a page is there before it is waited for is a call more or less
    assert large - small <= 4
    assert 4 * 19 * SIZE == pytest.approx(many - few, abs=4)


# --- memory -----------------------------------------------------------------------------------------------------------


async def memory_of(client: DistinctClient, rows: int) -> tuple[int, int, int]:
    """A page of so many rows, held: its blocks that we asked for, its bytes, and the most bytes until it was there."""
    await visits(client, rows, size=rows)  # the body is made, the modules are loaded
    gc.collect()
    tracemalloc.start()
    try:
        page = await visits(client, rows, size=rows)
        held, peak = tracemalloc.get_traced_memory()
        ours = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, f"{PACKAGE}/*")])  # noqa: FBT003
    finally:
        tracemalloc.stop()
    assert rows == len(page)
    return sum(place.count for place in ours.statistics("filename")), held, peak


async def test_a_row_is_three_small_objects_and_little_more_while_it_is_read(client: DistinctClient) -> None:
    small, large = [await memory_of(client, rows) for rows in (100, 1000)]  # the difference is the rows'
    blocks, held, peak = [(more - few) / 900 for few, more in zip(small, large, strict=True)]

    assert blocks < 3.1  # 3.00: the visit, its user's id, its time
    assert held < 185  # bytes: 164 to 170
    assert peak < 230  # 205 to 210: the wire's row beside ours, never a dict


def alive() -> int:
    gc.collect()
    return sum(isinstance(thing, Visit) for thing in gc.get_objects())


@pytest.mark.parametrize("prefetch", [1, 8])
async def test_only_the_rows_of_the_page_in_hand_are_alive_however_long_the_window(
    prefetch: int, client: DistinctClient
) -> None:
    before, rows = alive(), list[int]()
    async for each in visits(client, 12 * SIZE, prefetch=prefetch).pages():
        if each.offset % (4 * SIZE) == 0:  # a look at every object takes its time
            rows += [alive() - before]

    assert [SIZE, SIZE, SIZE] == rows  # in the window wait no rows of ours yet
