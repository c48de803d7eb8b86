"""Databases and exports that version 0.1.0 wrote are continued."""

import json
from pathlib import Path

import pytest

from distinct_async import DistinctClient, etl
from distinct_async.errors import DriftError
from distinct_async.testing import FakeServer, World
from tests.written import grown_world, rearranged_world, written

from .rows import BOTH, asked, read_file, rows_from, rows_of, rows_stored


@pytest.fixture
def world() -> World:
    return grown_world()


async def test_a_database_of_0_1_0_gains_what_is_new(
    client: DistinctClient, fake: FakeServer, world: World, tmp_path: Path
) -> None:
    database = written(tmp_path) / "warehouse.duckdb"
    fake.requests.clear()
    result = await etl.sync(client, "exp-1", database, visits_type=None)
    assert (True, 30 + 10 + 5) == (result.complete, result.rows - _unique_growth(world))
    assert rows_of(world, *BOTH) == sorted(rows_stored(database, *BOTH), key=rows_of(world, *BOTH).index)
    names = "SELECT DISTINCT touchpoint_id, touchpoint_name FROM {} ORDER BY ALL"
    assert names_of(world) == asked(database, names.format("visits")) == asked(database, names.format("unique_visits"))
    assert 0 == sum(missing for (missing,) in asked(database, "SELECT missing FROM reconciliation"))


async def test_a_database_of_0_1_0_notices_a_changed_history(tmp_path: Path) -> None:
    database = written(tmp_path) / "warehouse.duckdb"
    before = asked(database, "SELECT * FROM visits ORDER BY ALL")
    async with FakeServer(rearranged_world()) as fake, DistinctClient(fake.api_key, base_url=fake.url) as client:
        with pytest.raises(DriftError):
            await etl.sync(client, "exp-1", database, visits_type=None)
    assert before == asked(
        database, "SELECT experience_id, touchpoint_id, position, user_id, timestamp_utc FROM visits ORDER BY ALL"
    )


async def test_impressions_of_a_database_of_0_1_0_are_not_asked_for_again(
    client: DistinctClient, fake: FakeServer, tmp_path: Path
) -> None:
    database = written(tmp_path) / "warehouse.duckdb"
    stored = asked(database, "SELECT id FROM impressions ORDER BY id")
    assert 5 == len(stored)
    fake.requests.clear()
    await etl.sync_impressions(client, database, ids=[row[0] for row in stored])
    assert [] == fake.requests


async def test_an_unfinished_export_of_0_1_0_is_finished(
    client: DistinctClient, fake: FakeServer, world: World, tmp_path: Path
) -> None:
    target = written(tmp_path) / "unfinished.parquet"
    fake.requests.clear()
    result = await etl.export(client, "exp-1", target, visits_type=None)
    assert result.complete
    assert rows_of(world, *BOTH) == rows_from(target)
    assert names_of(world) == sorted({(row["touchpoint_id"], row["touchpoint_name"]) for row in read_file(target)})
    first = [request.query.get("offset") for request in fake.requests if "TOTAL" in str(request.query)]
    assert "59" in first  # the 60 rows of tp-1 that the parts have are not asked for
    assert not (tmp_path / "unfinished.parquet.parts").exists()
    manifest = json.loads((tmp_path / "unfinished.parquet.manifest.json").read_bytes())
    assert (True, result.rows) == (manifest["complete"], manifest["written"])


async def test_a_finished_export_of_0_1_0_is_replaced(client: DistinctClient, world: World, tmp_path: Path) -> None:
    target = written(tmp_path) / "finished.parquet"
    await etl.export(client, "exp-1", target, visits_type=None)
    assert rows_of(world, *BOTH) == rows_from(target)


def names_of(world: World) -> list[tuple[str, str | None]]:
    return sorted((each, world.touchpoint(each).name) for each in world.touchpoints)


def _unique_growth(world: World) -> int:
    return sum(
        len(world.unique_scans(name)) - len({scan.user_id for scan in world.scans(name)[:count]})
        for name, count in {"tp-1": 60, "tp-2": 35, "tp-3": 10}.items()
    )
