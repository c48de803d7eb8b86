"""A walk through a touchpoint's visits, over a real socket; the floor is the sequential loop by hand."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import aiohttp
from attrs import frozen

from benchmarks import by_hand
from benchmarks.server import Server
from benchmarks.turns import Cost, Peer, Section, Turn, clocked, take_turns
from distinct_async import DistinctClient


@frozen
class _Case:
    """`targets` are of our walk: by the window, and by how it is iterated."""

    latency: int
    size: int
    pages: int
    windows: tuple[int, ...]
    targets: dict[tuple[int, str], str]


_CASES = [
    _Case(0, 50, 120, (1, 8, 16), {(8, "items"): "speed >= 1, ~cpu <= 1.4"}),
    _Case(0, 1000, 30, (1, 8, 16), {(8, "items"): "speed >= 0.55", (8, "pages"): "speed >= 0.65"}),
    _Case(5, 50, 60, (1, 8, 16), {(8, "items"): "speed >= 6.5, ~ >= 0.93", (16, "items"): "~speed >= 0.9"}),
    _Case(5, 1000, 30, (1, 8, 16), {}),
]
_SLOW_CASES = [_Case(50, 50, 60, (8, 32), {(8, "items"): "speed >= 6.4", (32, "items"): "speed >= 15"})]


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


def _turn(walk: Callable[[], Awaitable[int]], rows: int) -> Turn:
    async def whole() -> None:
        if (seen := await walk()) != rows:
            raise AssertionError(f"a walk saw {seen} of {rows} rows")

    async def turn() -> Cost:
        return await clocked(whole)

    return turn


async def measure(server: Server, *, full: bool) -> AsyncIterator[Section]:
    """Pages of 50 and 1 000 rows, at 0 and 5 ms (and 50, if `full`), with windows of 1, 8, 16 (and 32)."""
    for case in _CASES + (_SLOW_CASES if full else []):
        rounds = (9 if case.latency < 50 else 3) if full else (5 if case.latency == 0 else 3)
        pages_a_turn = case.pages * (3 if full else 1)
        url, rows = server.url(case.latency), case.size * pages_a_turn
        async with (
            aiohttp.ClientSession(headers={"x-distinct-api-key": "bench"}) as session,
            DistinctClient("bench", base_url=url, max_concurrency=max(case.windows)) as client,
        ):
            floor = Peer(
                "by hand, one after the other", _turn(partial(by_hand.sequential, session, url, rows, case.size), rows)
            )
            peers = []
            for ahead in case.windows:
                beside = f"by hand, window {ahead}" if ahead > 1 else None
                if beside:
                    peers.append(
                        Peer(beside, _turn(partial(by_hand.window, session, url, rows, case.size, ahead), rows))
                    )
                for walk in (items, pages):
                    told = f"ours, window {ahead}, {walk.__name__}"
                    turn = _turn(partial(walk, client, rows, case.size, ahead), rows)
                    peers.append(Peer(told, turn, beside, case.targets.get((ahead, walk.__name__), "")))
            title = f"walk, {case.latency} ms, {case.size} a page, {pages_a_turn} pages"
            yield await take_turns(title, floor, peers, rounds, facts=server.counters)
