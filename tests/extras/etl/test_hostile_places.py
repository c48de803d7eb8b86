"""Odd paths, foreign files, damaged parts, hand-made tables: refused before a request, or handled, not destroyed."""

import csv
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from distinct_async import DistinctClient, errors, etl
from distinct_async.testing import FakeServer, World

from .rows import BOTH, asked, rows_from, rows_of, rows_stored

Job = Callable[[DistinctClient, Any], Awaitable[object]]
JOBS: dict[str, Job] = {
    "sync": lambda client, path: etl.sync(client, "exp-1", path),
    "sync_impressions": etl.sync_impressions,
    "export": lambda client, path: etl.export(client, "exp-1", path, format="csv"),
}


@pytest.mark.parametrize("name", ["exp:1", "~x", "nightly:eu", "a?b", "x.1", "é"])
async def test_odd_names_are_files_in_the_working_directory(
    client: DistinctClient, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    await etl.sync(client, "exp-1", f"{name}.duckdb")
    await etl.export(client, "exp-1", f"{name}.parquet")
    assert rows_of(world) == rows_stored(tmp_path / f"{name}.duckdb")
    assert rows_of(world) == rows_from(tmp_path / f"{name}.parquet")


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize(
    "name",
    ["s3://bucket/v.csv", "a\0.csv", "", os.fsdecode(b"caf\xe9.csv"), "x" * 251 + ".csv", "nowhere/../../x/", "folder"],
)
async def test_a_path_that_cannot_be_is_refused_before_any_request(
    client: DistinctClient, fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str, name: str
) -> None:
    (tmp_path / "work" / "folder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises((errors.InvalidRequestError, errors.StorageError)):
        await JOBS[job](client, name)
    assert ([], ["folder"]) == (fake.requests, os.listdir())  # noqa: PTH208  # names of any kind


@pytest.mark.parametrize("job", ["sync", "export"])
async def test_a_linked_target_keeps_its_link(client: DistinctClient, world: World, tmp_path: Path, job: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "data" / "real.csv")
    for _ in range(2):
        await JOBS[job](client, tmp_path / "link.csv")
        assert (tmp_path / "link.csv").is_symlink()
    rows = rows_from if job == "export" else rows_stored
    assert rows_of(world) == rows(tmp_path / "data" / "real.csv")


async def test_an_unknown_experience_leaves_nothing_behind(client: DistinctClient, tmp_path: Path) -> None:
    for job, path in ((etl.sync, "w.csv"), (etl.export, "w.csv"), (etl.export, "new/folder/w.csv")):
        with pytest.raises(errors.NotFoundError):
            await job(client, "nope", tmp_path / path)
    assert [] == [*tmp_path.iterdir()]  # noqa: ASYNC240  # a test


async def missing(database: Path) -> list[tuple[Any, ...]]:
    return asked(database, "SELECT declared, counted, missing, complete FROM reconciliation ORDER BY ALL")


async def test_declared_is_counted_and_missing_after_every_failure(
    client: DistinctClient, fake: FakeServer, world: World, tmp_path: Path
) -> None:
    database = tmp_path / "w.duckdb"
    refused = fake.fail(query={"touchpointId": "tp-1"}, status=400)
    partly = fake.fail(query={"touchpointId": "tp-2", "offset": "20"}, status=404)
    with pytest.raises(errors.DistinctError):
        await etl.sync(client, "exp-1", database, page_size=10)
    total = len(world.scans("tp-1"))
    rows = await missing(database)
    assert (total, 0, total, False) in rows
    assert [row[0] - row[1] for row in rows] == [row[2] for row in rows]
    assert all(complete is (lacking == 0) for *_, lacking, complete in rows)

    fake.faults.remove(refused)
    fake.faults.remove(partly)
    await etl.sync(client, "exp-1", database)
    assert {(0, True)} == {row[2:] for row in await missing(database)}

    world.grow(7, "tp-1")
    fake.fail(query={"touchpointId": "tp-1", "visitsType": "TOTAL"}, status=400)
    with pytest.raises(errors.BadRequestError):
        await etl.sync(client, "exp-1", database)
    assert (total + 7, total, 7, False) in await missing(database)


async def test_a_database_of_0_1_0_gets_the_view_that_adds_up(client: DistinctClient, tmp_path: Path) -> None:
    database = tmp_path / "w.duckdb"
    await etl.sync(client, "exp-1", database)
    with duckdb.connect(str(database)) as connection:
        connection.execute("CREATE OR REPLACE VIEW reconciliation AS SELECT 1 AS missing")
    await etl.sync(client, "exp-1", database)
    assert {0} == {row[2] for row in await missing(database)}


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DELETE FROM checkpoints", "visits has rows of it, and checkpoints no position behind them"),
        ("DELETE FROM checkpoints WHERE visits_type = 'UNIQUE'", "unique_visits has rows of it"),
        ("UPDATE checkpoints SET checkpoint = '{' WHERE touchpoint_id = 'tp-2'", "its row in checkpoints is damaged"),
    ],
)
async def test_rows_without_a_checkpoint_are_not_stored_twice(
    client: DistinctClient, world: World, tmp_path: Path, statement: str, problem: str
) -> None:
    database = tmp_path / "w.duckdb"
    await etl.sync(client, "exp-1", database)
    with duckdb.connect(str(database)) as connection:
        connection.execute(statement)
    world.grow(5, "tp-2")
    with pytest.raises(errors.StorageError, match=rf"'exp-1', touchpoint 'tp-\d', (TOTAL|UNIQUE) visits: {problem}"):
        await etl.sync(client, "exp-1", database)
    with duckdb.connect(str(database)) as connection:
        for table in ("checkpoints", "visits", "unique_visits"):
            connection.execute(f"DELETE FROM {table}")  # noqa: S608  # a constant
    await etl.sync(client, "exp-1", database)
    assert sorted(rows_of(world, *BOTH)) == sorted(rows_stored(database, *BOTH))


