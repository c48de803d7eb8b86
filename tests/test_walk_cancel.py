"""Cancellation thrown into a walk at each suspension: clean every time, the client usable, the checkpoint true."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from typing import Any

import pytest

from distinct_async import Checkpoint, DistinctClient, RetryPolicy, Run, Walk
from distinct_async.core import drain
from distinct_async.errors import DistinctError, ServerError
from distinct_async.models import Visit
from distinct_async.testing import FakeServer, Fault, World
from tests.rig import connections_out, queue, tasks_left

COUNT = 43
SIZE = 10

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def world() -> World:
    return queue(COUNT)


@pytest.fixture
async def fake(world: World) -> AsyncIterator[FakeServer]:
    """Pages ahead come one after the other, so that the consumer waits for each."""
    async with FakeServer(world) as fake:
        for offset in (20, 30, 40):
            fake.fail(query={"offset": str(offset), "pageSize": "10"}, delay=offset / 10_000)
        yield fake


@pytest.fixture
async def client(fake: FakeServer) -> AsyncIterator[DistinctClient]:
    async with DistinctClient(**fake.settings, retry=RetryPolicy(attempts=2, base=0, cap=0)) as client:
        await client.metrics.experience("exp-1")  # so that the suspensions of each round are the same
        yield client


class Driven:
    """A coroutine whose task is cancelled at its k-th suspension, counted from 1 (and at some after it)."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: set[int]) -> None:
        self.coroutine, self.at, self.suspensions = coroutine, at, 0

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        step, value = self.coroutine.send, None
        while True:
            try:
                waits_for = step(value)
            except StopIteration as done:
                return done.value
            self.suspensions += 1
            if self.suspensions in self.at:
                task.cancel()
            step, value = self.coroutine.send, None
            try:
                yield waits_for
            except BaseException as thrown:  # noqa: BLE001 - it is the coroutine's to handle
                step, value = self.coroutine.throw, thrown


async def drive(coroutine: Coroutine[Any, Any, Any], at: set[int]) -> tuple[int, BaseException | None]:
    """How many suspensions there were, and how it ended."""
    driven = Driven(coroutine, at)

    async def main() -> None:
        await driven

    task = asyncio.create_task(main())
    await asyncio.wait([task])
    return driven.suspensions, asyncio.CancelledError() if task.cancelled() else task.exception()


def assert_nothing_out(client: DistinctClient) -> None:
    """No task is left, every slot is free, and no connection is out."""
    assert [] == tasks_left()
    assert 0 == connections_out(client)
    state = client._engine.core.state()
    assert 0 == state.calls
    assert client._engine.core.settings.max_concurrency == state.gates["distinct"].slots._value


Consume = Callable[[Run[Visit], list[Visit]], Coroutine[Any, Any, None]]


async def by_rows(run: Run[Visit], rows: list[Visit]) -> None:
    async with run:
        async for row in run:
            rows.append(row)  # noqa: PERF401 - those before the end are wanted too


async def by_pages(run: Run[Visit], rows: list[Visit]) -> None:
    async with run:
        async for page in run.pages():
            rows.extend(page)


async def with_pauses(run: Run[Visit], rows: list[Visit]) -> None:
    """A consumer that waits itself, with pages in flight behind its back."""
    async with run:
        async for row in run:
            rows.append(row)
            if len(rows) % 7 == 0:
                await asyncio.sleep(0.001)


every_consumer = pytest.mark.parametrize(
    "consume", [by_rows, by_pages, with_pauses], ids=lambda consume: consume.__name__
)


def visits(world: World) -> list[Visit]:
    return [Visit(scan.user_id, scan.at) for scan in world.scans("tp-1")]


