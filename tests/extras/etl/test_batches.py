"""`etl.batches`: every row once, as Arrow; bounded memory; errors that leave nothing behind."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pyarrow as pa
import pytest

from distinct_async import DistinctClient, RetryPolicy, errors, etl
from distinct_async.etl.batches import generate_batches
from distinct_async.etl.jobs import Job
from distinct_async.etl.options import JobOptions
from distinct_async.etl.runner import JOB_RETRY, with_job_retries
from distinct_async.models import VisitsType
from distinct_async.testing import FakeServer, World

from .rows import BOTH, rows_in, rows_of, table_of


async def collected(
    client: DistinctClient, into: list[pa.RecordBatch] | None = None, **options: Any
) -> list[pa.RecordBatch]:
    """Return all batches; `into` has those that came before an error."""
    batches = into if into is not None else []
    async for batch in etl.batches(client, "exp-1", **options):
        batches.append(batch)  # they are wanted though an error comes
    return batches


def walks(fake: FakeServer) -> int:
    return sum(request.query["metricsType"] == "TOUCHPOINT" for request in fake.requests)


async def test_the_schema_is_this_and_only_names_can_be_null(client: DistinctClient) -> None:
    expected = pa.schema(
        [
            pa.field("experience_id", pa.string(), nullable=False),
            pa.field("touchpoint_id", pa.string(), nullable=False),
            pa.field("touchpoint_name", pa.string()),
            pa.field("visits_type", pa.string(), nullable=False),
            pa.field("position", pa.int64(), nullable=False),
            pa.field("user_id", pa.string(), nullable=False),
            pa.field("timestamp_utc", pa.timestamp("us", tz="UTC"), nullable=False),
        ]
    )
    batches = await collected(client, page_size=40)
    assert {True} == {expected.equals(batch.schema, check_metadata=True) for batch in batches}
    for batch in batches:
        batch.validate(full=True)


@pytest.mark.parametrize(
    ("visits_type", "kinds"), [("TOTAL", ("TOTAL",)), ("UNIQUE", ("UNIQUE",)), (None, BOTH)], ids=str
)
async def test_every_row_of_the_world_comes_once_with_its_place_in_its_list(
    client: DistinctClient, world: World, visits_type: VisitsType | None, kinds: tuple[VisitsType, ...]
) -> None:
    batches = await collected(client, visits_type=visits_type, page_size=7, prefetch=3)
    assert rows_of(world, *kinds) == rows_in(table_of(batches))


async def test_rows_of_one_second_and_one_user_are_reported_apart_by_their_places(
    client: DistinctClient, world: World
) -> None:
    for _ in range(25):
        world.add_scan("tp-3", "user-1", "2026-07-01T00:00:00.123456Z")
    rows = rows_in(table_of(await collected(client, page_size=10)))
    assert rows_of(world) == rows
    assert 25 == len({row[2] for row in rows if row[4] == datetime(2026, 7, 1, 0, 0, 0, 123456, UTC)})


async def test_a_batch_is_of_one_list_and_the_batches_of_a_list_are_in_order(
    client: DistinctClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etl, "batches", partial(etl.batches, batch_rows=50))
    seen: dict[tuple[str, str], int] = {}
    batches = await collected(client, visits_type=None, page_size=5)
    assert len(batches) > 12
    for batch in batches:
        rows = rows_in(batch)
        (key,) = {(row[0], row[1]) for row in rows}
        start = seen.get(key, 0)
        assert list(range(start, start + len(rows))) == [row[2] for row in rows]
        seen[key] = start + len(rows)


async def test_several_lists_are_walked_at_once(client: DistinctClient, fake: FakeServer) -> None:
    fake.latency = 0.3
    await collected(client, page_size=100, prefetch=1)
    assert fake.max_in_flight >= 3


async def test_rows_wait_for_a_slow_reader_in_bounded_number(client: DistinctClient, fake: FakeServer) -> None:
    world = fake.world = World.sample(touchpoints=1, scans=3000, users=40)
    options = JobOptions(ids_or_plan="exp-1", page_size=10, prefetch=2, batch_rows=100)
    job = Job(client, await etl.plan(client, "exp-1", visits_type="TOTAL"), options)
    rows = 0
    async with aclosing(job.chunks()) as taken:
        async for chunks in taken:
            if rows == 0:
                before = -1
                while before != walks(fake):  # until nothing more is asked for
                    before = walks(fake)
                    await asyncio.sleep(0.05)
                assert (
                    10 <= before - len(chunks[0].visits) / 10 <= 10 + 1 + 2
                )  # a full batch, a page, those asked ahead
            rows += sum(len(chunk.visits) for chunk in chunks)
            assert max(len(chunk.visits) for chunk in chunks) <= 110
    assert len(world.scans("tp-1")) == rows


async def test_with_its_usual_sizes_a_job_holds_no_more_than_two_batches(
    client: DistinctClient, fake: FakeServer
) -> None:
    fake.world = World.sample(touchpoints=1, scans=160_000, users=40)
    options = JobOptions(ids_or_plan="exp-1", visits_type="TOTAL", page_size=1000, batch_seconds=60)
    async with aclosing(generate_batches(client, options)) as batches:
        first = await anext(batches)
        before = -1
        while before != walks(fake):
            before = walks(fake)
            await asyncio.sleep(0.1)
        assert 50_000 <= len(first) <= 51_000
        assert walks(fake) <= 51 + 51 + 4


async def test_what_is_slow_is_handed_on_in_time(client: DistinctClient, fake: FakeServer) -> None:
    options = JobOptions(ids_or_plan="exp-1", visits_type="TOTAL", page_size=10, prefetch=1, batch_seconds=0.05)
    fake.world = World.sample(touchpoints=1, scans=30, users=4)
    fake.fail(query={"offset": "20"}, wire="hang")
    async with asyncio.timeout(1), aclosing(generate_batches(client, options)) as batches:
        assert 20 == len(await anext(batches))


async def test_a_list_that_fails_lets_the_others_finish_and_ends_in_its_error(
    client: DistinctClient, fake: FakeServer, world: World
) -> None:
    fake.fail(query={"touchpointId": "tp-2", "offset": "40"}, status=400)
    batches: list[pa.RecordBatch] = []
    with pytest.raises(errors.BadRequestError) as caught:
        await collected(client, batches, page_size=20)

    assert [row for row in rows_of(world) if row[0] != "tp-2" or row[2] < 40] == rows_in(table_of(batches))
    result = caught.value.result
    assert result is not None
    assert (sum(map(len, batches)), len(rows_of(world)), False) == (result.rows, result.expected, result.complete)
    assert [("tp-2", caught.value)] == [(each.work.touchpoint.id, each.error) for each in result.failures]
    assert caught.value.checkpoint is not None
    assert 40 == caught.value.checkpoint.position


@pytest.mark.parametrize(("status", "error"), [(401, errors.AuthenticationError), (403, errors.PermissionDeniedError)])
async def test_a_refused_key_ends_all_at_once(
    client: DistinctClient, fake: FakeServer, status: int, error: type[errors.APIError]
) -> None:
    for number in range(9):
        fake.world.add_scan(f"more-{number}", "user-1", "2026-07-01T00:00:00Z")
    fake.fail(query={"metricsType": "TOUCHPOINT"}, status=status)
    batches: list[pa.RecordBatch] = []
    with pytest.raises(error) as caught:
        await collected(client, batches, page_size=5)
    assert walks(fake) <= 8
    assert caught.value.result is not None
    assert (0, False) == (caught.value.result.rows, caught.value.result.complete)


async def test_rows_that_were_not_given_are_not_counted(client: DistinctClient, fake: FakeServer) -> None:
    fake.world = World.sample(touchpoints=1, scans=30, users=4)
    fake.fail(query={"offset": "20"}, status=401)
    with pytest.raises(errors.AuthenticationError) as caught:
        await collected(client, page_size=10)
    assert caught.value.result is not None
    assert 0 == caught.value.result.rows


async def test_left_early_it_asks_for_nothing_more(client: DistinctClient, fake: FakeServer) -> None:
    fake.latency = 0.005
    async with aclosing(etl.batches(client, "exp-1", page_size=2)) as batches:
        task = asyncio.create_task(anext(batches))
        while walks(fake) < 10:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    asked_for = len(fake.requests)
    await asyncio.sleep(0.05)
    assert asked_for == len(fake.requests)
    assert 3 == (await client.metrics.experience("exp-1")).total_touchpoints


async def test_an_empty_experience_gives_no_batch_and_asks_for_no_list(
    client: DistinctClient, fake: FakeServer
) -> None:
    fake.world = World()
    fake.world.add_touchpoint("tp-1")
    assert [] == await collected(client, visits_type=None)
    assert 1 == len(fake.requests)


async def test_progress_is_reported_after_every_page(client: DistinctClient, fake: FakeServer, world: World) -> None:
    reports: list[etl.Progress] = []
    fake.fail(query={"touchpointId": "tp-1", "offset": "20"}, status=503, times=2)
    await collected(client, page_size=20, on_progress=reports.append)
    last, rows = reports[-1], len(rows_of(world))
    assert (rows, rows, walks(fake), 2) == (last.rows, last.expected, last.requests, last.retries)
    assert sorted(each.rows for each in reports) == [each.rows for each in reports]
    assert walks(fake) - 2 == len(reports)
    assert reports[-1].elapsed > 0


async def test_what_progress_raises_ends_the_job_and_is_raised_as_it_is(client: DistinctClient) -> None:
    def stop(_: etl.Progress) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        await collected(client, page_size=20, on_progress=stop)


async def test_what_cannot_be_meant_is_refused_at_once(client: DistinctClient, fake: FakeServer) -> None:
    wrong: list[dict[str, Any]] = [{"page_size": 0}, {"prefetch": 0}, {"visits_type": "total"}]
    for options in wrong:
        with pytest.raises(errors.InvalidRequestError):
            etl.batches(client, "exp-1", **options)
    with pytest.raises(errors.InvalidRequestError):
        etl.batches(client, "")
    assert [] == fake.requests


async def test_a_job_is_with_job_retries_unless_its_client_has_a_policy_of_its_own(fake: FakeServer) -> None:
    assert (8, 30.0) == (JOB_RETRY.attempts, JOB_RETRY.cap)
    own = RetryPolicy(attempts=2)
    async with DistinctClient(fake.api_key, base_url=fake.url) as client:
        assert JOB_RETRY == with_job_retries(client)._engine.options.retry
        assert own == with_job_retries(client.with_options(retry=own))._engine.options.retry
        assert RetryPolicy() == client._engine.options.retry


async def test_a_list_may_grow_while_it_is_walked(client: DistinctClient, world: World) -> None:
    def grow(progress: etl.Progress) -> None:
        if progress.rows < 100:
            world.add_scan("tp-1", "user-1", world.scans("tp-1")[-1].at + timedelta(seconds=1))

    batches = await collected(client, page_size=10, prefetch=2, on_progress=grow)
    assert rows_of(world) == rows_in(table_of(batches))


async def test_the_argument_has_the_name_it_had_in_0_1_0(client: DistinctClient, world: World) -> None:
    batches = [batch async for batch in etl.batches(client, experience_id="exp-1")]
    assert rows_of(world) == sorted(rows_in(pa.Table.from_batches(batches)))
