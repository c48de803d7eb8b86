"""`Plan.split` and reading its parts: every declared row exactly once, or an error in the part that can know."""

import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distinct_async import Checkpoint, DistinctClient, errors, etl
from distinct_async.etl import plans
from distinct_async.models import TouchpointSummary
from distinct_async.testing import FakeServer, World

from .rows import BOTH, rows_from, rows_in, rows_of, rows_stored, table_of

CUT = 10_000
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)

few = settings(
    max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)


def plan_of(*totals: int) -> etl.Plan:
    """Return a plan of lists of so many rows."""
    summaries = [
        TouchpointSummary(id=f"tp-{number}", name=None, value=None, total_visits=total, unique_visits=0)
        for number, total in enumerate(totals)
    ]
    return etl.Plan("exp-1", tuple(etl.VisitList(each, "TOTAL") for each in summaries), len(totals))


def world_of(*totals: int) -> World:
    """Return a world of touchpoints with so many scans, one a second."""
    world = World()
    for number, total in enumerate(totals, 1):
        world.add_touchpoint(f"tp-{number}")
        for second in range(total):
            world.add_scan(f"tp-{number}", f"user-{second % 40}", BEGAN + timedelta(seconds=second))
    return world


async def rows_read(client: DistinctClient, plan: etl.Plan) -> list[Any]:
    """Return the rows of a plan, by list and position."""
    batches = [batch async for batch in etl.batches(client, plan, page_size=1000)]
    return rows_in(table_of(batches)) if batches else []


@given(st.lists(st.integers(0, 5) | st.integers(0, 95_000), max_size=12), st.integers(1, 20))
def test_parts_cover_every_row_once_and_are_balanced(totals: list[int], parts: int) -> None:
    split = plan_of(*totals).split(parts)
    assert parts == len(split)
    ranges = sorted((each.touchpoint.id, each.start, each.stop or 0) for part in split for each in part.works)
    for number, total in enumerate(totals):
        pieces = [each[1:] for each in ranges if each[0] == f"tp-{number}"]
        assert (0, total) == (pieces[0][0], pieces[-1][1])
        assert [stop for _, stop in pieces[:-1]] == [start for start, _ in pieces[1:]]
        assert {0} >= {start % CUT for start, _ in pieces}
    sizes = [part.expected for part in split]
    assert sum(totals) == sum(sizes)
    assert max(sizes) - min(sizes) <= CUT


@given(st.lists(st.integers(0, 45_000), max_size=6), st.integers(1, 5), st.integers(1, 5))
def test_a_part_can_be_split_again(totals: list[int], parts: int, again: int) -> None:
    split = [piece for part in plan_of(*totals).split(parts) for piece in part.split(again)]
    ranges = [(each.touchpoint.id, each.start, each.stop or 0) for part in split for each in part.works]
    assert sum(totals) == sum(stop - start for _, start, stop in ranges)
    assert len(ranges) == len(set(ranges))


def test_neighbouring_ranges_of_a_long_list_are_one_walk() -> None:
    assert [(0, 50_000), (50_000, 100_000)] == [
        (each.start, each.stop) for part in plan_of(100_000).split(2) for each in part.works
    ]


@pytest.mark.parametrize("parts", [0, -1, True, 1.5, "2"])
def test_a_number_of_parts_below_one_is_refused(parts: Any) -> None:
    with pytest.raises(errors.InvalidRequestError, match="parts"):
        plan_of(5).split(parts)


def test_a_part_survives_pickling_and_says_what_it_reads() -> None:
    part = plan_of(25_000).split(2)[1]
    assert part == pickle.loads(pickle.dumps(part))  # the test's own
    assert "rows" in str(part.works[0])
    assert part.complete


def test_parts_of_a_plan_that_is_not_complete_are_not_complete() -> None:
    incomplete = evolve(plan_of(5, 5), declared=3)
    assert [False, False] == [part.complete for part in incomplete.split(2)]


async def test_parts_read_in_any_order_and_twice_give_every_row(client: DistinctClient, fake: FakeServer) -> None:
    world = fake.world = world_of(21_500, 10_000, 0, 7)
    parts = (await etl.plan(client, "exp-1", visits_type="TOTAL")).split(3)
    first = [row for part in reversed(parts) for row in await rows_read(client, part)]
    assert rows_of(world) == sorted(first)
    assert await rows_read(client, parts[0]) == await rows_read(client, pickle.loads(pickle.dumps(parts[0])))


async def test_a_part_keeps_its_rows_while_lists_grow_at_their_ends(client: DistinctClient, fake: FakeServer) -> None:
    world = fake.world = world_of(10_500, 300)
    planned = rows_of(world)
    parts = (await etl.plan(client, "exp-1", visits_type="TOTAL")).split(2)
    for touchpoint_id in ("tp-1", "tp-2"):
        world.add_scan(touchpoint_id, "user-1", BEGAN + timedelta(days=1))
    assert planned == sorted([row for part in parts for row in await rows_read(client, part)])


