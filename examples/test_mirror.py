"""Tests of the mirror: it holds each row once, however often it runs, and whenever it is killed."""

import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from distinct_async.testing import FakeServer, World

from .mirror import mirror

ROOT = Path(__file__).parents[1]
KILLED = "import sys; from examples.mirror import mirror; mirror('exp-1', sys.argv[1], batch_rows=60)"


def stored(path: Path) -> list[tuple[str, int, str]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT touchpoint_id, position, user_id FROM visits ORDER BY 1, 2").fetchall()


def scanned(world: World) -> list[tuple[str, int, str]]:
    return sorted(
        (each, position, scan.user_id) for each in world.touchpoints for position, scan in enumerate(world.scans(each))
    )


def test_each_run_appends_only_what_is_new(distinct_env: FakeServer, distinct_world: World, tmp_path: Path) -> None:
    path = tmp_path / "visits.sqlite"
    assert len(scanned(distinct_world)) == mirror("exp-1", str(path))
    distinct_world.grow(5, "tp-2")
    distinct_env.requests.clear()
    assert 5 == mirror("exp-1", str(path))
    assert {None, "tp-2"} == {request.query.get("touchpointId") for request in distinct_env.requests}
    assert scanned(distinct_world) == stored(path)


@pytest.mark.timeout(120)  # processes of their own, on a machine that may be busy
def test_killed_at_any_moment_and_run_again_it_has_every_row_once(
    distinct_env: FakeServer, distinct_world: World, tmp_path: Path
) -> None:
    path, numbers, kills = tmp_path / "visits.sqlite", random.Random(7), 0  # noqa: S311  # moments to die in
    distinct_env.latency, distinct_env.max_page_size = 0.001, 20
    while kills < 4:
        distinct_env.requests.clear()
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], cwd=ROOT)
        after = numbers.randrange(2, 60)
        while process.poll() is None and len(distinct_env.requests) < after:
            time.sleep(0.001)
        process.kill()
        kills += bool(process.wait())
        rows = stored(path) if path.exists() else []
        assert {*rows} <= {*scanned(distinct_world)}
        assert len(rows) == len({*rows})
        distinct_world.grow(30)
    mirror("exp-1", str(path))
    assert scanned(distinct_world) == stored(path)
