"""httpx and pydantic by hand: one after the other, and with a window."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx

from benchmarks.peers import Way, by_hand
from benchmarks.with_pydantic import touchpoint


@asynccontextmanager
async def ways(url: str) -> AsyncIterator[Mapping[str, Way]]:
    """Typed rows with aware datetimes, as ours are."""
    async with httpx.AsyncClient(base_url=url, headers={"x-distinct-api-key": "bench"}) as http:

        async def ask(rows: int, size: int, offset: int) -> tuple[int, int]:
            query = {"touchpointId": rows, "pageSize": size, "offset": offset}
            response = await http.get(
                "/v3/touchpoint/metrics", params={"metricsType": "TOUCHPOINT", "visitsType": "TOTAL", **query}
            )
            response.raise_for_status()
            read = touchpoint(response.content)
            return read.total_visits, sum(1 for _ in read.details.items)

        yield by_hand(ask)