async def test_columns_in_another_order_are_filled_by_name(
    client: DistinctClient, world: World, tmp_path: Path
) -> None:
    database = tmp_path / "w.duckdb"
    columns = (
        "user_id VARCHAR, timestamp_utc TIMESTAMPTZ, note VARCHAR, touchpoint_id VARCHAR, position BIGINT, "
        "experience_id VARCHAR"
    )
    with duckdb.connect(str(database)) as connection:
        connection.execute(f"CREATE TABLE visits ({columns}); CREATE TABLE unique_visits ({columns})")
        connection.execute(
            "CREATE TABLE runs (failures VARCHAR[], complete BOOLEAN, expected BIGINT, rows BIGINT, version VARCHAR, "
            "finished_at TIMESTAMPTZ, started_at TIMESTAMPTZ, experience_id VARCHAR, run_id BIGINT PRIMARY KEY)"
        )
    await etl.sync(client, "exp-1", database)
    assert sorted(rows_of(world, *BOTH)) == sorted(rows_stored(database, *BOTH))
    world.remove("tp-1", 1)
    await etl.sync(client, "exp-1", database, on_drift="rebuild")
    assert rows_of(world) == rows_stored(database)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE visits (touchpoint_id VARCHAR, position BIGINT)",
        "CREATE TABLE checkpoints (a INTEGER)",
        (
            "CREATE TABLE touchpoints (experience_id VARCHAR, touchpoint_id VARCHAR, name VARCHAR, value VARCHAR, "
            "total_visits BIGINT, unique_visits BIGINT, synced_at TIMESTAMPTZ)"
        ),  # without its primary key
        (
            "CREATE TABLE unique_visits (experience_id VARCHAR, touchpoint_id VARCHAR, position VARCHAR, user_id TEXT,"
            " timestamp_utc TIMESTAMPTZ)"
        ),
    ],
)
async def test_tables_that_do_not_fit_are_refused_before_any_request(
    client: DistinctClient, fake: FakeServer, tmp_path: Path, statement: str
) -> None:
    database = tmp_path / "w.duckdb"
    with duckdb.connect(str(database)) as connection:
        connection.execute(statement)
    before = asked(database, "SELECT table_name FROM duckdb_tables()")
    with pytest.raises(errors.StorageError, match=r"w\.duckdb: the table \w+ has other .*rename the table"):
        await etl.sync(client, "exp-1", database)
    assert ([], before) == (fake.requests, asked(database, "SELECT table_name FROM duckdb_tables()"))


async def unfinished(client: DistinctClient, fake: FakeServer, path: Path) -> Path:
    fault = fake.fail(query={"touchpointId": "tp-3"}, status=400)
    with pytest.raises(errors.BadRequestError):
        await etl.export(client, "exp-1", path, page_size=10, batch_rows=20)
    fake.faults.remove(fault)
    fake.requests.clear()
    return path.with_name(f"{path.name}.parts")