async def test_a_plan_is_read_exactly_as_it_declares(client: DistinctClient, fake: FakeServer) -> None:
    world = fake.world = world_of(30, 20)
    plan, planned = await etl.plan(client, "exp-1"), rows_of(world, *BOTH)
    world.add_scan("tp-1", "user-new", BEGAN + timedelta(days=1))
    fake.requests.clear()
    batches: list[pa.RecordBatch] = [batch async for batch in etl.batches(client, plan)]
    assert planned == rows_in(table_of(batches))
    assert {"TOUCHPOINT"} == {request.query["metricsType"] for request in fake.requests}


async def test_a_list_that_has_become_shorter_fails_in_every_part(client: DistinctClient, fake: FakeServer) -> None:
    fake.world = world_of(20_500)
    parts = (await etl.plan(client, "exp-1", visits_type="TOTAL")).split(2)
    fake.world = world_of(20_499)
    for part in parts:
        with pytest.raises(errors.DriftError, match="plan again") as caught:
            await rows_read(client, part)
        assert caught.value.result is not None
        assert not caught.value.result.complete


@pytest.mark.parametrize("status", [400, 404])
async def test_a_range_that_the_server_refuses_because_it_is_gone_is_drift(
    client: DistinctClient, fake: FakeServer, status: int
) -> None:
    fake.world = world_of(10_001)
    parts = (await etl.plan(client, "exp-1", visits_type="TOTAL")).split(2)
    (part,) = (part for part in parts if part.works[0].start)
    fake.fail(query={"offset": "10000"}, status=status)
    with pytest.raises(errors.DriftError, match="plan again"):
        await rows_read(client, part)


async def test_a_list_that_grew_at_its_front_fails(client: DistinctClient, fake: FakeServer) -> None:
    fake.world, fake.order = world_of(200), "descending"
    (part,) = (await etl.plan(client, "exp-1", visits_type="TOTAL")).split(1)
    fake.world.add_scan("tp-1", "user-new", BEGAN + timedelta(days=1))
    with pytest.raises(errors.DriftError, match="do not show that it is sorted oldest-first"):
        [batch async for batch in etl.batches(client, part, page_size=40)]


async def test_one_row_inserted_out_of_order_is_noticed_in_the_part_that_has_it(
    client: DistinctClient, fake: FakeServer
) -> None:
    fake.world = world_of(20_500)
    first, second = (await etl.plan(client, "exp-1", visits_type="TOTAL")).split(2)
    fake.world.insert("tp-1", 15_003, "user-new", "2020-01-01T00:00:00Z")
    failed = []
    for part in (first, second):
        try:
            await rows_read(client, part)
        except errors.DriftError as error:
            failed.append(str(error))
    assert 1 == len(failed)
    assert "plan again" in failed[0]


@pytest.fixture
def _short_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "_RANGE_ROWS", 10)


@pytest.mark.timeout(120)  # three seconds on an idle machine
@pytest.mark.usefixtures("_short_ranges")
@few
@given(st.data())
async def test_parts_give_the_planned_rows_in_any_order_and_twice_while_lists_grow(
    client: DistinctClient, fake: FakeServer, data: st.DataObject
) -> None:
    totals = data.draw(st.lists(st.integers(0, 35), min_size=1, max_size=3), "totals")
    world = fake.world = world_of(*totals)
    planned = rows_of(world)
    parts = (await etl.plan(client, "exp-1", visits_type="TOTAL")).split(data.draw(st.integers(1, 4), "parts"))
    size = data.draw(st.integers(4, 30), "page size")
    found: dict[int, Any] = {}
    for index in data.draw(st.permutations([*range(len(parts))] * 2), "order"):
        batches = [batch async for batch in etl.batches(client, parts[index], page_size=size)]
        rows = rows_in(table_of(batches)) if batches else []
        assert rows == found.setdefault(index, rows)
        grown = data.draw(st.sampled_from([None, *world.touchpoints]), "grows")
        if grown is not None:
            world.add_scan(grown, "user-new", BEGAN + timedelta(hours=1, seconds=index))
    assert planned == sorted(row for rows in found.values() for row in rows)


@pytest.mark.timeout(120)  # three seconds on an idle machine
@pytest.mark.usefixtures("_short_ranges")
@few
@given(st.data())
async def test_the_part_that_can_know_of_a_change_raises(
    client: DistinctClient, fake: FakeServer, data: st.DataObject
) -> None:
    total = data.draw(st.integers(2, 45), "total")
    world = fake.world = world_of(total, 20)
    parts = (await etl.plan(client, "exp-1", visits_type="TOTAL")).split(data.draw(st.integers(1, 6), "parts"))
    position = data.draw(st.integers(0, total - 2), "position")
    removed = data.draw(st.booleans(), "removed")
    if removed:
        world.remove("tp-1", position)
    else:
        world.insert("tp-1", position, "user-new", BEGAN + timedelta(days=1))
    for part in parts:
        ranges = [range(each.start, each.stop or 0) for each in part.works if each.touchpoint.id == "tp-1"]
        # An insertion is known where the row and the one behind it are, a removal wherever there is a row
        knows = any(each if removed else position in each and position + 1 in each for each in ranges)
        try:
            [batch async for batch in etl.batches(client, part, page_size=data.draw(st.integers(4, 30), "page size"))]
        except errors.DriftError:
            assert [] != ranges
        else:
            assert not knows


