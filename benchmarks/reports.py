"""A report of 1 000 000 stored rows beside one of a tenth of them: time, CPU and memory, without a network.

Each turn is a process of its own, in an environment with the extra `report`. DuckDB makes the rows: what is measured is
reading them, counting, and drawing.
"""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from functools import partial
from importlib import import_module
from pathlib import Path
from time import perf_counter, process_time

from benchmarks.memory import peak
from benchmarks.peers import environment
from benchmarks.server import Server
from benchmarks.turns import Cost, Peer, Section, take_turns
from distinct_async import DistinctClient, etl
from distinct_async.testing import FakeServer, World

_ROWS, _TOUCHPOINTS = 1_000_000, 200
_FILL = """
INSERT INTO visits (experience_id, touchpoint_id, position, user_id, timestamp_utc)
SELECT 'exp-1', 'tp-' || (number % $touchpoints + 1), number // $touchpoints, 'user-' || (hash(number) % ($rows // 10)),
    TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_seconds(CAST(number * (180 * 86400 / $rows) AS BIGINT))
FROM range($rows) AS numbers (number)
"""


async def _make(database: Path, rows: int) -> None:
    """Make a warehouse of so many rows: the tables by a sync of an empty experience."""
    async with (
        FakeServer(World.sample(touchpoints=_TOUCHPOINTS, scans=0)) as fake,
        DistinctClient(**fake.settings) as client,
    ):
        await etl.sync(client, "exp-1", database)
    duckdb = import_module("duckdb")  # by name: only the environment with the extra has it
    with duckdb.connect(str(database)) as connection:
        connection.execute(_FILL, {"rows": rows, "touchpoints": _TOUCHPOINTS})


async def _work(database: Path, rows: int) -> None:
    began, spent = perf_counter(), process_time()
    file = database.with_suffix(".html")
    result = await etl.report(None, "exp-1", file, warehouse=database, offline=True, timezone="Europe/Berlin")
    if result.visits != rows:
        raise AssertionError("rows are missing")
    print(process_time() - spent, perf_counter() - began, peak())


async def _child(python: Path, rows: int) -> Cost:
    printed = b""
    with tempfile.TemporaryDirectory() as folder:
        for step in ("make", "work"):  # in two processes: the first needs memory of its own
            words = (str(python), "-m", __name__, step, f"{folder}/warehouse.duckdb", str(rows))
            process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
            printed, _ = await process.communicate()
    return dict(zip(("cpu", "time", "peak"), map(float, printed.split()[-3:]), strict=True))


async def measure(_server: Server, *, full: bool) -> AsyncIterator[Section]:
    """One report of each size; with `full`, of ten times the rows too."""
    if (python := await environment("report", "ua-parser", "vl-convert-python")) is None:
        return
    few = Peer(f"{_ROWS // 10:,} rows", partial(_child, python, _ROWS // 10))
    sizes = (_ROWS, _ROWS * 10) if full else (_ROWS,)
    many = [Peer(f"{rows:,} rows", partial(_child, python, rows)) for rows in sizes]
    yield await take_turns(f"a report, {_TOUCHPOINTS} touchpoints", few, many, 1, warm_up=False)


if __name__ == "__main__":
    asyncio.run({"make": _make, "work": _work}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3])))
