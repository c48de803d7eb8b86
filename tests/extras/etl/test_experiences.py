"""Several experiences in one job, and the columns that tell their rows apart."""

import asyncio
import errno
import itertools
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from distinct_async import DistinctClient, errors, etl
from distinct_async.testing import FakeServer, World

from .rows import asked, read_file

BEGAN = datetime(2026, 6, 1, 7, tzinfo=UTC)
IDS = ("exp-1", "exp-2", "exp-3")
Named = tuple[str, str, str, int]


@pytest.fixture
def world() -> World:
    """Three experiences, in which a touchpoint of one has the name that a touchpoint of another has."""
    world = World()
    for number, experience_id in enumerate(IDS):
        world.add_experience(experience_id)
        for touchpoint in range(3):
            name = None if touchpoint == 2 else f"Gate {touchpoint}"
            touchpoint_id = f"tp-{number}-{touchpoint}"
            world.add_touchpoint(touchpoint_id, experience_id=experience_id, name=name)
            for scan in range(40 + 10 * number):
                world.add_scan(touchpoint_id, f"user-{scan % 7}", BEGAN + timedelta(minutes=scan))
    return world


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def named(world: World, *experience_ids: str) -> list[Named]:
    """The keys and names of all rows."""
    return sorted(
        (experience_id, touchpoint_id, world.touchpoint(touchpoint_id).name or "", position)
        for experience_id in experience_ids
        for touchpoint_id in world.touchpoints
        if world.touchpoint(touchpoint_id).experience_id == experience_id
        for position in range(len(world.scans(touchpoint_id)))
    )


def named_in(rows: list[dict[str, Any]]) -> list[Named]:
    return sorted(
        (row["experience_id"], row["touchpoint_id"], row["touchpoint_name"] or "", int(row["position"])) for row in rows
    )


def stored(database: Path) -> list[Named]:
    columns = "experience_id, touchpoint_id, coalesce(touchpoint_name, ''), position"
    return sorted(asked(database, f"SELECT {columns} FROM visits"))  # noqa: S608


@pytest.mark.parametrize("ids", [IDS[:1], IDS])
async def test_batches_of_several_experiences_say_which_each_row_is_of(
    client: DistinctClient, world: World, ids: tuple[str, ...]
) -> None:
    batches = [batch async for batch in etl.batches(client, ids, page_size=20)]
    assert named(world, *ids) == named_in(pa.Table.from_batches(batches).to_pylist())


async def test_a_stream_reads_several_experiences(client: DistinctClient, world: World) -> None:
    async with etl.stream(client, IDS, page_size=20) as visits:
        table = await asyncio.to_thread(pa.table, visits)
    assert named(world, *IDS) == named_in(table.to_pylist())


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
async def test_one_file_holds_several_experiences_in_the_order_of_their_ids(
    client: DistinctClient, world: World, tmp_path: Path, suffix: str
) -> None:
    ids = IDS[::-1]
    result = await etl.export(client, ids, tmp_path / f"visits.{suffix}", page_size=20)
    rows = read_file(result.path)
    assert named(world, *IDS) == named_in(rows)
    assert list(ids) == list(dict.fromkeys(row["experience_id"] for row in rows))
    manifest = json.loads(result.manifest.read_bytes())
    assert (list(ids), True, len(rows)) == (manifest["experience_id"], manifest["complete"], manifest["written"])
    assert {*ids} == {each["experience_id"] for each in manifest["lists"]}


async def test_a_sync_of_several_experiences_reports_each(client: DistinctClient, world: World, tmp_path: Path) -> None:
    reports: list[etl.Progress] = []
    result = await etl.sync(
        client, IDS, tmp_path / "w.duckdb", visits_type="TOTAL", page_size=20, on_progress=reports.append
    )
    assert named(world, *IDS) == stored(result.database)
    assert {"exp-1": 120, "exp-2": 150, "exp-3": 180} == {key: each.rows for key, each in result.experiences.items()}
    assert (450, 450, True) == (result.rows, result.expected, result.complete)
    assert (450, 450, result.requests) == (reports[-1].rows, reports[-1].expected, reports[-1].requests)
    runs = asked(result.database, "SELECT experience_id, rows, complete FROM runs ORDER BY ALL")
    assert [("exp-1", 120, True), ("exp-2", 150, True), ("exp-3", 180, True)] == runs


