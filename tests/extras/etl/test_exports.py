"""`etl.export`: one file that is whole or not there, its manifest, and parts that survive whatever comes between."""

import asyncio
import errno
import json
import os
import random
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from attrs import astuple

from distinct_async import Checkpoint, DistinctClient, errors, etl
from distinct_async.etl import arrow
from distinct_async.etl.destinations import Chunk, files
from distinct_async.etl.exports import FileFormat, export_with
from distinct_async.etl.options import JobOptions
from distinct_async.etl.plans import Plan, VisitList
from distinct_async.models import TouchpointSummary, Visit, VisitsType
from distinct_async.sansio.pages import Question
from distinct_async.testing import FakeServer, World

from .rows import BOTH, rows_from, rows_of

SOON = 10.0  # seconds: longer than the test
FORMATS = ("parquet", "csv", "jsonl")


@pytest.fixture
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part for every 50 rows or so."""
    monkeypatch.setattr(etl, "export", partial(etl.export, batch_rows=50))


def pages(fake: FakeServer) -> list[tuple[str, str, int]]:
    """The pages that were asked for: touchpoint, type, offset."""
    return [
        (request.query["touchpointId"], request.query["visitsType"], int(request.query.get("offset", 0)))
        for request in fake.requests
        if request.query["metricsType"] == "TOUCHPOINT"
    ]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def manifest_of(path: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(path.with_name(f"{path.name}.manifest.json").read_text())
    return manifest


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("visits_type", "kinds"), [("TOTAL", ("TOTAL",)), (None, BOTH)], ids=str)
@pytest.mark.usefixtures("_small_parts")
async def test_each_format_holds_the_rows_of_the_world_in_order(
    client: DistinctClient,
    world: World,
    tmp_path: Path,
    form: FileFormat,
    visits_type: VisitsType | None,
    kinds: tuple[VisitsType, ...],
) -> None:
    world.add_scan("tp-2", 'né "q", \n,🦆', datetime(2026, 7, 1, 1, 2, 3, 456789, UTC))
    path = tmp_path / f"visits.{form}"
    result = await etl.export(client, "exp-1", path, visits_type=visits_type, page_size=7)

    assert rows_of(world, *kinds) == rows_from(path)
    assert (len(rows_of(world, *kinds)), True, path) == (result.rows, result.complete, result.path)
    assert {path.name, result.manifest.name} == names(tmp_path)


async def test_the_suffix_reports_the_format_unless_one_is_given(client: DistinctClient, tmp_path: Path) -> None:
    await etl.export(client, "exp-1", str(tmp_path / "visits.NDJSON"))
    await etl.export(client, "exp-1", tmp_path / "visits", format="csv")
    assert rows_from(tmp_path / "visits.NDJSON")
    assert (
        (tmp_path / "visits")
        .read_bytes()
        .startswith(b"experience_id,touchpoint_id,touchpoint_name,visits_type,position")
    )


async def test_a_format_that_the_suffix_gives_the_lie_is_refused(
    client: DistinctClient, fake: FakeServer, tmp_path: Path
) -> None:
    with pytest.raises(errors.InvalidRequestError, match=r"format='jsonl' contradicts the file name 'visits\.parquet'"):
        await etl.export(client, "exp-1", tmp_path / "visits.parquet", format="jsonl")
    assert ([], set()) == (fake.requests, names(tmp_path))


async def test_the_manifest_is_true(client: DistinctClient, world: World, tmp_path: Path) -> None:
    path, before = tmp_path / "visits.parquet", datetime.now(UTC)
    world.add_touchpoint("tp-4")
    result = await etl.export(client, "exp-1", path, visits_type=None)
    manifest = manifest_of(path)

    checkpoints = [each.pop("checkpoint") for each in manifest["lists"]]
    assert before <= datetime.fromisoformat(manifest.pop("finished_at")) <= datetime.now(UTC)
    rows = len(rows_of(world, *BOTH))
    assert {
        "file": "visits.parquet",
        "format": "parquet",
        "experience_id": "exp-1",
        "visits_type": None,
        "complete": True,
        "declared": rows,
        "written": rows,
        "lists": [
            {
                "experience_id": "exp-1",
                "touchpoint_id": touchpoint_id,
                "visits_type": kind,
                "name": world.touchpoint(touchpoint_id).name,
                "value": world.touchpoint(touchpoint_id).value,
                "declared": len([row for row in rows_of(world, kind) if row[0] == touchpoint_id]),
                "written": len([row for row in rows_of(world, kind) if row[0] == touchpoint_id]),
                "complete": True,
            }
            for touchpoint_id in world.touchpoints
            for kind in BOTH
        ],
        "distinct_async": version("distinct-async"),
        "schema_version": 2,
    } == manifest
    assert [None, None] == checkpoints[-2:]
    walk = client.metrics.total_visits("tp-1", experience_id="exp-1").resume(
        Checkpoint.from_json(json.dumps(checkpoints[0]))
    )
    assert [] == await walk.collect()
    assert (rows, rows) == (result.rows, result.expected)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.usefixtures("_small_parts")
async def test_nothing_looks_whole_before_the_end(client: DistinctClient, tmp_path: Path, form: FileFormat) -> None:
    path, seen = tmp_path / f"visits.{form}", list[set[str]]()
    await etl.export(
        client, "exp-1", path, format=form, page_size=10, on_progress=lambda _: seen.append(names(tmp_path))
    )
    assert len(seen) >= 30
    assert {f"visits.{form}.parts"} == set().union(*seen)


@pytest.mark.usefixtures("_small_parts")
async def test_a_failure_leaves_the_old_target_alone_and_the_next_run_asks_only_for_what_is_missing(
    client: DistinctClient, fake: FakeServer, world: World, tmp_path: Path
) -> None:
    path = tmp_path / "visits.csv"
    await etl.export(client, "exp-1", path)
    old, old_manifest = path.read_bytes(), manifest_of(path)
    world.grow(30)

    fault = fake.fail(query={"touchpointId": "tp-2", "offset": "40"}, status=400)
    with pytest.raises(errors.BadRequestError) as caught:
        await etl.export(client, "exp-1", path, page_size=20)
    result = caught.value.result
    assert isinstance(result, etl.ExportResult)
    rest = len(world.scans("tp-2")) - 40
    assert (len(rows_of(world)) - rest, len(rows_of(world)), False) == (result.rows, result.expected, result.complete)
    assert ["tp-2"] == [failure.work.touchpoint.id for failure in result.failures]
    assert (old, old_manifest) == (path.read_bytes(), manifest_of(path))

    fake.faults.remove(fault)
    fake.requests.clear()
    await etl.export(client, "exp-1", path, page_size=20)
    assert {("tp-2", "TOTAL")} == {page[:2] for page in pages(fake)}
    assert 39 == min(page[2] for page in pages(fake))
    assert rows_of(world) == rows_from(path)
    assert manifest_of(path)["complete"]


@pytest.mark.usefixtures("_small_parts")
async def test_killed_by_a_refused_key_it_keeps_what_came(
    client: DistinctClient, fake: FakeServer, world: World, tmp_path: Path
) -> None:
    fake.world = world = World.sample(touchpoints=1, scans=100, users=9)
    fault = fake.fail(query={"offset": "70"}, status=401)
    with pytest.raises(errors.AuthenticationError) as caught:
        await etl.export(client, "exp-1", tmp_path / "visits.parquet", page_size=10)
    assert caught.value.result is not None
    assert (70, False, ()) == (caught.value.result.rows, caught.value.result.complete, caught.value.result.failures)
    fake.faults.remove(fault)
    fake.requests.clear()
    await etl.export(client, "exp-1", tmp_path / "visits.parquet", page_size=10)
    assert [69, 79, 89, 99] == sorted(page[2] for page in pages(fake))
    assert rows_of(world) == rows_from(tmp_path / "visits.parquet")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.usefixtures("_small_parts")
async def test_cancelled_at_random_moments_and_run_again_every_row_is_there_once(
    client: DistinctClient, fake: FakeServer, world: World, tmp_path: Path, form: FileFormat
) -> None:
    rng, path = random.Random(form), tmp_path / f"visits.{form}"
    fake.latency = 0.001
    for size in (3, 10, 7, 20):
        with suppress(TimeoutError):
            async with asyncio.timeout(rng.uniform(0.01, 0.12)):
                await etl.export(client, "exp-1", path, visits_type=None, page_size=size)
        if path.exists():  # the last step is not broken off: cancelled in it, the file is there
            assert rows_of(world, *BOTH) == rows_from(path)
            path.unlink()
    await etl.export(client, "exp-1", path, visits_type=None, page_size=10)
    assert rows_of(world, *BOTH) == rows_from(path)


async def test_cancelled_it_keeps_what_came(
    client: DistinctClient, fake: FakeServer, world: World, tmp_path: Path
) -> None:
    fake.world = world = World.sample(touchpoints=1, scans=100, users=9)
    fault = fake.fail(query={"offset": "70"}, wire="hang")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await etl.export(client, "exp-1", tmp_path / "visits.csv", page_size=10, prefetch=1)
    fake.faults.remove(fault)
    fake.requests.clear()
    await etl.export(client, "exp-1", tmp_path / "visits.csv", page_size=10)
    assert 69 == min(page[2] for page in pages(fake))
    assert rows_of(world) == rows_from(tmp_path / "visits.csv")


async def broken_off(client: DistinctClient, fake: FakeServer, path: Path) -> Path:
    """Leave the parts of an export of 100 rows at one touchpoint, of which 20 are missing; return their folder."""
    fake.world = World.sample(touchpoints=1, scans=100, users=9)
    fault = fake.fail(query={"offset": "80"}, status=400)
    with pytest.raises(errors.BadRequestError):
        await etl.export(client, "exp-1", path, page_size=10)
    fake.faults.remove(fault)
    fake.requests.clear()
    return path.with_name(f"{path.name}.parts")


@pytest.mark.usefixtures("_small_parts")
async def test_a_torn_line_of_the_journal_and_a_part_without_one_never_were(
    client: DistinctClient, fake: FakeServer, tmp_path: Path
) -> None:
    path = tmp_path / "visits.jsonl"
    folder = await broken_off(client, fake, path)
    journal = folder / "journal.jsonl"
    *lines, last = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) >= 2
    journal.write_bytes(b"".join(lines) + last[: len(last) // 2])  # its part is there, and does not count
    (folder / f"{len(lines):06}.parquet").write_bytes(b"PAR1 half a par")

    fault = fake.fail(query={"touchpointId": "tp-1"}, nth=4, status=400)
    with pytest.raises(errors.BadRequestError):
        await etl.export(client, "exp-1", path, page_size=10)
    assert 0 < min(page[2] for page in pages(fake)) < 79
    fake.faults.remove(fault)
    await etl.export(client, "exp-1", path, page_size=10)
    assert rows_of(fake.world) == rows_from(path)


async def test_a_journal_that_was_torn_in_its_first_line_is_begun_anew(
    client: DistinctClient, fake: FakeServer, tmp_path: Path, world: World
) -> None:
    path, folder = tmp_path / "visits.jsonl", tmp_path / "visits.jsonl.parts"
    folder.mkdir()
    (folder / "journal.jsonl").write_bytes(b'{"experience_id":"ex')
    await etl.export(client, "exp-1", path)
    assert rows_of(world) == rows_from(path)
    assert fake.requests


@pytest.mark.parametrize(
    ("experience_id", "visits_type"), [("exp-2", "TOTAL"), ("exp-1", "UNIQUE"), ("exp-1", None)], ids=str
)
async def test_parts_of_another_question_are_not_mixed_in(
    client: DistinctClient, fake: FakeServer, tmp_path: Path, experience_id: str, visits_type: VisitsType | None
) -> None:
    path = tmp_path / "visits.parquet"
    folder = await broken_off(client, fake, path)
    before = names(folder)
    with pytest.raises(
        errors.InvalidRequestError,
        match=r"parquet\.parts .*of experience 'exp-1', visits_type='TOTAL'.*delete the folder",
    ):
        await etl.export(client, experience_id, path, visits_type=visits_type)
    assert [] == fake.requests
    assert before == names(folder)
    await etl.export(client, "exp-1", tmp_path / "visits.parquet")
    assert rows_of(fake.world) == rows_from(path)


SLICE = (
    b'{"name":"1.parquet","slices":[{"touchpoint_id":"tp-1","visits_type":"TOTAL","start":80,"rows":1,'
    b'"checkpoint":"%b","declared":81,"complete":true,"ascends":true,"rebuild":false}]}\n'
)


@pytest.mark.parametrize(
    "line", [b"[]\n", b'{"name":"000000.parquet","slices":[{}]}\n', b"\xff\n", SLICE % b"{}", SLICE % b"\xff"]
)
async def test_a_journal_that_is_none_is_reported(
    client: DistinctClient, fake: FakeServer, tmp_path: Path, line: bytes
) -> None:
    folder = await broken_off(client, fake, tmp_path / "visits.parquet")
    with (folder / "journal.jsonl").open("ab") as journal:
        journal.write(line)
    with pytest.raises(errors.InvalidRequestError, match=r"written by another version.*delete the folder"):
        await etl.export(client, "exp-1", tmp_path / "visits.parquet")
    assert [] == fake.requests


@pytest.mark.usefixtures("_small_parts")
async def test_of_two_exports_at_once_to_one_path_one_is_refused_and_the_other_has_every_row_once(
    client: DistinctClient, world: World, tmp_path: Path
) -> None:
    path = tmp_path / "visits.parquet"
    ended = await asyncio.gather(
        *(etl.export(client, "exp-1", path, page_size=10) for _ in range(2)), return_exceptions=True
    )
    assert errors.StorageError in {type(each) for each in ended}
    assert {etl.ExportResult, errors.StorageError} >= {type(each) for each in ended}
    if path.exists():
        assert rows_of(world) == rows_from(path)
    await etl.export(client, "exp-1", path, page_size=10)
    assert rows_of(world) == rows_from(path)
    assert {path.name, f"{path.name}.manifest.json"} == names(tmp_path)


LIST = VisitList(
    TouchpointSummary(id="tp-1", name=None, value=None, total_visits=2, unique_visits=1),
    "TOTAL",
    experience_id="exp-1",
)
VISIT = Visit("user-1", datetime(2026, 6, 1, tzinfo=UTC))


def chunk(start: int, *visits: Visit) -> Chunk:
    question = Question("metrics.total_visits", {"touchpoint_id": "tp-1"})
    checkpoint = Checkpoint(question, start + len(visits), "digest")
    return Chunk(LIST, start, rebuild=False, checkpoint=checkpoint, visits=[*visits])


def destination_for(path: Path) -> files.FileDestination:
    return files.FileDestination(path, "jsonl", ("exp-1",), "TOTAL")


def result_of(rows: int) -> etl.Result:
    return etl.Result(rows=rows, expected=rows, complete=True, failures=(), requests=1, retries=0, elapsed=0)


def test_the_export_whose_journal_another_has_gone_on_with_ends_there(tmp_path: Path) -> None:
    path = tmp_path / "visits.jsonl"
    first, second = (destination_for(path) for _ in range(2))
    first.begin(Plan("exp-1", (LIST,), 1))
    first.write([chunk(0, VISIT)])
    with pytest.raises(errors.StorageError, match=r"visits\.jsonl.*another export to this file is running"):
        second.write([chunk(0, VISIT)])
    second.close()
    first.write([chunk(1, VISIT)])
    first.finish(result_of(2))
    assert [("tp-1", "TOTAL", position, *astuple(VISIT)) for position in range(2)] == rows_from(path)
    assert {path.name, f"{path.name}.manifest.json"} == names(tmp_path)


def test_a_part_may_only_say_that_a_list_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "visits.jsonl"
    destination = destination_for(path)
    destination.begin(Plan("exp-1", (LIST,), 1))
    destination.write([chunk(0, VISIT)])
    destination.write([chunk(1)])
    destination.finish(result_of(1))
    assert [("tp-1", "TOTAL", 0, *astuple(VISIT))] == rows_from(path)


def test_of_two_exports_that_begin_at_once_one_begins_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, encode = tmp_path / "visits.jsonl", msgspec.json.encode

    def when_another_comes(line: object) -> bytes:
        monkeypatch.setattr(msgspec.json, "encode", encode)
        with pytest.raises(errors.StorageError, match=r"visits\.jsonl.*another export to this file is running"):
            files.FileDestination(path, "jsonl", ("exp-1",), "TOTAL")
        return encode(line)

    with monkeypatch.context() as moment:
        moment.setattr(Path, "exists", lambda _: False)  # when they looked
        monkeypatch.setattr(msgspec.json, "encode", when_another_comes)
        first = files.FileDestination(path, "jsonl", ("exp-1",), "TOTAL")
    first.close()
    assert set() == names(tmp_path)


@pytest.mark.usefixtures("_small_parts")
async def test_rows_that_two_exports_wrote_in_the_same_moment_count_once(
    client: DistinctClient, fake: FakeServer, tmp_path: Path
) -> None:
    path = tmp_path / "visits.parquet"
    journal = await broken_off(client, fake, path) / "journal.jsonl"
    question, *lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([question, *(line for line in lines for _ in range(2))]))
    await etl.export(client, "exp-1", path, page_size=10)
    assert rows_of(fake.world) == rows_from(path)


@pytest.mark.usefixtures("_small_parts")
async def test_parts_that_were_being_deleted_when_it_was_killed_are_not_asked_for(
    client: DistinctClient, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "visits.parquet"

    def killed(destination: files.FileDestination) -> None:
        next(destination._folder.glob("*.parquet")).unlink()
        raise OSError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(files.FileDestination, "_delete_parts", killed)
        with pytest.raises(errors.StorageError, match="killed"):
            await etl.export(client, "exp-1", path)
    assert rows_of(world) == rows_from(path)
    world.grow(20)
    await etl.export(client, "exp-1", path)
    assert rows_of(world) == rows_from(path)
    assert {path.name, f"{path.name}.manifest.json"} == names(tmp_path)


async def test_an_export_that_wrote_nothing_leaves_nothing(
    client: DistinctClient, fake: FakeServer, tmp_path: Path
) -> None:
    with pytest.raises(errors.NotFoundError):
        await etl.export(client, "exp-9", tmp_path / "visits.csv")
    assert set() == names(tmp_path)
    await etl.export(client, "exp-1", tmp_path / "visits.csv")  # the misspelt one does not stand in its way
    assert fake.requests


async def test_a_second_export_takes_the_place_of_the_first_in_one_step(
    client: DistinctClient, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "visits.jsonl"
    await etl.export(client, "exp-1", path)
    first = rows_from(path)
    world.grow(50)
    seen: list[list[Any]] = []
    replace = Path.replace

    def looked(source: Path, target: Path) -> Path:
        if target == path:
            seen.append(rows_from(target))
            assert not (tmp_path / "visits.jsonl.manifest.json").exists()  # it would be of the other file
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", looked)
    result = await etl.export(client, "exp-1", path, page_size=10)
    assert [first] == seen
    assert rows_of(world) == rows_from(path)
    assert len(rows_of(world)) == manifest_of(path)["written"] == result.rows


async def test_what_cannot_be_meant_is_refused_before_anything_is_touched(
    client: DistinctClient, fake: FakeServer, tmp_path: Path
) -> None:
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("visits.xlsx", {}),
        ("visits", {}),
        ("visits.csv", {"format": "feather"}),
        ("visits.csv", {"on_drift": "warn"}),
        ("visits.csv", {"page_size": 0}),
        ("visits.csv", {"prefetch": 0}),
        ("visits.csv", {"visits_type": "BOTH"}),
        ("visits.csv", {"experience_id": ""}),
    ]
    for name, options in wrong:
        with pytest.raises(errors.InvalidRequestError):
            await etl.export(client, **{"experience_id": "exp-1", "path": tmp_path / "new" / name, **options})
    assert ([], set()) == (fake.requests, names(tmp_path))


async def test_a_folder_that_is_not_there_is_made(client: DistinctClient, world: World, tmp_path: Path) -> None:
    await etl.export(client, "exp-1", tmp_path / "out" / "deep" / "visits.csv")
    assert rows_of(world) == rows_from(tmp_path / "out" / "deep" / "visits.csv")


async def test_a_place_where_nothing_can_be_written_is_reported_before_anything_is_sent(
    client: DistinctClient, fake: FakeServer, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(errors.StorageError, match=r"visits\.csv"):
        await etl.export(client, "exp-1", tmp_path / "out" / "visits.csv")
    assert [] == fake.requests


@pytest.mark.skipif(sys.platform == "win32", reason="pipes as POSIX has them")
async def test_what_is_no_file_is_not_replaced(client: DistinctClient, fake: FakeServer, tmp_path: Path) -> None:
    pipe, folder = tmp_path / "pipe.csv", tmp_path / "folder.csv"
    os.mkfifo(pipe)  # not /dev/null: what this test is there to find would, run by root, replace the machine's own
    folder.mkdir()
    for path in (pipe, folder):
        with pytest.raises(errors.StorageError, match=path.name):
            await etl.export(client, "exp-1", path)
    assert ({"pipe.csv", "folder.csv"}, []) == (names(tmp_path), fake.requests)
    assert pipe.is_fifo()


@pytest.mark.usefixtures("_small_parts")
async def test_a_full_disk_ends_it_the_parts_before_stand_and_none_comes_behind_a_gap(
    client: DistinctClient, fake: FakeServer, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, full, count = tmp_path / "visits.parquet", [], 0

    def fsync(_: int) -> None:
        nonlocal count
        count += 1
        if count in {5, 6}:  # full once, then again there is room
            full.append(count)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(errors.StorageError, match=r"visits\.parquet.*No space left") as caught:
        await etl.export(client, "exp-1", path, page_size=10)
    assert [5] == full  # nothing was tried after it
    assert caught.value.result is not None
    assert (False, parts_rows(path)) == (caught.value.result.complete, caught.value.result.rows)
    assert {"visits.parquet.parts"} == names(tmp_path)
    count = 10
    await etl.export(client, "exp-1", path, page_size=10)
    assert rows_of(world) == rows_from(path)
    assert fake.requests


@pytest.mark.usefixtures("_small_parts")
async def test_all_bytes_of_a_part_are_on_the_disk_before_the_journal_names_it(
    client: DistinctClient, fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, fsync = dict[int, int](), os.fsync

    def noted(file: int) -> None:
        fsync(file)
        synced[os.fstat(file).st_ino] = os.fstat(file).st_size

    monkeypatch.setattr("os.fsync", noted)
    folder = await broken_off(client, fake, tmp_path / "visits.parquet")
    written = {each.stat().st_ino: each.stat().st_size for each in folder.iterdir()}
    assert len(written) > 2
    assert written == synced


def parts_rows(path: Path) -> int:
    """The rows that the journal knows of."""
    lines = (path.with_name(f"{path.name}.parts") / "journal.jsonl").read_text().splitlines()
    return sum(each["rows"] for line in lines[1:] for each in json.loads(line)["slices"])


async def test_a_cancellation_is_not_hidden_by_a_full_disk_and_what_came_later_is_not_written(
    client: DistinctClient, fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.world = World.sample(touchpoints=1, scans=300, users=9)
    monkeypatch.setattr(etl, "export", partial(etl.export, batch_rows=50))
    write, calls = files.FileDestination.write, 0
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def fails_once(self: files.FileDestination, chunks: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            loop.call_soon_threadsafe(task.cancel)
            ends = time.monotonic() + SOON
            while len(pages(fake)) < 12 and time.monotonic() < ends:  # more rows come meanwhile
                time.sleep(0.01)
            raise errors.StorageError("full")
        write(self, chunks)

    monkeypatch.setattr(files.FileDestination, "write", fails_once)
    with pytest.raises(asyncio.CancelledError):
        await etl.export(client, "exp-1", tmp_path / "visits.csv", page_size=10)
    task.uncancel()
    assert 2 == calls
    await etl.export(client, "exp-1", tmp_path / "visits.csv", page_size=10)
    assert rows_of(fake.world) == rows_from(tmp_path / "visits.csv")


async def test_a_cancellation_is_not_hidden_where_what_came_cannot_be_written_any_more(
    client: DistinctClient, fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise errors.StorageError("full")

    fake.world = World.sample(touchpoints=1, scans=100, users=9)
    fake.fail(query={"offset": "70"}, wire="hang")
    monkeypatch.setattr(files.FileDestination, "write", fails)
    options = JobOptions(ids_or_plan="exp-1", visits_type="TOTAL", page_size=10, prefetch=1, batch_seconds=SOON)
    task = asyncio.create_task(export_with(client, options, tmp_path / "visits.csv", None))
    while ("tp-1", "TOTAL", 70) not in pages(fake):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("method", ["__init__", "write", "finish", "close"])
async def test_the_loop_turns_while_the_disk_works(
    client: DistinctClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    loop, work, turns = asyncio.get_running_loop(), getattr(files.FileDestination, method), 0

    def waits(*args: Any, **options: Any) -> Any:
        nonlocal turns
        turned = threading.Event()
        loop.call_soon_threadsafe(turned.set)
        assert turned.wait(SOON), "it waits for the disk"
        turns += 1
        return work(*args, **options)

    monkeypatch.setattr(files.FileDestination, method, waits)
    assert (await etl.export(client, "exp-1", tmp_path / "visits.csv")).complete
    assert turns >= 1


async def test_where_joining_fails_the_old_file_and_the_parts_stand(
    client: DistinctClient, fake: FakeServer, world: World, tmp_path: Path
) -> None:
    path, manifest = tmp_path / "visits.parquet", tmp_path / "visits.parquet.manifest.json"
    path.write_bytes(b"old")
    manifest.mkdir()  # no file can take its place
    with pytest.raises(errors.StorageError, match=r"visits\.parquet") as caught:
        await etl.export(client, "exp-1", path)
    assert caught.value.result is not None
    assert (len(rows_of(world)), False) == (caught.value.result.rows, caught.value.result.complete)
    assert {manifest.name, "visits.parquet", "visits.parquet.parts"} == names(tmp_path)
    assert b"old" == path.read_bytes()
    manifest.rmdir()
    fake.requests.clear()
    await etl.export(client, "exp-1", path)
    assert [] == pages(fake)
    assert rows_of(world) == rows_from(path)


@pytest.mark.usefixtures("_small_parts")
async def test_history_that_changed_since_the_crash_is_drift_or_that_list_is_walked_anew(
    client: DistinctClient, fake: FakeServer, tmp_path: Path
) -> None:
    path = tmp_path / "visits.parquet"
    await broken_off(client, fake, path)
    fake.world.insert("tp-1", 3, "user-0", "2026-06-01T00:00:00Z")
    with pytest.raises(errors.DriftError, match=r"touchpoint 'tp-1'.*no longer match the server.*on_drift='rebuild'"):
        await etl.export(client, "exp-1", path, page_size=10)
    result = await etl.export(client, "exp-1", path, page_size=10, on_drift="rebuild")
    assert rows_of(fake.world) == rows_from(path)
    assert (101, True) == (result.rows, result.complete)


@pytest.mark.usefixtures("_small_parts")
async def test_a_rebuild_that_is_broken_off_goes_on_too(
    client: DistinctClient, fake: FakeServer, tmp_path: Path
) -> None:
    path = tmp_path / "visits.parquet"
    await broken_off(client, fake, path)
    fake.world.insert("tp-1", 3, "user-0", "2026-06-01T00:00:00Z")
    fault = fake.fail(query={"offset": "90"}, status=400)
    with pytest.raises(errors.BadRequestError):
        await etl.export(client, "exp-1", path, page_size=10, on_drift="rebuild")
    fake.faults.remove(fault)
    fake.requests.clear()
    await etl.export(client, "exp-1", path, page_size=10)
    assert 89 == min(page[2] for page in pages(fake))
    assert rows_of(fake.world) == rows_from(path)


@pytest.mark.usefixtures("_small_parts")
async def test_what_grew_since_the_crash_is_in_the_file(
    client: DistinctClient, fake: FakeServer, tmp_path: Path
) -> None:
    path = tmp_path / "visits.parquet"
    await broken_off(client, fake, path)
    fake.world.grow(25)
    result = await etl.export(client, "exp-1", path, page_size=10)
    assert rows_of(fake.world) == rows_from(path)
    assert (125, 125, True) == (result.rows, manifest_of(path)["declared"], result.complete)


async def test_a_descending_list_is_exported_as_it_stands(
    client: DistinctClient, fake: FakeServer, world: World, tmp_path: Path
) -> None:
    fake.order = "descending"
    await etl.export(client, "exp-1", tmp_path / "visits.csv", page_size=10)
    turned = [
        (touchpoint_id, "TOTAL", position, scan.user_id, scan.at)
        for touchpoint_id in world.touchpoints
        for position, scan in enumerate(reversed(world.scans(touchpoint_id)))
    ]
    assert turned == rows_from(tmp_path / "visits.csv")


async def test_a_plan_without_all_touchpoints_makes_a_file_that_says_it_is_not_complete(
    client: DistinctClient, fake: FakeServer, world: World, tmp_path: Path
) -> None:
    fake.fail(
        query={"metricsType": "EXPERIENCE"},
        body=lambda body: body.replace(b'"totalTouchpoints":3', b'"totalTouchpoints":4'),
    )
    result = await etl.export(client, "exp-1", tmp_path / "visits.csv")
    assert not result.complete
    assert not manifest_of(tmp_path / "visits.csv")["complete"]
    assert rows_of(world) == rows_from(tmp_path / "visits.csv")


async def test_a_list_that_stays_short_of_its_total_is_not_complete_in_the_manifest(
    client: DistinctClient, fake: FakeServer, world: World, tmp_path: Path
) -> None:
    declared = b'"totalVisits":%d' % len(world.scans("tp-3"))
    fake.fail(query={"metricsType": "EXPERIENCE"}, body=lambda body: body.replace(declared, b'"totalVisits":99'))
    await etl.export(client, "exp-1", tmp_path / "visits.csv", page_size=100)
    manifest = manifest_of(tmp_path / "visits.csv")
    assert [("tp-1", True), ("tp-2", True), ("tp-3", False)] == [
        (each["touchpoint_id"], each["complete"]) for each in manifest["lists"]
    ]
    assert (False, 99, len(world.scans("tp-3"))) == (
        manifest["complete"],
        manifest["lists"][2]["declared"],
        manifest["lists"][2]["written"],
    )


async def test_an_experience_without_visits_is_a_file_without_rows(
    client: DistinctClient, fake: FakeServer, tmp_path: Path
) -> None:
    fake.world = World()
    fake.world.add_touchpoint("tp-1")
    for form in FORMATS:
        result = await etl.export(client, "exp-1", tmp_path / f"visits.{form}")
        assert (0, True) == (result.rows, result.complete)
        assert [] == rows_from(tmp_path / f"visits.{form}")
    assert 7 == pq.read_metadata(tmp_path / "visits.parquet").num_columns
    assert 6 == len(names(tmp_path))


@pytest.mark.usefixtures("_small_parts")
async def test_row_groups_are_joined_not_one_a_page(
    client: DistinctClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_MIN_GROUP_ROWS", 100)
    await etl.export(client, "exp-1", tmp_path / "visits.parquet", page_size=10)
    metadata = pq.read_metadata(tmp_path / "visits.parquet")
    sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert 300 == sum(sizes)
    assert len(sizes) <= 3


async def test_ascending_numbers_are_stored_as_their_steps(client: DistinctClient, tmp_path: Path) -> None:
    """Else a file of ten million visits would be six times as large."""
    result = await etl.export(client, "exp-1", tmp_path / "visits.parquet")
    group = pq.ParquetFile(result.path).metadata.row_group(0)
    columns = {column.path_in_schema: column.encodings for column in map(group.column, range(group.num_columns))}
    by_steps = {name for name, encodings in columns.items() if "DELTA_BINARY_PACKED" in encodings}
    assert {"position", "timestamp_utc"} == by_steps


async def test_the_file_has_statistics_for_queries_and_its_parts_save_them(
    client: DistinctClient, fake: FakeServer, tmp_path: Path
) -> None:
    path = tmp_path / "visits.parquet"
    (part,) = (await broken_off(client, fake, path)).glob("*.parquet")
    of_part = pq.read_metadata(part).row_group(0).column(2)
    await etl.export(client, "exp-1", path)
    of_file = pq.read_metadata(path).row_group(0).column(4)
    assert ("position", "position") == (of_part.path_in_schema, of_file.path_in_schema)
    assert (False, True) == (of_part.is_stats_set, of_file.is_stats_set)


@pytest.fixture
def groups_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each row group of a part that is read."""
    read, rows = pq.ParquetFile.read_row_group, list[int]()

    def counted(self: pq.ParquetFile, group: int, **options: Any) -> Any:
        table = read(self, group, **options)
        rows.append(len(table))
        return table

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    return rows


