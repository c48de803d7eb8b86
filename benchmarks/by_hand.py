"""What one would write without us: raw aiohttp and orjson, plain dicts, no retries, no checks.

The sequential loop is the floor of the walks; the window is what a quick programmer gets out of the same wire.
"""

import asyncio
from collections import deque
from typing import Any

import aiohttp
import orjson


async def _page(session: aiohttp.ClientSession, url: str, rows: int, size: int, offset: int) -> bytes:
    query = f"metricsType=TOUCHPOINT&touchpointId={rows}&visitsType=TOTAL&pageSize={size}&offset={offset}"
    async with session.get(f"{url}/v3/touchpoint/metrics?{query}") as response:
        return await response.read()


def _read(body: bytes) -> tuple[int, list[dict[str, Any]]]:
    touchpoint = orjson.loads(body)["data"]["touchpoints"]
    return touchpoint["totalVisits"], touchpoint["totalVisitsDetails"]["items"]


async def sequential(session: aiohttp.ClientSession, url: str, rows: int, size: int) -> int:
    """One page after the other; returns the rows seen."""
    seen, total = 0, 1
    while seen < total:
        total, items = _read(await _page(session, url, rows, size, seen))
        for _ in items:
            seen += 1
    return seen


async def window(session: aiohttp.ClientSession, url: str, rows: int, size: int, ahead: int) -> int:
    """The first page alone, then `ahead` at a time in order, asked for before the page in hand is decoded."""
    total, items = _read(await _page(session, url, rows, size, 0))
    offsets = iter(range(len(items), total, len(items)))
    tasks: deque[asyncio.Task[bytes]] = deque()
    seen = 0
    while True:
        for _ in items:
            seen += 1
        while len(tasks) < ahead and (offset := next(offsets, None)) is not None:
            tasks.append(asyncio.create_task(_page(session, url, rows, size, offset)))
        if not tasks:
            return seen
        body = await tasks.popleft()
        if (offset := next(offsets, None)) is not None:
            tasks.append(asyncio.create_task(_page(session, url, rows, size, offset)))
        _, items = _read(body)


async def impression(session: aiohttp.ClientSession, url: str, impression_id: str) -> Any:  # noqa: ANN401  # JSON
    """One impression."""
    async with session.get(f"{url}/api/v1/impressions/{impression_id}") as response:
        return orjson.loads(await response.read())
