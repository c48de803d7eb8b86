"""Single impressions, the cache off; what matters is ``cpu``."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import aiohttp

from benchmarks import by_hand
from benchmarks.server import Server
from benchmarks.turns import Cost, Peer, Section, Turn, clocked, take_turns
from distinct_async import Attempt, DistinctClient

_GETS_A_TURN = 256


def _turn(get: Callable[[str], Awaitable[object]], at_once: int) -> Turn:
    async def worker(numbers: range) -> None:
        for number in numbers:
            await get(f"imp-{number}")

    async def work() -> None:
        await asyncio.gather(*(worker(range(first, _GETS_A_TURN, at_once)) for first in range(at_once)))

    async def turn() -> Cost:
        return await clocked(work)

    return turn


async def measure(server: Server, *, full: bool) -> AsyncIterator[Section]:
    """1, 8 and 64 at once."""
    url = server.url(0)
    async with (
        aiohttp.ClientSession(headers={"Authorization": "Bearer bench"}) as session,
        DistinctClient(vantio_api_key="bench", vantio_base_url=url, impression_cache=0, max_concurrency=64) as client,
    ):
        for at_once in (1, 8, 64):
            floor = Peer("raw aiohttp and orjson", _turn(partial(by_hand.impression, session, url), at_once))
            ours = Peer("ours", _turn(client.impressions.get, at_once), target="cpu <= 1.2")
            watched = client.with_options(on_attempt=deque[Attempt](maxlen=1).append)
            noted = Peer("ours, with on_attempt", _turn(watched.impressions.get, at_once), "ours")
            yield await take_turns(f"impressions.get, {at_once} at once", floor, [ours, noted], 25 if full else 5)
