"""A real process that is killed at random moments, and run again until it ends: every row is there exactly once.

``KILLS`` in the environment says how often each job is killed: 3 times where it is not set; `nox -s kill` sets 20.
"""

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from distinct_async.testing import FakeServer, World

from .rows import BOTH, asked, rows_from, rows_of, rows_stored

KILLS = int(os.environ.get("KILLS", "3"))

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="kill -9 is a matter of POSIX"),
    pytest.mark.timeout(60 + 10 * KILLS),
]

# Small transactions and parts, so that there are many moments to die in.
SCRIPT = """
import asyncio, sys
from distinct_async import DistinctClient, RetryPolicy, etl

url, key, job, target, page_size = sys.argv[1:]

async def main():
    retry = RetryPolicy(attempts=8, base=0.001, cap=0.01)
    async with DistinctClient(key, base_url=url, retry=retry) as client:
        sizes = {"page_size": int(page_size), "batch_rows": 40}
        if job == "export":
            result = await etl.export(client, "exp-1", target, visits_type=None, **sizes)
        else:
            result = await etl.sync(client, "exp-1", target, on_drift="rebuild", **sizes)
        assert result.complete

asyncio.run(main())
"""


@pytest.fixture
def world() -> World:
    return World.sample(touchpoints=3, scans=500, users=40, seed=7)


@pytest.fixture
def stormy(fake: FakeServer) -> FakeServer:
    """503s, resets and cut bodies rain on pages that are smaller than asked for."""
    fake.max_page_size, fake.latency = 9, 0.001
    fake.fail(status=503, probability=0.03, seed=1)
    fake.fail(wire="reset", probability=0.03, seed=2)
    fake.fail(wire="cut", probability=0.03, seed=3)
    return fake


async def killed(fake: FakeServer, job: str, target: Path, requests: int, seconds: float, page_size: int) -> bool:
    """Start the job and kill it some seconds after so many requests; False where it came to its end before."""
    fake.requests.clear()
    arguments = (fake.url, fake.api_key, job, str(target), str(page_size))
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SCRIPT, *arguments)
    ending = asyncio.create_task(process.wait())
    try:
        while len(fake.requests) < requests and not ending.done():
            await asyncio.wait([ending], timeout=0.002)
        await asyncio.wait([ending], timeout=seconds)
    finally:
        if not ending.done():
            process.send_signal(signal.SIGKILL)
        code = await ending
    assert code in {0, -signal.SIGKILL}
    return code != 0


async def test_an_export_that_is_killed_and_run_again_has_every_row_once(
    stormy: FakeServer, world: World, tmp_path: Path
) -> None:
    rng, path, kills = random.Random(KILLS), tmp_path / "visits.jsonl", 0
    while kills < KILLS:
        # Up to all of its requests, and then some time for putting the parts together
        requests, page_size = rng.randrange(1, 90), rng.choice((5, 9, 50))
        if await killed(stormy, "export", path, requests, rng.uniform(0, 0.03), page_size):
            kills += 1
            if path.exists():  # killed between the file and its manifest, or behind that
                assert rows_of(world, *BOTH) == rows_from(path)
        else:
            assert rows_of(world, *BOTH) == rows_from(path)
            path.unlink()
            world.grow(20)
    assert not await killed(stormy, "export", path, 10**6, 60, 9)
    assert rows_of(world, *BOTH) == rows_from(path)
    assert {path.name, f"{path.name}.manifest.json"} == set(os.listdir(tmp_path))  # noqa: PTH208


async def test_a_sync_that_is_killed_and_run_again_has_every_row_once(
    stormy: FakeServer, world: World, tmp_path: Path
) -> None:
    rng, database, kills = random.Random(KILLS), tmp_path / "warehouse.duckdb", 0
    while kills < KILLS:
        if await killed(stormy, "sync", database, rng.randrange(1, 60), rng.uniform(0, 0.03), rng.choice((5, 9, 50))):
            kills += 1
            stored = rows_stored(database, *BOTH) if tables(database) else []
            assert {*stored} <= {*rows_of(world, *BOTH)}
            assert len({*stored}) == len(stored)
        else:
            assert sorted(rows_of(world, *BOTH)) == sorted(rows_stored(database, *BOTH))
            world.grow(100)
    assert not await killed(stormy, "sync", database, 10**6, 60, 9)
    assert sorted(rows_of(world, *BOTH)) == sorted(rows_stored(database, *BOTH))
    assert [(0,)] == asked(database, "SELECT sum(abs(missing)) FROM reconciliation")


def tables(database: Path) -> list[tuple[object, ...]]:
    return asked(database, "SHOW TABLES") if database.exists() else []


async def test_a_rebuild_that_is_killed_has_left_the_old_rows(fake: FakeServer, world: World, tmp_path: Path) -> None:
    database = tmp_path / "warehouse.duckdb"
    assert not await killed(fake, "sync", database, 10**6, 60, 20)
    old = rows_stored(database, *BOTH)
    for touchpoint_id in world.touchpoints:
        world.insert(touchpoint_id, 0, "user-0", "2026-05-01T00:00:00Z")
    fault = fake.fail(query={"touchpointId": "tp-1", "offset": "200"}, wire="hang")
    assert await killed(fake, "sync", database, 25, 0.3, 20)
    stored = rows_stored(database, *BOTH)
    for touchpoint_id in world.touchpoints:
        for kind in BOTH:
            shown = [row for row in stored if row[:2] == (touchpoint_id, kind)]
            before = [row for row in old if row[:2] == (touchpoint_id, kind)]
            after = [row for row in rows_of(world, kind) if row[0] == touchpoint_id]
            assert shown == before or (shown == after and (touchpoint_id, kind) != ("tp-1", "TOTAL"))
    fake.faults.remove(fault)
    assert not await killed(fake, "sync", database, 10**6, 60, 20)
    assert sorted(rows_of(world, *BOTH)) == sorted(rows_stored(database, *BOTH))