async def test_of_one_experience_the_result_of_each_is_that_of_all(client: DistinctClient, tmp_path: Path) -> None:
    result = await etl.sync(client, "exp-1", tmp_path / "w.duckdb")
    assert [("exp-1", result.rows, result.complete)] == [
        (key, each.rows, each.complete) for key, each in result.experiences.items()
    ]


async def test_an_experience_that_is_not_there_does_not_keep_the_others_back(
    client: DistinctClient, world: World, tmp_path: Path
) -> None:
    with pytest.raises(errors.NotFoundError) as caught:
        await etl.sync(client, ["exp-1", "exp-9", "exp-2"], tmp_path / "w.duckdb", visits_type="TOTAL")
    assert named(world, "exp-1", "exp-2") == stored(tmp_path / "w.duckdb")
    result = caught.value.result
    assert isinstance(result, etl.SyncResult)
    found = {key: (each.rows, each.complete, type(each.error)) for key, each in result.experiences.items()}
    nothing = type(None)
    assert {
        "exp-1": (120, True, nothing),
        "exp-9": (0, False, errors.NotFoundError),
        "exp-2": (150, True, nothing),
    } == found
    assert (270, False) == (result.rows, result.complete)
    runs = asked(tmp_path / "w.duckdb", "SELECT experience_id, complete, rows, failures FROM runs ORDER BY ALL")
    assert [("exp-1", True, 120, []), ("exp-2", True, 150, []), ("exp-9", False, 0, [str(caught.value)])] == runs


async def test_the_errors_of_several_experiences_each_have_their_own_result(
    client: DistinctClient, fake: FakeServer, tmp_path: Path
) -> None:
    for touchpoint_id in ("tp-0-1", "tp-2-0"):
        fake.fail(query={"touchpointId": touchpoint_id}, status=400)
    with pytest.raises(errors.BadRequestError) as caught:
        await etl.sync(client, IDS, tmp_path / "w.duckdb", visits_type="TOTAL")
    whole = caught.value.result
    assert whole is not None
    assert [1, 0, 1] == [len(each.failures) for each in whole.experiences.values()]
    assert 2 == len(whole.failures)
    last = whole.experiences["exp-3"]
    assert last.error is not None
    assert last is last.error.result


async def test_a_file_of_several_experiences_is_not_written_if_one_of_them_fails(
    client: DistinctClient, fake: FakeServer, world: World, tmp_path: Path
) -> None:
    fake.fail(query={"experienceId": "exp-2", "metricsType": "EXPERIENCE"}, status=400, times=1)
    path = tmp_path / "visits.parquet"
    with pytest.raises(errors.BadRequestError):
        await etl.export(client, IDS, path)
    assert not path.exists()
    fake.requests.clear()
    result = await etl.export(client, IDS, path)
    assert named(world, *IDS) == named_in(read_file(path))
    walked = {request.query["touchpointId"] for request in fake.requests if "touchpointId" in request.query}
    assert {"tp-1-0", "tp-1-1", "tp-1-2"} == walked  # the others are in the parts
    assert 450 == result.rows


