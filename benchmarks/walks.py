"""A walk through a touchpoint's visits, over a real socket; the floor is the sequential loop by hand."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import aiohttp
from attrs import evolve, frozen

from benchmarks import by_hand
from benchmarks.server import Server
from benchmarks.turns import Cost, Peer, Section, Turn, clocked, take_turns
from distinct_async import DistinctClient


@frozen
class Case:
    """So many pages at so many milliseconds; `targets` are of our walk: by the window, and by how it is iterated."""

    latency: int
    size: int
    pages: int
    windows: tuple[int, ...]
    targets: Mapping[tuple[int, str], str]

    @property
    def rows(self) -> int:
        """The rows of the whole walk."""
        return self.pages * self.size

    def __str__(self) -> str:
        return f"walk, {self.latency} ms, {self.size} a page, {self.pages} pages"


_CASES = [
    Case(0, 50, 120, (1, 8, 16), {(8, "items"): "speed >= 1, ~cpu <= 1.4"}),
    Case(0, 1000, 30, (1, 8, 16), {(8, "items"): "speed >= 0.55", (8, "pages"): "speed >= 0.65"}),
    Case(5, 50, 80, (1, 8, 16), {(8, "items"): "speed >= 6.5, ~speed >= 0.93", (16, "items"): "~speed >= 0.9"}),
    Case(5, 1000, 30, (1, 8, 16), {}),
]
_SLOW_CASES = [Case(50, 50, 80, (8, 32), {(8, "items"): "speed >= 6.4", (32, "items"): "speed >= 15"})]


async def items(client: DistinctClient, rows: int, size: int, prefetch: int) -> int:
    """Row by row; returns the rows seen."""
    seen = 0
    async for _ in client.metrics.total_visits(str(rows), page_size=size, prefetch=prefetch):
        seen += 1
    return seen


async def pages(client: DistinctClient, rows: int, size: int, prefetch: int) -> int:
    """Page by page."""
    seen = 0
    async for page in client.metrics.total_visits(str(rows), page_size=size, prefetch=prefetch).pages():
        for _ in page.items:
            seen += 1
    return seen


def turn(walk: Callable[[], Awaitable[int]], rows: int) -> Turn:
    """A turn of this walk, which must see all rows."""

    async def whole() -> None:
        if (seen := await walk()) != rows:
            raise AssertionError(f"a walk saw {seen} of {rows} rows")

    async def timed() -> Cost:
        return await clocked(whole)

    return timed


@asynccontextmanager
async def contenders(server: Server, case: Case) -> AsyncIterator[tuple[Peer, Sequence[Peer]]]:
    """The floor, and for each window what is by hand and what is ours, the rows one by one last."""
    url, rows, size = server.url(case.latency), case.rows, case.size
    async with (
        aiohttp.ClientSession(headers={"x-distinct-api-key": "bench"}) as session,
        DistinctClient("bench", base_url=url, max_concurrency=max(case.windows)) as client,
    ):
        peers = []
        for ahead in case.windows:
            beside = f"by hand, window {ahead}" if ahead > 1 else None
            if beside:
                peers.append(Peer(beside, turn(partial(by_hand.window, session, url, rows, size, ahead), rows)))
            for walk in (pages, items):
                name, target = f"ours, window {ahead}, {walk.__name__}", case.targets.get((ahead, walk.__name__), "")
                peers.append(Peer(name, turn(partial(walk, client, rows, size, ahead), rows), beside, target))
        by_one = turn(partial(by_hand.sequential, session, url, rows, size), rows)
        yield Peer("by hand, one after the other", by_one), peers


async def measure(server: Server, *, full: bool) -> AsyncIterator[Section]:
    """Pages of 50 and 1 000 rows, at 0 and 5 ms (and 50, if `full`), with windows of 1, 8, 16 (and 32)."""
    for each in _CASES + (_SLOW_CASES if full else []):
        case = evolve(each, pages=each.pages * 2) if full else each
        rounds = {0: 5, 5: 2, 50: 1}[case.latency] * (3 if full else 1)
        async with contenders(server, case) as (floor, peers):
            yield await take_turns(str(case), floor, peers, rounds, facts=server.counters)
