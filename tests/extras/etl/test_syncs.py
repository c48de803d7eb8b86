"""`etl.sync`: rows and their checkpoint in one transaction, and each time only what is new."""

import asyncio
import contextlib
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal
from zoneinfo import ZoneInfo

import duckdb
import pytest

from distinct_async import DistinctClient, RetryPolicy, errors, etl
from distinct_async.errors import DriftWarning
from distinct_async.etl.destinations.duckdb import DuckDBDestination
from distinct_async.models import VisitsType
from distinct_async.testing import FakeServer, World

from .rows import BOTH, asked, rows_of, rows_stored

SOON = 10.0  # seconds, against waiting forever


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


@pytest.fixture
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction for every 50 rows or so."""
    monkeypatch.setattr(etl, "sync", partial(etl.sync, batch_rows=50))


def pages(fake: FakeServer) -> list[tuple[str, str, int]]:
    """The pages that were asked for since the last look: touchpoint, type, offset; sorted."""
    asked_for = [request.query for request in fake.requests if request.query["metricsType"] == "TOUCHPOINT"]
    fake.requests.clear()
    return sorted((query["touchpointId"], query["visitsType"], int(query.get("offset", 0))) for query in asked_for)


@pytest.mark.usefixtures("_small_batches")
async def test_every_row_of_the_world_is_stored_once_with_all_that_is_known_of_it(
    client: DistinctClient, world: World, database: Path
) -> None:
    world.add_touchpoint("tp-4")
    result = await etl.sync(client, "exp-1", database, page_size=7)

    rows = rows_of(world, *BOTH)
    assert sorted(rows) == sorted(rows_stored(database, *BOTH))
    assert (len(rows), len(rows), True, ()) == (result.rows, result.expected, result.complete, result.failures)
    assert database == result.database
    declared = [
        (touchpoint.id, touchpoint.name, touchpoint.value, len(touchpoint.visits), len(touchpoint.unique))
        for touchpoint in map(world.touchpoint, world.touchpoints)
    ]
    columns = "touchpoint_id, name, value, total_visits, unique_visits"
    assert declared == asked(database, f"SELECT {columns} FROM touchpoints ORDER BY ALL")  # noqa: S608
    counted = sorted(
        ("exp-1", each, kind, count, count, 0, True)
        for each, _, _, total, unique in declared
        for kind, count in (("TOTAL", total), ("UNIQUE", unique))
    )
    assert counted == asked(database, "FROM reconciliation")
    run = "SELECT run_id, experience_id, rows, expected, complete, failures, finished_at >= started_at FROM runs"
    assert [(1, "exp-1", len(rows), len(rows), True, [], True)] == asked(database, run)


@pytest.mark.parametrize("visits_type", BOTH)
async def test_one_type_is_synced_alone(
    client: DistinctClient, world: World, database: Path, visits_type: VisitsType
) -> None:
    result = await etl.sync(client, "exp-1", database, visits_type=visits_type)
    assert rows_of(world, visits_type) == rows_stored(database, visits_type)
    assert len(rows_of(world, visits_type)) == len(rows_stored(database, *BOTH)) == result.rows
    await etl.sync(client, "exp-1", database)
    assert sorted(rows_of(world, *BOTH)) == sorted(rows_stored(database, *BOTH))


async def test_two_experiences_live_in_one_database(client: DistinctClient, world: World, database: Path) -> None:
    world.add_touchpoint("tp-9", experience_id="exp-2")
    world.grow(20, "tp-9")
    for experience_id in ("exp-1", "exp-2", "exp-1"):
        await etl.sync(client, experience_id, database)
    for experience_id in ("exp-1", "exp-2"):
        assert rows_of(world, experience_id=experience_id) == rows_stored(database, experience_id=experience_id)
    assert [("exp-1",), ("exp-2",), ("exp-1",)] == asked(database, "SELECT experience_id FROM runs ORDER BY run_id")


async def test_where_nothing_has_changed_only_the_plan_is_asked_for(
    client: DistinctClient, fake: FakeServer, database: Path
) -> None:
    await etl.sync(client, "exp-1", database)
    fake.requests.clear()
    result = await etl.sync(client, "exp-1", database)
    assert ["EXPERIENCE"] == [request.query["metricsType"] for request in fake.requests]
    assert (0, 0, True) == (result.rows, result.requests, result.complete)


async def test_of_what_has_grown_only_the_tail_is_asked_for(
    client: DistinctClient, fake: FakeServer, world: World, database: Path
) -> None:
    await etl.sync(client, "exp-1", database, visits_type="TOTAL", page_size=20)
    before = len(world.scans("tp-2"))
    world.grow(45, "tp-2")
    pages(fake)
    result = await etl.sync(client, "exp-1", database, visits_type="TOTAL", page_size=20)
    # The last row that was there is read once more, to see that it is where it was
    assert [("tp-2", "TOTAL", before - 1 + 20 * number) for number in range(3)] == pages(fake)
    assert (45, True) == (result.rows, result.complete)
    assert rows_of(world) == rows_stored(database)


async def test_what_grows_during_a_sync_comes_with_it_or_with_the_next(
    client: DistinctClient, world: World, database: Path
) -> None:
    def grow(progress: etl.Progress) -> None:
        if progress.rows < 200:
            world.grow(1)

    await etl.sync(client, "exp-1", database, page_size=10, prefetch=2, on_progress=grow)
    stored = rows_stored(database)
    assert len(stored) > 300
    assert {*stored} <= {*rows_of(world)}
    result = await etl.sync(client, "exp-1", database)
    assert sorted(rows_of(world, *BOTH)) == sorted(rows_stored(database, *BOTH))
    assert result.complete


async def test_a_list_that_was_walked_further_than_declared_is_not_asked_for_again(
    client: DistinctClient, fake: FakeServer, world: World, database: Path
) -> None:
    fake.fail(
        query={"metricsType": "EXPERIENCE"},
        times=1,
        body=lambda body: body.replace(b'"totalVisits":%d' % len(world.scans("tp-3")), b'"totalVisits":1'),
    )
    await etl.sync(client, "exp-1", database, visits_type="TOTAL")
    pages(fake)
    result = await etl.sync(client, "exp-1", database, visits_type="TOTAL")
    assert [] == pages(fake)
    assert result.complete
    assert rows_of(world) == rows_stored(database)


async def test_a_list_that_stays_short_of_its_total_is_not_complete_and_not_walked_each_night(
    client: DistinctClient, fake: FakeServer, world: World, database: Path
) -> None:
    declared = b'"totalVisits":%d' % len(world.scans("tp-3"))
    fake.fail(query={"metricsType": "EXPERIENCE"}, body=lambda body: body.replace(declared, b'"totalVisits":99'))
    problem = f"touchpoint 'tp-3', TOTAL visits: {len(world.scans('tp-3'))} of 99 declared rows are there"
    for expected_pages in ([("tp-3", "TOTAL", 0)], []):
        pages(fake)
        result = await etl.sync(client, "exp-1", database, visits_type="TOTAL", page_size=100)
        assert expected_pages == [page for page in pages(fake) if page[0] == "tp-3"]
        assert (False, (problem,)) == (result.complete, result.problems)
    assert [([problem],)] * 2 == asked(database, "SELECT failures FROM runs")
    missing = asked(database, "SELECT touchpoint_id, missing FROM reconciliation WHERE missing != 0")
    assert [("tp-3", 99 - len(world.scans("tp-3")))] == missing


async def test_a_touchpoint_that_is_declared_and_not_listed_is_named_as_missing(
    client: DistinctClient, fake: FakeServer, database: Path
) -> None:
    fake.fail(
        query={"metricsType": "EXPERIENCE"},
        body=lambda body: body.replace(b'"totalTouchpoints":3', b'"totalTouchpoints":4'),
    )
    problem = "experience 'exp-1' lists fewer touchpoints than it declares (1 missing)"
    for job in (
        partial(etl.sync, client, "exp-1", database),
        partial(etl.export, client, "exp-1", database.with_suffix(".csv")),
    ):
        result = await job()
        assert (False, (), (problem,), None) == (result.complete, result.failures, result.problems, result.error)
    assert [(False, [problem])] == asked(database, "SELECT complete, failures FROM runs")


@pytest.mark.parametrize("place", ["md:visits", "MD:", "motherduck:x", "postgres:dbname=x"])
async def test_what_duckdb_takes_for_a_service_is_refused(client: DistinctClient, fake: FakeServer, place: str) -> None:
    with pytest.raises(errors.InvalidRequestError, match="database must be a local file; to DuckDB"):
        await etl.sync(client, "exp-1", place)
    assert [] == fake.requests


@pytest.mark.parametrize("options", [{"touchpoint_ids": []}, {"database": 5}], ids=str)
async def test_what_selects_nothing_or_is_no_path_is_refused(
    client: DistinctClient, fake: FakeServer, database: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(errors.InvalidRequestError, match=r"touchpoint_ids is empty|database must be a str"):
        await etl.sync(client, "exp-1", **{"database": database, **options})
    assert [] == fake.requests


async def test_a_time_zone_may_be_one_of_the_standard_library(client: DistinctClient, database: Path) -> None:
    zone: Any = ZoneInfo("Europe/Berlin")
    await etl.sync(client, "exp-1", database, timezone=zone)
    assert [("Europe/Berlin",)] == asked(database, "SELECT DISTINCT timezone FROM visits_by_day")


@pytest.mark.parametrize("state", [[], "x", MappingProxyType({})], ids=str)
def test_a_state_that_cannot_be_updated_is_refused(client: DistinctClient, state: Any) -> None:
    with pytest.raises(errors.InvalidRequestError, match="state must be a dict"):
        etl.batches(client, "exp-1", state=state)


def change(world: World) -> None:
    """Put a row into the middle of a list, so that all behind it move."""
    world.insert("tp-2", 5, "user-new", "2026-06-01T00:00:00Z")


@pytest.mark.usefixtures("_small_batches")
async def test_history_that_changed_is_drift_that_says_where_and_what_to_do(
    client: DistinctClient, world: World, database: Path
) -> None:
    await etl.sync(client, "exp-1", database, page_size=20)
    before = rows_stored(database)
    change(world)
    world.grow(9, "tp-3")
    with pytest.raises(errors.DriftError) as caught:
        await etl.sync(client, "exp-1", database, page_size=20, visits_type="TOTAL")
    expected = "touchpoint 'tp-2', TOTAL visits: rows already stored no longer match the server ("
    assert str(caught.value).startswith(expected)
    assert ("on_drift", True) == (caught.value.remedy_option, "on_drift='rebuild'" in caught.value.remedy)
    assert caught.value.result is not None
    assert ["tp-2"] == [failure.work.touchpoint.id for failure in caught.value.result.failures]
    after = rows_stored(database)
    assert [row for row in before if row[0] == "tp-2"] == [row for row in after if row[0] == "tp-2"]
    assert [row for row in rows_of(world) if row[0] == "tp-3"] == [row for row in after if row[0] == "tp-3"]
    runs = asked(database, "SELECT complete, failures FROM runs ORDER BY run_id")
    assert [(True, []), (False, ["touchpoint 'tp-2', TOTAL visits"])] == runs


@pytest.mark.usefixtures("_small_batches")
async def test_a_rebuild_replaces_what_was_there(client: DistinctClient, world: World, database: Path) -> None:
    await etl.sync(client, "exp-1", database, page_size=20)
    change(world)
    world.shrink(30, "tp-1")
    result = await etl.sync(client, "exp-1", database, page_size=20, on_drift="rebuild")
    assert sorted(rows_of(world, *BOTH)) == sorted(rows_stored(database, *BOTH))
    assert (True, ()) == (result.complete, result.failures)
    assert [(0,)] == asked(database, "SELECT sum(abs(missing)) FROM reconciliation")
    world.grow(10)
    assert 10 <= (await etl.sync(client, "exp-1", database)).rows <= 20
    assert sorted(rows_of(world, *BOTH)) == sorted(rows_stored(database, *BOTH))


async def test_a_list_that_changes_under_its_first_walk_is_walked_anew_and_what_came_before_is_not_there(
    client: DistinctClient, fake: FakeServer, database: Path
) -> None:
    fake.world = World.sample(touchpoints=1, scans=100, users=9)

    def change_soon(progress: etl.Progress) -> None:
        if progress.rows == 30:
            fake.world.shrink(60, "tp-1")

    options: dict[str, Any] = {"visits_type": "TOTAL", "page_size": 10, "prefetch": 1, "on_progress": change_soon}
    await etl.sync(client, "exp-1", database, on_drift="rebuild", **options)
    assert 40 == len(fake.world.scans("tp-1"))
    assert rows_of(fake.world) == rows_stored(database)


async def test_a_refusal_to_go_on_with_a_list_that_has_grown_is_no_drift(
    client: DistinctClient, fake: FakeServer, world: World, database: Path
) -> None:
    await etl.sync(client, "exp-1", database, visits_type="TOTAL")
    world.grow(9, "tp-2")
    refusal = fake.fail(query={"touchpointId": "tp-2"}, status=400)
    with pytest.raises(errors.BadRequestError):
        await etl.sync(client, "exp-1", database, visits_type="TOTAL")
    fake.faults.remove(refusal)
    assert (await etl.sync(client, "exp-1", database)).complete


@pytest.mark.parametrize("past_end", ["empty", "404", "400"])
async def test_a_list_that_became_shorter_is_drift_whatever_the_server_says_beyond_its_end(
    client: DistinctClient, fake: FakeServer, world: World, database: Path, past_end: Literal["empty", "404", "400"]
) -> None:
    fake.past_end = past_end
    await etl.sync(client, "exp-1", database)
    world.shrink(9, "tp-2")
    with pytest.raises(
        errors.DriftError, match=r"touchpoint 'tp-2', TOTAL.*no longer match the server.*on_drift='rebuild'"
    ):
        await etl.sync(client, "exp-1", database, visits_type="TOTAL")
    assert (await etl.sync(client, "exp-1", database, on_drift="rebuild")).complete
    assert sorted(rows_of(world, *BOTH)) == sorted(rows_stored(database, *BOTH))


async def test_a_rebuild_of_a_list_that_is_empty_now_leaves_no_row(
    client: DistinctClient, world: World, database: Path
) -> None:
    await etl.sync(client, "exp-1", database)
    world.shrink(1000, "tp-2")
    result = await etl.sync(client, "exp-1", database, on_drift="rebuild")
    assert sorted(rows_of(world, *BOTH)) == sorted(rows_stored(database, *BOTH))
    assert result.complete


@pytest.mark.usefixtures("_small_batches")
async def test_a_rebuild_shows_the_old_rows_until_it_shows_the_new_ones(
    client: DistinctClient, fake: FakeServer, world: World, database: Path
) -> None:
    await etl.sync(client, "exp-1", database, visits_type="TOTAL", page_size=10)
    old = rows_stored(database)
    world.insert("tp-1", 0, "user-1", "2026-06-01T00:00:00Z")
    new, seen = rows_of(world), list[bool]()

    def look(_: etl.Progress) -> None:
        with duckdb.connect(str(database)) as reader:  # another connection of this process
            rows = reader.execute("SELECT count(*) FROM visits WHERE touchpoint_id = 'tp-1'").fetchall()
        seen.append(rows == [(len([row for row in new if row[0] == "tp-1"]),)])
        assert seen[-1] or rows == [(len([row for row in old if row[0] == "tp-1"]),)]

    fault = fake.fail(query={"touchpointId": "tp-1", "offset": "120"}, status=400)
    with pytest.raises(errors.BadRequestError):
        await etl.sync(client, "exp-1", database, page_size=10, on_drift="rebuild", on_progress=look)
    assert old == rows_stored(database)

    fake.faults.remove(fault)
    await etl.sync(client, "exp-1", database, visits_type="TOTAL", page_size=10, on_drift="rebuild", on_progress=look)
    assert new == rows_stored(database)
    assert len(seen) > 20


async def test_a_descending_list_is_stored_with_a_warning_and_cannot_grow(
    client: DistinctClient, fake: FakeServer, world: World, database: Path
) -> None:
    fake.order = "descending"
    with pytest.warns(DriftWarning) as warned:
        await etl.sync(client, "exp-1", database, visits_type="TOTAL", page_size=10)
    problem = "the list is not sorted oldest-first; once it grows, a sync cannot continue it; pass on_drift='rebuild'"
    assert 3 == len(warned)
    for each, touchpoint_id in zip(warned, ("tp-1", "tp-2", "tp-3"), strict=True):
        assert str(each.message).startswith(f"touchpoint '{touchpoint_id}', TOTAL visits: {problem}")
        assert __file__ == each.filename
    await etl.sync(client, "exp-1", database, visits_type="TOTAL")  # nothing new: no warning

    world.grow(5, "tp-2")
    with pytest.raises(errors.DriftError) as caught:
        await etl.sync(client, "exp-1", database, visits_type="TOTAL", page_size=10)
    expected = (
        "touchpoint 'tp-2', TOTAL visits: rows already stored no longer match the server (the list is not sorted oldest"
    )
    assert str(caught.value).startswith(expected)

    await etl.sync(client, "exp-1", database, visits_type="TOTAL", on_drift="rebuild")
    turned = [
        (touchpoint_id, "TOTAL", position, scan.user_id, scan.at)
        for touchpoint_id in world.touchpoints
        for position, scan in enumerate(reversed(world.scans(touchpoint_id)))
    ]
    assert turned == rows_stored(database)


async def test_a_descending_list_that_was_broken_off_is_reported_as_such_too(
    client: DistinctClient, fake: FakeServer, world: World, database: Path
) -> None:
    fake.order = "descending"
    fault = fake.fail(query={"touchpointId": "tp-1", "offset": "80"}, status=400)
    with pytest.warns(DriftWarning), pytest.raises(errors.BadRequestError):
        await etl.sync(client, "exp-1", database, visits_type="TOTAL", page_size=10)
    fake.faults.remove(fault)
    world.grow(5, "tp-1")
    with pytest.raises(errors.DriftError, match="not sorted oldest-first"):
        await etl.sync(client, "exp-1", database, visits_type="TOTAL", page_size=10)


async def test_a_list_that_fails_lets_the_others_finish(
    client: DistinctClient, fake: FakeServer, world: World, database: Path
) -> None:
    for touchpoint_id in ("tp-1", "tp-3"):
        fake.fail(query={"touchpointId": touchpoint_id, "visitsType": "TOTAL", "offset": "20"}, status=404)
    with pytest.raises(errors.NotFoundError) as caught:
        await etl.sync(client, "exp-1", database, page_size=20, visits_type="TOTAL")
    result = caught.value.result
    assert isinstance(result, etl.SyncResult)
    stored = [row for row in rows_of(world) if row[0] == "tp-2" or row[2] < 20]
    assert (len(stored), False) == (result.rows, result.complete)
    assert ["tp-1", "tp-3"] == sorted(failure.work.touchpoint.id for failure in result.failures)
    assert caught.value is result.failures[0].error
    assert stored == rows_stored(database)
    assert [("tp-1", False), ("tp-2", True), ("tp-3", False)] == asked(
        database, "SELECT touchpoint_id, complete FROM checkpoints ORDER BY ALL"
    )
    fake.faults.clear()
    pages(fake)
    assert (await etl.sync(client, "exp-1", database, visits_type="TOTAL")).complete
    assert {("tp-1", 19), ("tp-3", 19)} <= {(page[0], page[2]) for page in pages(fake)}
    assert rows_of(world) == rows_stored(database)


@pytest.mark.parametrize(("status", "error"), [(401, errors.AuthenticationError), (403, errors.PermissionDeniedError)])
async def test_a_refused_key_ends_all_at_once_and_what_came_is_stored(
    client: DistinctClient, fake: FakeServer, world: World, database: Path, status: int, error: type[errors.APIError]
) -> None:
    fault = fake.fail(query={"touchpointId": "tp-1", "offset": "100"}, status=status)
    fake.fail(query={"touchpointId": "tp-2", "offset": "20"}, wire="hang")
    with pytest.raises(error) as caught:
        await etl.sync(client, "exp-1", database, page_size=10, visits_type="TOTAL")
    assert caught.value.result is not None
    assert (False, len(rows_stored(database))) == (caught.value.result.complete, caught.value.result.rows)
    assert [row for row in rows_of(world) if row[0] == "tp-1" and row[2] < 100] == [
        row for row in rows_stored(database) if row[0] == "tp-1"
    ]
    assert [(False,)] == asked(database, "SELECT complete FROM runs")
    fake.faults.remove(fault)


async def test_a_refused_key_that_is_met_while_a_batch_is_written_is_not_lost(
    client: DistinctClient, fake: FakeServer, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.world = World.sample(touchpoints=1, scans=60, users=9)
    fake.fail(query={"offset": "50"}, status=401)
    monkeypatch.setattr(etl, "sync", partial(etl.sync, batch_rows=50))
    monkeypatch.setattr(DuckDBDestination, "write", slowly(DuckDBDestination.write, 0.2))
    with pytest.raises(errors.AuthenticationError):
        await etl.sync(client, "exp-1", database, page_size=10, visits_type="TOTAL")


def slowly(method: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    def slow(*args: Any) -> Any:
        time.sleep(seconds)
        return method(*args)

    return slow


@pytest.mark.parametrize("method", ["__init__", "begin", "write", "finish", "close"])
async def test_the_loop_turns_while_the_database_works(
    client: DistinctClient, database: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    loop, work, turns = asyncio.get_running_loop(), getattr(DuckDBDestination, method), 0

    def waits(*args: Any, **options: Any) -> Any:
        nonlocal turns
        turned = threading.Event()
        loop.call_soon_threadsafe(turned.set)
        assert turned.wait(SOON), "it waits for the database"
        turns += 1
        return work(*args, **options)

    monkeypatch.setattr(DuckDBDestination, method, waits)
    assert (await etl.sync(client, "exp-1", database)).complete
    assert turns >= 1


async def test_what_is_no_database_is_reported_before_anything_is_sent(
    client: DistinctClient, fake: FakeServer, tmp_path: Path
) -> None:
    database = text(tmp_path / "notes.txt")
    for path in (database, tmp_path / "nowhere" / "warehouse.duckdb", tmp_path):
        with pytest.raises(errors.StorageError, match=path.name):
            await etl.sync(client, "exp-1", path)
    assert [] == fake.requests


@pytest.mark.parametrize("name", ["visits.csv", "visits.json", ":memory:"])
async def test_what_duckdb_would_open_and_store_nothing_in_is_reported(
    name: str, client: DistinctClient, fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "visits.csv", tmp_path / "visits.json"):
        path.write_text('{"a": 1}\n', encoding="utf-8")
    with pytest.raises((errors.StorageError, errors.InvalidRequestError), match=f"{name}.*(not a DuckDB|be lost)"):
        await etl.sync(client, "exp-1", name)
    assert [] == fake.requests


def text(path: Path) -> Path:
    path.write_text("not a database, and longer than any header that there may be" * 100)
    return path


async def test_a_database_in_the_hands_of_another_process_is_reported_before_anything_is_sent(
    client: DistinctClient, fake: FakeServer, database: Path
) -> None:
    holding = "import duckdb, sys; db = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    pipe = asyncio.subprocess.PIPE
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", holding, str(database), stdin=pipe, stdout=pipe)
    assert other.stdout is not None
    assert b"held\n" == await other.stdout.readline()
    with pytest.raises(errors.StorageError, match=r"warehouse\.duckdb"):
        await etl.sync(client, "exp-1", database)
    await other.communicate(b"")  # the end of its input is the end of it
    assert [] == fake.requests
    assert (await etl.sync(client, "exp-1", database)).complete


async def test_a_table_of_another_shape_is_reported(client: DistinctClient, database: Path) -> None:
    with duckdb.connect(str(database)) as db:
        db.execute("CREATE TABLE visits (something INTEGER)")
    with pytest.raises(errors.StorageError, match=r"warehouse\.duckdb") as caught:
        await etl.sync(client, "exp-1", database)
    assert [("visits",)] == tables(database)
    assert caught.value is not None  # whoever keeps the error does not keep the database open


def tables(database: Path) -> list[tuple[Any, ...]]:
    """The tables, if nobody in this process has the database open for writing."""
    with duckdb.connect(str(database), read_only=True) as db:
        return db.execute("SHOW TABLES").fetchall()


async def test_cancelled_while_the_database_is_opened_it_is_closed(
    client: DistinctClient, fake: FakeServer, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, task, opens = asyncio.get_running_loop(), asyncio.current_task(), DuckDBDestination.__init__
    assert task is not None

    def cancelled(self: DuckDBDestination, *args: Any) -> None:
        opens(self, *args)
        loop.call_soon_threadsafe(task.cancel)

    await etl.sync(client, "exp-1", database)
    fake.requests.clear()
    monkeypatch.setattr(DuckDBDestination, "__init__", cancelled)
    with pytest.raises(asyncio.CancelledError) as caught:
        await etl.sync(client, "exp-1", database)
    task.uncancel()
    assert ("visits",) in tables(database)
    assert ([], True) == (fake.requests, caught.value is not None)


@pytest.mark.skipif(os.name != "posix", reason="the limit that stands for a full disk is a matter of POSIX")
async def test_a_full_disk_is_reported_as_such_and_there_is_more_room_the_next_time(
    client: DistinctClient, world: World, database: Path
) -> None:
    import resource  # noqa: PLC0415  # not on Windows

    assert (await etl.sync(client, "exp-1", database)).complete
    before = rows_stored(database, *BOTH)
    world.grow(3000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(errors.StorageError, match=r"warehouse\.duckdb.*File too large") as caught:
            await etl.sync(client, "exp-1", database, page_size=500)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.result is not None
    assert (0, False) == (caught.value.result.rows, caught.value.result.complete)
    assert before == rows_stored(database, *BOTH)
    assert (await etl.sync(client, "exp-1", database, page_size=500)).complete
    assert sorted(rows_of(world, *BOTH)) == sorted(rows_stored(database, *BOTH))


async def test_an_end_that_cannot_be_noted_is_reported_with_what_was_done(
    client: DistinctClient, world: World, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise errors.StorageError("full")

    monkeypatch.setattr(DuckDBDestination, "finish", fails)
    with pytest.raises(errors.StorageError, match="full") as caught:
        await etl.sync(client, "exp-1", database)
    assert caught.value.result is not None
    assert (len(rows_of(world, *BOTH)), False) == (caught.value.result.rows, caught.value.result.complete)


@pytest.mark.usefixtures("_small_batches")
async def test_a_write_that_fails_ends_it_and_nothing_is_stored_behind_the_gap(
    client: DistinctClient, fake: FakeServer, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.world = World.sample(touchpoints=1, scans=300, users=9)
    keep, calls = DuckDBDestination._store_checkpoints, 0

    def fails_once(self: DuckDBDestination, chunks: Any) -> None:
        nonlocal calls
        calls += 1
        keep(self, chunks)
        if calls == 3:  # with rows and checkpoints half stored
            raise duckdb.IOException("disk full")

    monkeypatch.setattr(DuckDBDestination, "_store_checkpoints", fails_once)
    with pytest.raises(errors.StorageError, match=r"warehouse\.duckdb.*disk full") as caught:
        await etl.sync(client, "exp-1", database, page_size=10, visits_type="TOTAL")
    assert 3 == calls
    assert caught.value.result is not None
    assert (len(rows_stored(database)), False) == (caught.value.result.rows, caught.value.result.complete)
    assert [(len(rows_stored(database)),)] == asked(database, "SELECT position FROM checkpoints")
    assert (await etl.sync(client, "exp-1", database, page_size=10)).complete
    assert rows_of(fake.world) == rows_stored(database)


async def test_where_the_database_is_lost_the_first_error_is_reported(
    client: DistinctClient, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: DuckDBDestination, _: object) -> None:
        self._database.close()
        raise errors.StorageError("disk full")

    monkeypatch.setattr(DuckDBDestination, "write", fails)
    with pytest.raises(errors.StorageError, match="disk full"):
        await etl.sync(client, "exp-1", database)


async def test_a_write_that_meets_that_of_another_sync_says_so(
    client: DistinctClient, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meets(self: DuckDBDestination, _: object) -> None:
        with duckdb.connect(str(database)) as other:
            other.execute("UPDATE checkpoints SET declared = 5")
            self._database.connection.execute("UPDATE checkpoints SET declared = 6")

    monkeypatch.setattr(DuckDBDestination, "_store_checkpoints", meets)
    with pytest.raises(errors.StorageError, match=r"warehouse\.duckdb: another sync or connection in this process"):
        await etl.sync(client, "exp-1", database)


async def test_what_ends_the_transaction_itself_is_reported_for_what_it_is(
    client: DistinctClient, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: DuckDBDestination, _: object) -> None:
        self._database.connection.rollback()  # as a commit does that finds no room
        raise duckdb.TransactionException("disk full")

    monkeypatch.setattr(DuckDBDestination, "_store_checkpoints", fails)
    with pytest.raises(errors.StorageError, match="disk full"):
        await etl.sync(client, "exp-1", database)


@pytest.mark.usefixtures("_small_batches")
async def test_cancelled_it_stores_what_came_and_the_next_run_goes_on(
    client: DistinctClient, fake: FakeServer, database: Path
) -> None:
    fake.world = World.sample(touchpoints=1, scans=100, users=9)
    fault = fake.fail(query={"offset": "70"}, wire="hang")
    task = asyncio.create_task(etl.sync(client, "exp-1", database, visits_type="TOTAL", page_size=10, prefetch=1))
    while not any(request.query.get("offset") == "70" for request in fake.requests):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert rows_of(fake.world)[:70] == rows_stored(database)
    assert [(70, False)] == asked(database, "SELECT position, complete FROM checkpoints")
    fake.faults.remove(fault)
    pages(fake)
    assert 30 == (await etl.sync(client, "exp-1", database, visits_type="TOTAL", page_size=50)).rows
    assert [("tp-1", "TOTAL", 69)] == pages(fake)
    assert rows_of(fake.world) == rows_stored(database)


@pytest.mark.usefixtures("_small_batches")
async def test_cancelled_at_any_moment_and_run_again_every_row_is_there_once(
    client: DistinctClient, fake: FakeServer, world: World, database: Path
) -> None:
    fake.latency = 0.001
    for seconds in (0.005, 0.03, 0.06, 0.09, 0.12):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await etl.sync(client, "exp-1", database, page_size=7)
    await etl.sync(client, "exp-1", database)
    assert sorted(rows_of(world, *BOTH)) == sorted(rows_stored(database, *BOTH))


@pytest.mark.usefixtures("_small_batches")
async def test_two_syncs_at_once_in_one_process_do_not_double_a_row(
    client: DistinctClient, world: World, database: Path
) -> None:
    ended = await asyncio.gather(
        *(etl.sync(client, "exp-1", database, page_size=10) for _ in range(2)), return_exceptions=True
    )
    assert {etl.SyncResult, errors.StorageError} >= {type(each) for each in ended}
    assert len(rows_stored(database, *BOTH)) == len({*rows_stored(database, *BOTH)})
    await etl.sync(client, "exp-1", database)
    assert sorted(rows_of(world, *BOTH)) == sorted(rows_stored(database, *BOTH))


async def test_syncs_of_several_experiences_at_once_share_a_database(
    client: DistinctClient, world: World, database: Path
) -> None:
    experiences = [f"exp-{number}" for number in range(1, 7)]
    for experience_id in experiences[1:]:
        world.add_touchpoint(f"tp-{experience_id}", experience_id=experience_id)
        world.grow(50, f"tp-{experience_id}")
    for _ in range(2):
        world.grow(50)
        await asyncio.gather(*(etl.sync(client, each, database, page_size=10) for each in experiences))
        for each in experiences:
            assert rows_of(world, experience_id=each) == rows_stored(database, experience_id=each)
    runs = "SELECT count(DISTINCT run_id), bool_and(complete) FROM runs"
    assert [(12, True), (0, True)] == [
        *asked(database, runs),
        *asked(database, "SELECT sum(abs(missing)), bool_and(complete) FROM reconciliation WHERE declared > 0"),
    ]


async def test_faults_that_pass_are_counted_and_leave_no_trace(
    client: DistinctClient, fake: FakeServer, world: World, database: Path
) -> None:
    fake.max_page_size = 9
    fake.fail(status=503, probability=0.1, seed=1)
    fake.fail(wire="cut", probability=0.1, seed=2)
    fake.fail(wire="reset", probability=0.1, seed=3)
    result = await etl.sync(client, "exp-1", database, page_size=50)
    assert sorted(rows_of(world, *BOTH)) == sorted(rows_stored(database, *BOTH))
    assert result.retries > 5
    assert result.complete


@pytest.mark.parametrize(("retry", "attempts"), [(None, 8), (RetryPolicy(attempts=2, base=0), 2)], ids=["ours", "own"])
async def test_a_list_is_tried_eight_times_unless_the_client_has_a_policy_of_its_own(
    fake: FakeServer, database: Path, retry: RetryPolicy | None, attempts: int
) -> None:
    fake.fail(query={"touchpointId": "tp-2", "visitsType": "TOTAL"}, status=503, headers={"Retry-After": "0"})
    async with DistinctClient(fake.api_key, base_url=fake.url, retry=retry or RetryPolicy()) as client:
        with pytest.raises(errors.ServerError):
            await etl.sync(client, "exp-1", database)
    assert attempts == len([page for page in pages(fake) if page[:2] == ("tp-2", "TOTAL")])


async def test_what_cannot_be_meant_is_refused_before_anything_is_opened(
    client: DistinctClient, fake: FakeServer, database: Path
) -> None:
    wrong: list[dict[str, Any]] = [
        {"on_drift": "warn"},
        {"page_size": 0},
        {"prefetch": 0},
        {"visits_type": "BOTH"},
        {"experience_id": ""},
        {"timezone": "Mars/Olympus"},
    ]
    for options in wrong:
        with pytest.raises(errors.InvalidRequestError):
            await etl.sync(client, **{"experience_id": "exp-1", "database": database, **options})
    assert ([], []) == (fake.requests, [*database.parent.iterdir()])


async def test_no_other_warning_is_given_for_lists_of_one_instant(
    client: DistinctClient, fake: FakeServer, database: Path
) -> None:
    fake.world = World()
    for number in range(30):
        fake.world.add_scan("tp-1", f"user-{number % 4}", "2026-06-01T00:00:00Z")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await etl.sync(client, "exp-1", database, page_size=10)
    assert rows_of(fake.world) == rows_stored(database)