async def test_a_part_that_the_journal_names_is_not_written_over_by_the_next_experience(
    client: DistinctClient, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, fsync, calls = tmp_path / "visits.jsonl", os.fsync, itertools.count(1)

    def fail_once(file: int) -> None:
        fsync(file)
        if next(calls) == 4:  # header, names of the parts, a part; then the journal has its line
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", fail_once)
        with pytest.raises(errors.StorageError, match=r"visits\.jsonl: Input/output error"):
            await etl.export(client, IDS, path, page_size=10, batch_rows=20)
    assert next(calls) > 5  # the others went on
    await etl.export(client, IDS, path, page_size=10)
    assert named(world, *IDS) == named_in(read_file(path))


async def test_an_unfinished_file_is_continued_with_the_ids_in_another_order(
    client: DistinctClient, fake: FakeServer, world: World, tmp_path: Path
) -> None:
    fake.fail(query={"touchpointId": "tp-1-0"}, status=400, times=1)
    with pytest.raises(errors.BadRequestError):
        await etl.export(client, IDS, tmp_path / "visits.csv")
    result = await etl.export(client, IDS[::-1], tmp_path / "visits.csv")
    rows = read_file(result.path)
    assert named(world, *IDS) == named_in(rows)
    assert list(IDS[::-1]) == list(dict.fromkeys(row["experience_id"] for row in rows))


async def test_an_unfinished_file_is_continued_without_the_experience_that_is_not_there(
    client: DistinctClient, fake: FakeServer, world: World, tmp_path: Path
) -> None:
    path = tmp_path / "visits.csv"
    for ids in (["exp-1", "typo"], ["typo", "exp-1", "nor-this"]):
        with pytest.raises(errors.NotFoundError):
            await etl.export(client, ids, path)
    with pytest.raises(
        errors.InvalidRequestError, match="is an unfinished export of experience 'exp-1' and 1 more, vis"
    ):
        await etl.export(client, ["exp-2"], path)  # which would throw away what is there of exp-1
    fake.requests.clear()
    result = await etl.export(client, ["exp-1"], path)
    assert (120, 1) == (result.rows, len(fake.requests))  # all is there
    assert named(world, "exp-1") == named_in(read_file(path))
    assert {"visits.csv", "visits.csv.manifest.json"} == names(tmp_path)


async def test_an_unfinished_file_of_one_experience_is_continued_with_another(
    client: DistinctClient, fake: FakeServer, world: World, tmp_path: Path
) -> None:
    path = tmp_path / "visits.csv"
    fake.fail(query={"touchpointId": "tp-0-1"}, status=400, times=1)
    with pytest.raises(errors.BadRequestError):
        await etl.export(client, "exp-1", path)
    with pytest.raises(errors.InvalidRequestError, match="unfinished export of experience 'exp-1', visits_type"):
        await etl.export(client, "exp-2", path)
    await etl.export(client, ["exp-2", "exp-1"], path)
    assert named(world, "exp-1", "exp-2") == named_in(read_file(path))


@pytest.mark.parametrize("name", ["on_progress", "on_rebuild"])
async def test_a_callback_that_would_have_to_be_awaited_is_refused(client: DistinctClient, name: str) -> None:
    async def callback(_: object) -> None:
        raise AssertionError

    options: Any = {name: callback}
    with pytest.raises(errors.InvalidRequestError, match=f"{name} must be a plain function"):
        etl.batches(client, "exp-1", **options)
    with pytest.raises(errors.InvalidRequestError, match=f"{name} must be a plain function"):
        etl.batches(client, "exp-1", **{name: 5})  # type: ignore[arg-type]


async def test_a_refused_key_ends_all_experiences(world: World, tmp_path: Path) -> None:
    async with FakeServer(world) as fake, DistinctClient("wrong-key", base_url=fake.url) as client:
        with pytest.raises(errors.AuthenticationError) as caught:
            await etl.sync(client, [f"exp-{number}" for number in range(50)], tmp_path / "w.duckdb")
        assert len(fake.requests) <= 4
    assert caught.value.result is not None
    assert not caught.value.result.complete


@pytest.mark.parametrize(
    ("ids", "options", "problem"),
    [
        ([], {}, "experience_id must be an id or a list of ids, got an empty list"),
        (["exp-1", ""], {}, "experience_id"),
        (["exp-1", 7], {}, "experience_id"),
        (7, {}, "experience_id"),
        (b"exp-1", {}, "experience_id"),
        (IDS, {"touchpoint_ids": ["tp-0-0"]}, "touchpoint_ids and state go with one experience"),
    ],
)
async def test_bad_ids_are_refused_before_anything_is_opened(
    client: DistinctClient, fake: FakeServer, tmp_path: Path, ids: Any, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(errors.InvalidRequestError, match=problem):
        await etl.sync(client, ids, tmp_path / "w.duckdb", **options)
    with pytest.raises(errors.InvalidRequestError, match=problem):
        await etl.export(client, ids, tmp_path / "visits.csv", **options)
    assert ([], set()) == (fake.requests, names(tmp_path))


async def test_a_plan_is_refused_by_jobs_that_keep_their_own_state(
    client: DistinctClient, fake: FakeServer, tmp_path: Path
) -> None:
    plan: Any = await etl.plan(client, "exp-1")
    fake.requests.clear()
    with pytest.raises(errors.InvalidRequestError, match="a plan is for batches"):
        await etl.sync(client, plan, tmp_path / "w.duckdb")
    with pytest.raises(errors.InvalidRequestError, match="a plan is for batches"):
        await etl.export(client, plan, tmp_path / "visits.csv")
    assert ([], set()) == (fake.requests, names(tmp_path))


async def test_cancelled_it_keeps_what_came_of_each(
    client: DistinctClient, fake: FakeServer, world: World, tmp_path: Path
) -> None:
    fake.fail(query={"offset": "20"}, wire="hang")
    received = asyncio.Event()

    def look(progress: etl.Progress) -> None:
        if progress.rows == 9 * 20:  # the first pages; the second ones hang
            received.set()

    sync = asyncio.create_task(
        etl.sync(client, IDS, tmp_path / "w.duckdb", visits_type="TOTAL", page_size=20, on_progress=look)
    )
    await received.wait()
    sync.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sync
    assert 9 * 20 == len(stored(tmp_path / "w.duckdb"))
    fake.faults.clear()
    result = await etl.sync(client, IDS, tmp_path / "w.duckdb", visits_type="TOTAL", page_size=20)
    assert named(world, *IDS) == stored(result.database)
    assert 450 - 9 * 20 == result.rows


async def test_an_id_that_is_given_twice_is_read_once(client: DistinctClient, world: World, tmp_path: Path) -> None:
    result = await etl.sync(client, ["exp-1", "exp-1"], tmp_path / "w.duckdb", visits_type="TOTAL")
    assert named(world, "exp-1") == stored(result.database)


async def test_an_experience_whose_rows_were_damaged_is_a_failed_run_of_its_own(
    client: DistinctClient, tmp_path: Path
) -> None:
    database = tmp_path / "w.duckdb"
    await etl.sync(client, "exp-1", database, visits_type="TOTAL")
    with duckdb.connect(str(database)) as connection:
        connection.execute("UPDATE checkpoints SET checkpoint = '{'")
    with pytest.raises(errors.DistinctError) as caught:
        await etl.sync(client, ["exp-9", "exp-2", "exp-1"], database, visits_type="TOTAL")
    result = caught.value.result
    assert result is not None
    why = {key: str(each.error) for key, each in result.experiences.items()}
    runs = asked(database, "SELECT experience_id, complete, failures FROM runs WHERE run_id > 1 ORDER BY ALL")
    failed = [("exp-1", False, [why["exp-1"]]), ("exp-2", True, []), ("exp-9", False, [why["exp-9"]])]
    assert failed == runs


async def test_a_key_that_is_refused_in_the_middle_is_in_the_run(
    client: DistinctClient, fake: FakeServer, tmp_path: Path
) -> None:
    fake.fail(query={"metricsType": "TOUCHPOINT"}, status=401)
    with pytest.raises(errors.AuthenticationError) as caught:
        await etl.sync(client, "exp-1", tmp_path / "w.duckdb")
    assert [(False, [str(caught.value)])] == asked(tmp_path / "w.duckdb", "SELECT complete, failures FROM runs")


@pytest.mark.timeout(120)  # two seconds on an idle machine
async def test_fifty_experiences_go_into_one_database(tmp_path: Path) -> None:
    world = World()
    for number in range(50):
        world.add_experience(f"exp-{number}")
        world.add_touchpoint("tp-" + str(number), experience_id=f"exp-{number}", name="Gate")
        world.add_scan(f"tp-{number}", "user-1", BEGAN)
        world.add_scan(f"tp-{number}", "user-2", BEGAN)
    async with FakeServer(world) as fake, DistinctClient(fake.api_key, base_url=fake.url) as client:
        ids = [f"exp-{number}" for number in range(50)]
        first = await etl.sync(client, ids, tmp_path / "w.duckdb")
        world.add_scan("tp-17", "user-3", BEGAN)
        fake.requests.clear()
        second = await etl.sync(client, ids, tmp_path / "w.duckdb")
    assert (200, True, 2, True) == (first.rows, first.complete, second.rows, second.complete)
    assert 50 + 2 == len(fake.requests)  # one for each experience, one for each list that has grown
    assert 101 == len(stored(tmp_path / "w.duckdb"))
