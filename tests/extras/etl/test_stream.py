"""`etl.stream`: what other libraries read, in a thread of theirs; its end, however it comes."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC
from functools import partial
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from distinct_async import DistinctClient, errors, etl
from distinct_async.testing import FakeServer, World

from .rows import COLUMNS, KEYS, rows_in, rows_of

SOON = 5.0  # seconds, against waiting forever


def by_pyarrow(visits: etl.Stream) -> list[Any]:
    return rows_in(pa.table(visits))


def by_polars(visits: etl.Stream) -> list[Any]:
    return pl.DataFrame(visits).select(KEYS).rows()


def by_duckdb(visits: etl.Stream) -> list[Any]:
    with duckdb.connect() as db:
        db.register("visits", visits)
        rows = db.sql("SELECT * FROM visits").select(*KEYS).fetchall()
    return [(*row[:4], row[4].astimezone(UTC)) for row in rows]


@pytest.mark.parametrize("read", [by_pyarrow, by_polars, by_duckdb])
async def test_pyarrow_polars_and_duckdb_read_it_and_each_reading_walks_anew(
    client: DistinctClient, world: World, read: Callable[[etl.Stream], list[Any]]
) -> None:
    async with asyncio.timeout(SOON), etl.stream(client, "exp-1", page_size=20) as visits:
        for _ in range(2):
            assert rows_of(world) == sorted(await asyncio.to_thread(read, visits))
        world.grow(7)
        assert rows_of(world) == sorted(await asyncio.to_thread(read, visits))


async def test_two_readers_at_once_read_all_rows_each(client: DistinctClient, world: World) -> None:
    async with asyncio.timeout(SOON), etl.stream(client, "exp-1", page_size=20) as visits:
        read = await asyncio.gather(*(asyncio.to_thread(by_pyarrow, visits) for _ in range(2)))
    assert [rows_of(world)] * 2 == [sorted(rows) for rows in read]


async def test_its_schema_is_reported_without_a_request(client: DistinctClient, fake: FakeServer) -> None:
    async with etl.stream(client, "exp-1") as visits:
        assert list(COLUMNS) == pa.schema(visits).names
    assert [] == fake.requests


async def test_a_stream_of_no_rows_has_its_columns(client: DistinctClient, fake: FakeServer) -> None:
    fake.world = World()
    fake.world.add_experience("exp-1")
    async with etl.stream(client, "exp-1") as visits:
        assert (0, len(COLUMNS)) == (await asyncio.to_thread(pa.table, visits)).shape


@pytest.mark.parametrize("read", [by_pyarrow, by_polars, by_duckdb])
async def test_the_error_of_a_walk_comes_out_whatever_the_reader_makes_of_it(
    client: DistinctClient, fake: FakeServer, read: Callable[[etl.Stream], list[Any]]
) -> None:
    fake.fail(query={"touchpointId": "tp-2", "offset": "40"}, status=400)
    with pytest.raises(errors.BadRequestError) as caught:
        async with asyncio.timeout(SOON), etl.stream(client, "exp-1", page_size=20) as visits:
            await asyncio.to_thread(read, visits)
    assert caught.value.result is not None
    assert ["tp-2"] == [failure.work.touchpoint.id for failure in caught.value.result.failures]


async def test_a_reader_that_swallows_the_error_does_not_make_it_go_away(
    client: DistinctClient, fake: FakeServer
) -> None:
    fake.fail(query={"metricsType": "EXPERIENCE"}, status=404)

    def read(visits: etl.Stream) -> None:
        with suppress(pa.ArrowException):
            pa.table(visits)

    with pytest.raises(errors.NotFoundError):
        async with asyncio.timeout(SOON), etl.stream(client, "exp-1") as visits:
            await asyncio.to_thread(read, visits)


async def test_reading_in_the_thread_of_the_loop_is_reported_and_does_not_hang(
    client: DistinctClient, fake: FakeServer
) -> None:
    with pytest.raises(errors.ClientStateError, match=r"asyncio\.to_thread"):
        async with asyncio.timeout(SOON), etl.stream(client, "exp-1") as visits:
            pa.table(visits)
    assert [] == fake.requests


async def test_reading_outside_of_its_async_with_is_reported(client: DistinctClient, fake: FakeServer) -> None:
    visits = etl.stream(client, "exp-1")
    for _ in range(2):
        with pytest.raises(Exception, match="read it inside its `async with`"):
            await asyncio.to_thread(pa.table, visits)
        async with visits:
            pass
    assert [] == fake.requests


async def test_left_while_a_reader_waits_the_reader_ends_in_an_error_and_nothing_is_left(
    client: DistinctClient, fake: FakeServer
) -> None:
    fake.fail(query={"touchpointId": "tp-1", "offset": "20"}, wire="hang")
    async with asyncio.timeout(SOON):
        async with etl.stream(client, "exp-1", page_size=20) as visits:
            reading = asyncio.create_task(asyncio.to_thread(pa.table, visits))
            while fake.in_flight != 1:
                await asyncio.sleep(0.01)
        with pytest.raises(Exception, match="before its end"):
            await reading
    assert 3 == (await client.metrics.experience("exp-1")).total_touchpoints


async def test_left_between_two_batches_the_next_one_is_an_error_and_never_the_end(
    client: DistinctClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etl, "stream", partial(etl.stream, batch_rows=50))
    began, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def read(visits: etl.Stream) -> int:
        reader = pa.RecordBatchReader.from_stream(visits)
        rows = len(reader.read_next_batch())
        loop.call_soon_threadsafe(began.set)
        assert go_on.wait(SOON)
        return rows + sum(map(len, reader))

    async with asyncio.timeout(SOON):
        async with etl.stream(client, "exp-1", page_size=20) as visits:
            reading = asyncio.create_task(asyncio.to_thread(read, visits))
            await began.wait()
        go_on.set()
        with pytest.raises(Exception, match="before its end"):
            await reading


async def test_a_reader_whose_next_batch_is_ordered_just_when_the_stream_is_left_gets_an_error(
    client: DistinctClient,
) -> None:
    def order(visits: etl.Stream) -> "list[pa.RecordBatch]":
        return list(visits._iterate())

    async with asyncio.timeout(SOON):
        async with etl.stream(client, "exp-1", page_size=20) as visits:
            reading = asyncio.get_running_loop().run_in_executor(None, order, visits)
            while not visits._generators:  # the thread has ordered its first batch, and this loop does not turn
                threading.Event().wait(0.01)
            threading.Event().wait(0.05)
        with pytest.raises(errors.ClientStateError, match="before its end"):
            await reading


async def test_cancelled_or_timed_out_it_ends_its_walks_and_its_reader(
    client: DistinctClient, fake: FakeServer
) -> None:
    fake.fail(query={"touchpointId": "tp-1", "offset": "20"}, wire="hang")
    ended = threading.Event()

    def read(visits: etl.Stream) -> None:
        try:
            pa.table(visits)
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2), etl.stream(client, "exp-1", page_size=20) as visits:
            await asyncio.to_thread(read, visits)
    assert await asyncio.to_thread(ended.wait, SOON)
    assert 3 == (await client.metrics.experience("exp-1")).total_touchpoints


async def test_what_cannot_be_meant_is_refused_at_once(client: DistinctClient) -> None:
    with pytest.raises(errors.InvalidRequestError):
        etl.stream(client, "exp-1", page_size=0)