async def test_many_small_lists_share_row_groups_and_each_is_read_once(
    client: DistinctClient, fake: FakeServer, tmp_path: Path, groups_read: list[int]
) -> None:
    """Joining is linear in the number of lists: 20,000 lists took as long as the square of it before."""
    world = fake.world = World()
    for number in range(300):
        for row in range(3):
            world.add_scan(f"tp-{number}", f"user-{row}", f"2024-01-01T10:00:0{row}Z")
    await etl.export(client, "exp-1", tmp_path / "visits.parquet", batch_rows=100)
    assert rows_of(world) == rows_from(tmp_path / "visits.parquet")
    assert len(groups_read) <= 2 * 900 / 100


async def test_of_long_lists_hardly_a_row_is_read_twice(
    client: DistinctClient, fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups_read: list[int]
) -> None:
    """A part has a row group for each of them; in a common one, each list would read the rows of all."""
    fake.world = World.sample(touchpoints=8, scans=20_000, users=50)
    monkeypatch.setattr(arrow, "_MIN_BATCH_ROWS", 100)
    await etl.export(client, "exp-1", tmp_path / "visits.parquet", batch_rows=1000, page_size=100)
    assert rows_of(fake.world) == rows_from(tmp_path / "visits.parquet")
    assert 20_000 <= sum(groups_read) <= 22_000