async def test_files_of_others_in_the_folder_of_parts_stay(
    client: DistinctClient, fake: FakeServer, world: World, tmp_path: Path
) -> None:
    path = tmp_path / "v.parquet"
    parts = await unfinished(client, fake, path)
    foreign = {"notes.txt", "000000-0123abcd.parquet", "joined-0123abcd"}
    for name in foreign:
        (parts / name).write_bytes(b"mine")
    await etl.export(client, "exp-1", path)
    assert rows_of(world) == rows_from(path)
    assert foreign == {each.name for each in parts.iterdir()}


@pytest.mark.parametrize("damage", ["missing", "short", "cut", "overwritten"])
async def test_a_damaged_part_says_which_folder_to_delete(
    client: DistinctClient, fake: FakeServer, world: World, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "v.parquet"
    parts = await unfinished(client, fake, path)
    part = min(each for each in parts.glob("*.parquet"))
    content = bytearray(part.read_bytes())
    content[4:-12] = b"\xff" * (len(content) - 16)
    part.write_bytes({"overwritten": bytes(content), "cut": part.read_bytes()[:-9]}.get(damage, b"PAR"))
    if damage == "missing":
        part.unlink()
    with pytest.raises(errors.StorageError, match=rf"{part.name} is damaged or missing; delete .*v\.parquet\.parts"):
        await etl.export(client, "exp-1", path)
    assert not path.exists()
    assert damage == "overwritten" or fake.requests == []  # what can be seen without reading it all is seen first
    for each in parts.iterdir():
        each.unlink()
    parts.rmdir()
    await etl.export(client, "exp-1", path)
    assert rows_of(world) == rows_from(path)


@pytest.mark.parametrize("how", ["exchanged", "cut"])
async def test_parts_with_other_rows_are_noticed(
    client: DistinctClient, fake: FakeServer, tmp_path: Path, how: str
) -> None:
    path = tmp_path / "v.parquet"
    one, other, *_ = sorted((await unfinished(client, fake, path)).glob("*.parquet"))
    content = one.read_bytes()
    if how == "exchanged":
        one.write_bytes(other.read_bytes())
        other.write_bytes(content)
    else:
        pq.write_table(pq.read_table(one).slice(0, 1), one)
    with pytest.raises(errors.StorageError, match=r"is damaged or missing; delete .*v\.parquet\.parts"):
        await etl.export(client, "exp-1", path)
    assert not path.exists()


async def test_a_file_where_the_parts_belong_is_refused_at_the_start(
    client: DistinctClient, fake: FakeServer, tmp_path: Path
) -> None:
    (tmp_path / "v.csv.parts").write_text("mine")
    with pytest.raises(errors.StorageError, match=r"v\.csv\.parts is a file; delete or move it"):
        await etl.export(client, "exp-1", tmp_path / "v.csv")
    assert [] == fake.requests


@pytest.mark.parametrize("link", ["v.csv.parts", "v.csv.parts/journal.jsonl"])
async def test_a_link_where_the_parts_belong_is_refused_at_the_start(
    client: DistinctClient, fake: FakeServer, tmp_path: Path, link: str
) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(tmp_path / "precious")
    with pytest.raises(errors.StorageError, match="is a symbolic link"):
        await etl.export(client, "exp-1", tmp_path / "v.csv")
    assert ([], []) == (fake.requests, [*(tmp_path / "precious").iterdir()])


async def test_csv_cells_that_a_spreadsheet_would_run_are_defused_on_request(
    client: DistinctClient, fake: FakeServer, tmp_path: Path
) -> None:
    texts = ["=1+1", "+1", "-1", "@SUM(1)", "plain", "a=b"]
    fake.world = World()
    for text in texts:
        fake.world.add_scan("tp-1", text, "2024-01-01T10:00:00Z")
    for safe_cells, expected in ((False, texts), (True, ["'=1+1", "'+1", "'-1", "'@SUM(1)", "plain", "a=b"])):
        await etl.export(client, "exp-1", tmp_path / "v.csv", safe_cells=safe_cells)
        with (tmp_path / "v.csv").open(encoding="utf-8", newline="") as file:
            assert expected == [row["user_id"] for row in csv.DictReader(file)]
    with pytest.raises(errors.InvalidRequestError, match="safe_cells is an option of CSV"):
        await etl.export(client, "exp-1", tmp_path / "v.parquet", safe_cells=True)