async def test_only_the_touchpoints_that_are_named_are_planned(client: DistinctClient, fake: FakeServer) -> None:
    fake.world = world_of(3, 4, 5)
    plan = await etl.plan(client, "exp-1", visits_type="TOTAL", touchpoint_ids=["tp-3", "tp-1"])
    assert (["tp-1", "tp-3"], 8, True) == ([each.id for each in plan.touchpoints], plan.expected, plan.complete)
    batches = [batch async for batch in etl.batches(client, "exp-1", touchpoint_ids={"tp-2"})]
    assert [row for row in rows_of(fake.world) if row[0] == "tp-2"] == rows_in(table_of(batches))


@pytest.mark.parametrize("ids", ["tp-1", b"tp-1", 5, [""], [None], ["tp-9"]], ids=repr)
async def test_touchpoints_that_are_not_there_are_refused(client: DistinctClient, ids: Any) -> None:
    with pytest.raises(errors.InvalidRequestError, match="touchpoint"):
        await etl.plan(client, "exp-1", touchpoint_ids=ids)


async def test_jobs_read_only_the_touchpoints_that_are_named(
    client: DistinctClient, fake: FakeServer, tmp_path: Path
) -> None:
    world = fake.world = world_of(3, 4, 5)
    expected = [row for row in rows_of(world) if row[0] != "tp-2"]
    export = await etl.export(client, "exp-1", tmp_path / "v.parquet", touchpoint_ids=["tp-1", "tp-3"])
    assert (expected, True) == (rows_from(export.path), export.complete)
    sync = await etl.sync(client, "exp-1", tmp_path / "w.duckdb", visits_type="TOTAL", touchpoint_ids=["tp-1", "tp-3"])
    assert (expected, True) == (rows_stored(sync.database), sync.complete)


async def test_an_unfinished_export_of_other_touchpoints_is_refused(
    client: DistinctClient, fake: FakeServer, tmp_path: Path
) -> None:
    fake.world = world_of(3, 4, 5)
    fake.fail(query={"touchpointId": "tp-2"}, status=400, times=1)
    with pytest.raises(errors.BadRequestError):
        await etl.export(client, "exp-1", tmp_path / "v.parquet", touchpoint_ids=["tp-1", "tp-2"])
    with pytest.raises(errors.InvalidRequestError, match="touchpoint_ids"):
        await etl.export(client, "exp-1", tmp_path / "v.parquet")
    result = await etl.export(client, "exp-1", tmp_path / "v.parquet", touchpoint_ids={"tp-2", "tp-1"})
    assert (7, True) == (result.rows, result.complete)


async def test_a_list_that_ends_within_a_range_fails(client: DistinctClient, fake: FakeServer) -> None:
    fake.world = world_of(300)
    (part,) = (await etl.plan(client, "exp-1", visits_type="TOTAL")).split(1)
    fake.world = world_of(299)
    with pytest.raises(errors.DriftError, match="the list ends at row 299"):
        await rows_read(client, part)


async def checkpoint_at(client: DistinctClient, position: int) -> Checkpoint:
    walk = client.metrics.total_visits("tp-1", experience_id="exp-1", offset=position - 1, limit=1)
    async with walk.run() as run:
        await anext(aiter(run.pages()))
        assert run.checkpoint is not None
        return run.checkpoint


async def range_of(client: DistinctClient, start: int, stop: int) -> etl.Plan:
    plan = await etl.plan(client, "exp-1", visits_type="TOTAL")
    before, after = await checkpoint_at(client, start), await checkpoint_at(client, stop)
    return evolve(plan, works=(evolve(plan.works[0], start=start, stop=stop, before=before, after=after),))


async def test_a_range_with_checkpoints_is_read_exactly_while_its_list_grows(
    client: DistinctClient, fake: FakeServer
) -> None:
    world = fake.world = world_of(25_000)
    plan = await range_of(client, 5, 24_999)
    world.add_scan("tp-1", "user-1", BEGAN + timedelta(days=1))
    rows = [row for part in plan.split(3) for row in await rows_read(client, part)]
    assert [row for row in rows_of(world) if 5 <= row[-3] < 24_999] == sorted(rows)
    (part,) = (await range_of(client, 24_998, 24_999)).split(1)
    world.grow(1, "tp-1")
    assert 1 == len(await rows_read(client, pickle.loads(pickle.dumps(part))))  # too few rows to show an order


@pytest.mark.parametrize(("at", "row"), [(0, 4), (20, 49)])
async def test_a_range_with_checkpoints_fails_if_a_row_was_inserted_before_it_or_in_it(
    at: int, row: int, client: DistinctClient, fake: FakeServer
) -> None:
    world = fake.world = world_of(60)
    (part,) = (await range_of(client, 5, 50)).split(1)
    world.insert("tp-1", at, "user-new", BEGAN)
    with pytest.raises(errors.DriftError, match=f"row {row} has changed.*plan again"):
        await rows_read(client, part)