async def assert_clean(client: DistinctClient, world: World, run: Run[Visit], rows: list[Visit], before: int) -> None:
    """After a cancellation: nothing is out, the rows are a prefix, and the walk goes on behind it."""
    assert_nothing_out(client)
    assert visits(world)[before : before + len(rows)] == rows
    if rows or before:
        assert run.checkpoint is not None
        assert before + len(rows) == run.checkpoint.position
        rest = client.metrics.total_visits("tp-1", page_size=50).resume(run.checkpoint)
        assert visits(world)[before + len(rows) :] == await rest.collect()
    else:
        assert run.checkpoint is None or run.checkpoint.position == 0
        assert visits(world)[:1] == await client.metrics.total_visits("tp-1", limit=1).collect()
    assert len(rows) == run.report.rows


@every_consumer
@pytest.mark.parametrize("prefetch", [1, 4])
@pytest.mark.parametrize("again", [False, True], ids=["once", "and again while it cleans up"])
async def test_a_walk_is_cancelled_cleanly_at_every_suspension(
    consume: Consume,
    prefetch: int,
    again: bool,  # noqa: FBT001
    client: DistinctClient,
    world: World,
) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    walk = client.metrics.total_visits("tp-1", page_size=SIZE, prefetch=prefetch)
    lengths, cut = set(), 0
    for at in range(1, 1000):
        rows: list[Visit] = []
        run = walk.run()
        suspensions, ended = await drive(consume(run, rows), {at, at + 1} if again else {at})
        await assert_clean(client, world, run, rows, 0)
        if ended is None:
            assert at > suspensions
            assert visits(world) == rows
            break
        assert isinstance(ended, asyncio.CancelledError)
        lengths.add(len(rows))
        cut += 1

    assert cut >= 3  # else there were nothing to see; pages that come together are one suspension
    assert len(lengths) >= 3
    gc.collect()
    assert [] == complaints


@pytest.mark.parametrize("prefetch", [1, 4])
async def test_a_resumed_walk_is_cancelled_cleanly_at_every_suspension(
    prefetch: int, client: DistinctClient, world: World
) -> None:
    first = (await client.metrics.total_visits("tp-1", page_size=15)).checkpoint
    walk = client.metrics.total_visits("tp-1", page_size=SIZE, prefetch=prefetch).resume(first)
    for at in range(1, 1000):
        rows: list[Visit] = []
        run = walk.run()
        _, ended = await drive(by_rows(run, rows), {at})
        await assert_clean(client, world, run, rows, 15)
        if ended is None:
            return


@pytest.mark.parametrize("prefetch", [1, 4])
async def test_a_walk_that_fails_is_cancelled_cleanly_at_every_suspension(
    prefetch: int, client: DistinctClient, world: World, fake: FakeServer
) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    walk = client.metrics.total_visits("tp-1", page_size=SIZE, prefetch=prefetch)
    for at in range(1, 1000):
        rows: list[Visit] = []
        run = walk.run()
        fake.faults = [Fault(query={"offset": "20"}, status=500)]
        _, ended = await drive(by_rows(run, rows), {at})
        fake.faults = []
        await assert_clean(client, world, run, rows, 0)
        if isinstance(ended, DistinctError):
            assert isinstance(ended, ServerError)
            assert ended.checkpoint == run.checkpoint
            assert visits(world)[:20] == rows
            break

    gc.collect()
    assert [] == complaints


SHORT_FORMS: dict[str, Callable[[Walk[Visit]], Awaitable[object]]] = {}


def short_form(form: Callable[[Walk[Visit]], Awaitable[object]]) -> Callable[[Walk[Visit]], Awaitable[object]]:
    SHORT_FORMS[form.__name__] = form
    return form


@short_form
async def awaited(walk: Walk[Visit]) -> object:
    return await walk


@short_form
async def collected(walk: Walk[Visit]) -> object:
    return await walk.collect()


@short_form
async def iterated(walk: Walk[Visit]) -> object:
    return [row async for row in walk]


@short_form
async def iterated_by_pages(walk: Walk[Visit]) -> object:
    return [page async for page in walk.pages()]


