"""A page's bytes to rows with aware datetimes, the envelope included; the floor has dicts and no datetimes."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from importlib import import_module
from typing import Any

import orjson

from benchmarks.server import Server, visits_page
from benchmarks.turns import Cost, Peer, Section, Turn, clocked, take_turns
from distinct_async import structure
from distinct_async.sansio import dialect
from distinct_async.sansio.messages import Request, Response

_ROWS_A_TURN = 10_000


def _dicts(body: bytes) -> Any:  # noqa: ANN401  # JSON
    return orjson.loads(body)["data"]["touchpoints"]["totalVisitsDetails"]["items"]


def _dicts_with_datetimes(body: bytes) -> Any:  # noqa: ANN401
    rows = _dicts(body)
    for row in rows:
        row["timestampUTC"] = datetime.fromisoformat(row["timestampUTC"])
    return rows


def _ours() -> Callable[[bytes], object]:
    request = Request("distinct", "metrics.total_visits", "/v3/touchpoint/metrics", decoder=structure.VISITS["TOTAL"])

    def read(body: bytes) -> object:
        reading = dialect.read(request, Response(200, {"Content-Type": "application/json"}, body))
        if reading.value is None:
            raise AssertionError
        return structure.visits_page(reading.value)

    return read


def _turn(read: Callable[[bytes], object], body: bytes, times: int) -> Turn:
    async def work() -> None:
        for _ in range(times):
            read(body)

    async def turn() -> Cost:
        return await clocked(work)

    return turn


async def measure(server: Server, *, full: bool) -> AsyncIterator[Section]:  # noqa: ARG001  # as the other subjects
    """Pages of 50 and of 1 000 rows."""
    ways = {"dicts and fromisoformat": _dicts_with_datetimes, "ours": _ours()}
    try:
        ways["pydantic"] = import_module("benchmarks.with_pydantic").touchpoint
    except ImportError as missing:
        print(f"structuring: skipped pydantic: {missing}")
    for size in (50, 1000):
        body, times = visits_page(size, 0, size), _ROWS_A_TURN // size
        peers = [
            Peer(name, _turn(read, body, times), *(("pydantic", "time <= 2, ~speed >= 2.2") if name == "ours" else ()))
            for name, read in ways.items()
        ]
        floor = Peer("orjson to dicts", _turn(_dicts, body, times))
        yield await take_turns(f"structuring, {size} rows", floor, peers, 25 if full else 7)
