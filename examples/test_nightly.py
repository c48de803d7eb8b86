"""Tests of the nightly job: it requests only new rows, and reports a failure without stopping the rest."""

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from distinct_async import DistinctClient, RetryPolicy
from distinct_async.testing import FakeServer, World

from .nightly import nightly


def counted(database: Path) -> list[tuple[str, int]]:
    with duckdb.connect(str(database), read_only=True) as opened:
        return opened.execute("SELECT touchpoint_id, count(*) FROM visits GROUP BY ALL ORDER BY ALL").fetchall()


@pytest.mark.timeout(120)  # processes of their own, on a machine that may be busy
def test_each_night_stores_what_is_new(distinct_env: FakeServer, distinct_world: World, tmp_path: Path) -> None:
    database = tmp_path / "warehouse.duckdb"
    words = [sys.executable, "-m", "examples.nightly", "exp-1", str(database), "prog_exp-1"]
    for new in (0, 5):
        distinct_world.grow(new, "tp-2")
        distinct_env.requests.clear()
        done = subprocess.run(words, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stderr

        assert [(each, len(distinct_world.scans(each))) for each in distinct_world.touchpoints] == counted(database)
    assert {None, "tp-2"} == {request.query.get("touchpointId") for request in distinct_env.requests}


@pytest.mark.asyncio
async def test_a_list_that_fails_is_reported_and_the_others_are_stored(
    distinct_env: FakeServer, distinct_world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    distinct_env.fail(status=500, query={"touchpointId": "tp-2"})

    async with DistinctClient(retry=RetryPolicy(attempts=1)) as client:
        assert not await nightly(client, "exp-1", tmp_path / "warehouse.duckdb")

    stored = [(each, len(distinct_world.scans(each))) for each in ("tp-1", "tp-3")]
    assert stored == counted(tmp_path / "warehouse.duckdb")
    assert "touchpoint 'tp-2', TOTAL visits" in caplog.text