@pytest.mark.parametrize("form", SHORT_FORMS)
@pytest.mark.parametrize("prefetch", [1, 4])
async def test_the_short_forms_too_are_cancelled_cleanly_at_every_suspension(
    form: str, prefetch: int, client: DistinctClient
) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    walk = client.metrics.total_visits("tp-1", page_size=SIZE, prefetch=prefetch)

    async def consume() -> None:
        await SHORT_FORMS[form](walk)

    for at in range(1, 1000):
        _, ended = await drive(consume(), {at})
        assert_nothing_out(client)
        if ended is None:
            break
        assert isinstance(ended, asyncio.CancelledError)

    assert at > (1 if form == "awaited" else 3)
    gc.collect()
    assert [] == complaints


@every_consumer
async def test_a_walk_is_cancelled_cleanly_after_any_number_of_turns_of_the_loop(
    consume: Consume, client: DistinctClient, world: World
) -> None:
    """From outside, wherever the pages in flight may be; the suspensions above are the consumer's own."""
    walk = client.metrics.total_visits("tp-1", page_size=SIZE, prefetch=4)
    lengths = set()
    for turns in (*range(0, 40, 2), *range(40, 2000, 40)):
        rows: list[Visit] = []
        run = walk.run()
        task = asyncio.create_task(consume(run, rows))
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.done():
            break
        task.cancel()
        await asyncio.wait([task])
        await assert_clean(client, world, run, rows, 0)
        lengths.add(len(rows))

    assert len(lengths) >= 2


async def test_the_callers_own_timeout_is_the_callers(client: DistinctClient, world: World, fake: FakeServer) -> None:
    fake.faults = [Fault(query={"offset": "20"}, wire="hang")]
    rows: list[Visit] = []
    run = client.metrics.total_visits("tp-1", page_size=SIZE).run()

    with pytest.raises(TimeoutError) as caught:  # noqa: PT012
        async with asyncio.timeout(None) as limit, run:
            async for row in run:
                rows.append(row)
                if len(rows) == 20:
                    limit.reschedule(asyncio.get_running_loop().time() + 0.02)

    assert not isinstance(caught.value, DistinctError)
    fake.faults.clear()
    assert 20 == len(rows)
    await assert_clean(client, world, run, rows, 0)


async def test_a_checkpoint_survives_the_cancelled_task(client: DistinctClient, fake: FakeServer) -> None:
    fake.faults = [Fault(query={"offset": "20"}, wire="hang")]
    saved: list[Checkpoint | None] = []

    async def consume() -> None:
        async with client.metrics.total_visits("tp-1", page_size=SIZE).run() as run:
            try:
                async for _ in run:
                    pass
            finally:
                saved.append(run.checkpoint)

    task = asyncio.create_task(consume())
    while fake.in_flight != 1 or len(fake.requests) < 6:
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait([task])

    (checkpoint,) = saved
    assert checkpoint is not None
    assert 20 == checkpoint.position


@pytest.mark.parametrize("cancels", [0, 1, 3])
async def test_what_is_drained_has_ended_however_often_the_drain_itself_is_cancelled(cancels: int) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    ended: list[int] = []

    async def slow_to_go(number: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            for _ in range(10):
                await asyncio.sleep(0)
            ended.append(number)
            if number == 2:
                raise RuntimeError("not even cancelled cleanly")

    tasks = [asyncio.create_task(slow_to_go(number)) for number in range(3)]
    await asyncio.sleep(0)
    draining = asyncio.create_task(drain(tasks))
    for _ in range(cancels):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        draining.cancel()
    await asyncio.wait([draining])

    assert [0, 1, 2] == sorted(ended)
    assert [True, True, False] == [task.cancelled() for task in tasks]
    assert draining.cancelled() is (cancels > 0)
    tasks.clear()
    gc.collect()
    assert [] == complaints


async def test_an_error_that_nobody_came_to_see_is_no_complaint_of_asyncio(
    client: DistinctClient, fake: FakeServer
) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    fake.faults = [Fault(query={"offset": "30"}, status=403)]
    async with client.metrics.total_visits("tp-1", page_size=SIZE).run() as run:
        async for page in run.pages():
            if page.offset:
                while len(fake.requests) < 6 or tasks_left():  # until all pages ahead are there
                    await asyncio.sleep(0.001)
                break

    gc.collect()
    await asyncio.sleep(0)
    assert [] == complaints
