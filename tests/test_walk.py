"""Walks over real sockets, against the fake vendors: the forms, the window, checkpoints, and every way out."""

import asyncio
import contextlib
import gc
import json
import pickle
import re
import warnings
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import msgspec
import pytest

from distinct_async import Checkpoint, DistinctClient, Page, Report, RetryPolicy, Run, Walk, models
from distinct_async.errors import (
    CheckpointError,
    ClientStateError,
    DecodeError,
    DistinctError,
    DriftError,
    DriftWarning,
    InvalidRequestError,
    NotFoundError,
    PageLoopError,
    PaginationError,
    ServerError,
)
from distinct_async.models import Visit
from distinct_async.testing import FakeServer, RequestRecord, World
from tests.rig import tasks_left

COUNT = 95
SIZE = 10
PAGES = 10
OPENING = datetime(2026, 6, 1, tzinfo=UTC)

every_prefetch = pytest.mark.parametrize("prefetch", [1, 4, 16])


@pytest.fixture
def world() -> World:
    """One touchpoint, a scan each second, every fifth by a newcomer."""
    world = World()
    fill(world, COUNT)
    return world


def fill(world: World, count: int) -> None:
    for number in range(count):
        world.add_scan("tp-1", f"user-{number if number % 5 == 0 else number % 7}", OPENING + timedelta(seconds=number))


OPTIONS: dict[str, Any] = {"retry": RetryPolicy(attempts=3, base=0, cap=0)}


@pytest.fixture
def client_options() -> dict[str, Any]:
    """Three attempts without waiting."""
    return OPTIONS


def connected(fake: FakeServer, **options: Any) -> DistinctClient:
    return DistinctClient(**fake.settings, **OPTIONS | options)


def visits(world: World) -> list[Visit]:
    """What a walk over everything gives."""
    return [Visit(scan.user_id, scan.at) for scan in world.scans("tp-1")]


def asked(fake: FakeServer) -> list[int]:
    """The offsets in the journal, in the order of arrival."""
    return [int(request.query.get("offset", 0)) for request in fake.requests]


def walking(client: DistinctClient, **settings: Any) -> Walk[Visit]:
    return client.metrics.total_visits("tp-1", **{"page_size": SIZE, **settings})


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def hang(fake: FakeServer, *, from_offset: int, to: int = 1000) -> None:
    """Let these pages never come."""
    for offset in range(from_offset, to, SIZE):
        fake.fail(query={"offset": str(offset)}, wire="hang")


async def given(walk: Walk[Visit]) -> tuple[list[Visit], DistinctError | None, Run[Visit]]:
    """All rows that a walk gives, and the error that ended it."""
    rows: list[Visit] = []
    async with walk.run() as run:
        try:
            async for row in run:
                rows.append(row)  # noqa: PERF401 - those before an error are wanted too
        except DistinctError as error:
            return rows, error, run
    return rows, None, run


# --- the forms --------------------------------------------------------------------------------------------------------


async def by_rows(walk: Walk[Any]) -> list[Any]:
    return [row async for row in walk]


async def by_pages(walk: Walk[Any]) -> list[Any]:
    return [row async for page in walk.pages() for row in page]


async def collected(walk: Walk[Any]) -> list[Any]:
    return await walk.collect()


async def by_rows_of_a_run(walk: Walk[Any]) -> list[Any]:
    async with walk.run() as run:
        return [row async for row in run]


async def by_pages_of_a_run(walk: Walk[Any]) -> list[Any]:
    async with walk.run() as run:
        return [row async for page in run.pages() for row in page.items]


FORMS = [by_rows, by_pages, collected, by_rows_of_a_run, by_pages_of_a_run]
every_form = pytest.mark.parametrize("form", FORMS, ids=[form.__name__ for form in FORMS])


@every_form
@pytest.mark.parametrize("page_size", [None, 7, COUNT - 1, COUNT, 1000])
async def test_every_form_gives_every_row_once_and_in_order(
    form: Callable[[Walk[Any]], Awaitable[list[Any]]], page_size: int | None, client: DistinctClient, world: World
) -> None:
    assert visits(world) == await form(walking(client, page_size=page_size))


@every_form
async def test_unique_visits_are_the_first_of_each_user(
    form: Callable[[Walk[Any]], Awaitable[list[Any]]], client: DistinctClient, world: World, fake: FakeServer
) -> None:
    expected = [Visit(scan.user_id, scan.at) for scan in world.unique_scans("tp-1")]

    assert expected == await form(client.metrics.unique_visits("tp-1", page_size=4))
    assert {"UNIQUE"} == {request.query["visitsType"] for request in fake.requests}


@every_form
@pytest.mark.parametrize("page_size", [None, 7, 1000])
async def test_impressions_are_walked_one_page_after_the_other(
    form: Callable[[Walk[Any]], Awaitable[list[Any]]],
    page_size: int | None,
    client: DistinctClient,
    world: World,
    fake: FakeServer,
) -> None:
    fill(world, 30)
    fake.latency = 0.001

    rows = await form(client.impressions.list(program_id="prog_exp-1", page_size=page_size))

    assert list(world.impressions) == [row.id for row in rows]
    assert 1 == fake.max_in_flight
    assert asked(fake) == sorted(asked(fake))


async def test_making_a_walk_sends_nothing_and_it_is_iterated_as_often_as_you_like(
    client: DistinctClient, world: World, fake: FakeServer
) -> None:
    walk = walking(client)
    assert [] == fake.requests

    assert visits(world) == await walk.collect() == await walk.collect()
    assert visits(world)[:SIZE] == list(await walk)


async def test_awaiting_a_walk_is_one_request_for_its_first_page(
    client: DistinctClient, world: World, fake: FakeServer
) -> None:
    page = await walking(client, prefetch=16)

    assert tuple(visits(world)[:SIZE]) == page.items
    assert (0, COUNT, SIZE) == (page.offset, page.total, len(page))
    assert SIZE == page.checkpoint.position
    await asyncio.sleep(0.03)
    assert [0] == asked(fake)
    assert [] == tasks_left()


async def test_pages_tell_where_they_are(client: DistinctClient, world: World) -> None:
    pages = [page async for page in walking(client, offset=3).pages()]

    assert list(range(3, COUNT, SIZE)) == [page.offset for page in pages]
    assert {COUNT} == {page.total for page in pages}
    assert [*range(13, COUNT, SIZE), COUNT] == [page.checkpoint.position for page in pages]
    assert visits(world)[3:] == [row for page in pages for row in page]


@every_form
async def test_an_empty_list_is_no_row(
    form: Callable[[Walk[Any]], Awaitable[list[Any]]], client: DistinctClient, world: World
) -> None:
    world.add_touchpoint("tp-empty")

    assert [] == await form(client.metrics.total_visits("tp-empty"))
    assert 0 == len(await client.metrics.total_visits("tp-empty"))
    assert 1 == len([page async for page in client.metrics.total_visits("tp-empty").pages()])


@pytest.mark.parametrize(
    ("form", "prefetch", "limit"),
    [
        *((form, 4, limit) for form in FORMS for limit in (0, 35)),
        *((by_rows, prefetch, limit) for prefetch in (1, 16) for limit in (1, SIZE, SIZE + 1, COUNT, 1000)),
    ],
)
async def test_the_limit_is_rows_in_all_and_nothing_is_asked_beyond(
    form: Callable[[Walk[Any]], Awaitable[list[Any]]],
    limit: int,
    prefetch: int,
    client: DistinctClient,
    world: World,
    fake: FakeServer,
) -> None:
    rows = await form(walking(client, limit=limit, prefetch=prefetch))

    assert visits(world)[:limit] == rows
    assert list(range(0, min(limit, COUNT), SIZE)) == sorted(asked(fake))


async def test_a_limit_of_nothing_gives_one_empty_page(client: DistinctClient, fake: FakeServer) -> None:
    page = await walking(client, limit=0, offset=7)

    assert ((), 7) == (page.items, page.offset)
    assert 7 == page.checkpoint.position
    assert [] == fake.requests


BAD: list[dict[str, Any]] = [
    *({"page_size": wrong} for wrong in (0, -1, True, 1.0, "5")),
    *({"offset": wrong} for wrong in (-1, True, None, "0")),
    *({"limit": wrong} for wrong in (-1, False, 1.5)),
    *({"prefetch": wrong} for wrong in (0, -1, True, None)),
    *({"on_drift": wrong} for wrong in ("ignore", None, "")),
]


@pytest.mark.parametrize("settings", BAD, ids=str)
async def test_what_cannot_be_meant_is_refused_at_once(settings: dict[str, Any], client: DistinctClient) -> None:
    with pytest.raises(InvalidRequestError, match=next(iter(settings))):
        walking(client, **settings)


async def test_a_key_that_is_missing_is_reported_at_the_first_page(fake: FakeServer) -> None:
    async with DistinctClient(base_url=fake.url) as client:
        walk = walking(client)
        with pytest.raises(DistinctError, match="DISTINCT_API_KEY") as caught:
            await walk.collect()
    assert caught.value.checkpoint is None


def test_a_walk_shows_its_question_and_no_key() -> None:
    shown = repr(DistinctClient("secret-key").metrics.total_visits("tp-1", page_size=5))

    assert "touchpoint_id='tp-1'" in shown
    assert "page_size=5" in shown
    assert "secret-key" not in shown


def test_a_walk_says_where_it_begins() -> None:
    walks = DistinctClient("secret-key").metrics
    question = "<Walk metrics.total_visits(touchpoint_id='tp-1')"
    resumed = walks.total_visits("tp-1", last=3).resume(
        Checkpoint.from_json(
            '{"version":1,"endpoint":"metrics.total_visits","ids":{"touchpoint_id":"tp-1","experience_id":null},'
            '"position":7,"last":null}'
        )
    )

    assert f"{question}, from row 5, limit=9, prefetch=4>" == repr(walks.total_visits("tp-1", offset=5, limit=9))
    assert f"{question}, the last 20 rows, prefetch=4>" == repr(walks.total_visits("tp-1", last=20))
    assert f"{question}, from row 7, prefetch=4>" == repr(resumed)


async def test_a_run_says_how_far_it_has_come(client: DistinctClient) -> None:
    shown = list[str]()
    async with walking(client, last=12).run() as run:
        shown.append(repr(run))
        async for _ in run:
            shown.append(repr(run))

    question = "<Run metrics.total_visits(touchpoint_id='tp-1')"
    assert f"{question}, before the last 12 rows>" == shown[0]
    assert f"{question}, at row 84 of 95>" == shown[1]
    assert f"{question}, at row 95 of 95>" == shown[-1]
    assert f"{question}, at row 0>" == repr(walking(client).run())


# --- the last rows ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "last", "more"),
    [
        ([0, 94], 1, {}),
        ([0, 70, 80, 90], 25, {}),
        ([0, 70, 80], 25, {"limit": 12}),
        ([0, 0], 1000, {"page_size": 100}),
        ([], 5, {"limit": 0}),
    ],
    ids=str,
)
async def test_the_last_rows_cost_one_request_more_than_their_pages(
    expected: list[int], last: int, more: dict[str, Any], client: DistinctClient, fake: FakeServer, world: World
) -> None:
    rows = await walking(client, last=last, **more).collect()

    assert visits(world)[-last:][: more.get("limit")] == rows
    assert expected == sorted(asked(fake))
    if fake.requests:
        assert "1" == fake.requests[0].query["pageSize"]


@pytest.mark.parametrize("past_end", ["empty", "400", "404"])
@pytest.mark.parametrize("count", [0, 1, 2])
async def test_the_last_rows_of_a_short_list_are_all_of_it(count: int, past_end: Any) -> None:
    world = World()
    world.add_touchpoint("tp-1")
    fill(world, count)
    async with FakeServer(world, past_end=past_end) as fake, connected(fake) as client:
        walk = client.metrics.total_visits("tp-1", last=20)
        first = await walk
        assert visits(world) == list(first) == await walk.collect()


async def test_a_total_that_is_only_a_pages_own_count_ends_a_walk_over_the_last_rows(world: World) -> None:
    async with FakeServer(world, totals="page") as fake, connected(fake) as client:
        with pytest.raises(PaginationError, match="states 1 rows but has more") as caught:
            await walking(client, last=20).collect()
    assert caught.value.checkpoint is None


async def test_a_list_that_shrinks_after_its_total_was_asked_for_is_a_drift(
    client: DistinctClient, world: World
) -> None:
    watched = client.with_options(on_attempt=lambda _: world.remove("tp-1"))  # before the next request is sent
    with pytest.raises(DriftError, match="shrank from 95 to 94"):
        await walking(watched, last=20).collect()


async def test_a_walk_over_the_last_rows_resumes_behind_the_row_of_its_checkpoint(
    client: DistinctClient, world: World
) -> None:
    walk = walking(client, last=30)
    async with walk.run() as run:
        async for _ in run:
            if run.report.rows == 7:
                break

    rest = await walk.resume(Checkpoint.from_json(run.checkpoint_json)).collect()
    assert visits(world)[-23:] == rest


@pytest.mark.parametrize(
    ("message", "settings"),
    [
        ("last must be at least 1, got 0", {"last": 0}),
        ("last must be at least 1, got -3", {"last": -3}),
        ("last must be an int, got str", {"last": "20"}),
        ("last must be an int, got bool", {"last": True}),
        ("last=5 and offset=3 cannot be combined: pass one of them", {"last": 5, "offset": 3}),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["total_visits", "unique_visits"])
def test_a_last_that_cannot_be_meant_is_refused_at_once(kind: str, message: str, settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        getattr(DistinctClient("key").metrics, kind)("tp-1", **settings)
    assert message == caught.value.message


# --- a checkpoint as text, always -------------------------------------------------------------------------------------


async def test_the_checkpoint_of_a_run_is_a_text_at_any_moment(client: DistinctClient, world: World) -> None:
    async with walking(client, offset=5).run() as run:
        texts = [run.checkpoint_json]
        texts += [run.checkpoint_json async for _ in run]
    positions = list(map(Checkpoint.from_json, texts))

    assert [*range(5, 96)] == [each.position for each in positions]
    assert run.checkpoint == positions[-1]
    for number in (0, 1, 90):
        assert visits(world)[5 + number :] == await walking(client).resume(positions[number]).collect()


async def test_only_a_run_over_the_last_rows_has_no_position_before_it_has_begun(client: DistinctClient) -> None:
    with pytest.raises(ClientStateError, match="it is unknown where the last rows begin"):
        _ = walking(client, last=5).run().checkpoint_json


# --- in a notebook ----------------------------------------------------------------------------------------------------


async def test_a_notebook_shows_tables_without_people_and_with_every_text_escaped(client: DistinctClient) -> None:
    pages = ""
    async with walking(client).run() as run:
        async for page in run.pages():
            pages += page._repr_html_()
    report = run.report._repr_html_()
    touchpoint = models.TouchpointSummary("tp-<1>", "<script>", None, 3, 2)
    metrics = models.ExperienceMetrics(2, (touchpoint,))._repr_html_()

    assert "<caption>Page</caption>" in pages
    assert "<td>5</td><td>90</td><td>95</td>" in pages
    assert "user-" not in pages + report
    assert "<th>rows</th><th>pages</th>" in report
    assert "<td>95</td><td>10</td>" in report
    assert "<caption>1 of 2 touchpoints</caption>" in metrics
    assert "<td>tp-&lt;1&gt;</td><td>&lt;script&gt;</td><td></td><td>3</td><td>2</td>" in metrics


async def test_walks_and_runs_refuse_to_pickle_with_a_hint(client: DistinctClient) -> None:
    for value in (walking(client), walking(client).run()):
        with pytest.raises(TypeError, match="checkpoint"):
            pickle.dumps(value)


# --- the window -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("expected", "prefetch"), [(1, 1), (2, 2), (4, 4), (8, 16)])
async def test_exactly_prefetch_pages_are_in_flight_where_the_consumer_is_quick(
    expected: int, prefetch: int, client: DistinctClient, fake: FakeServer
) -> None:
    hang(fake, from_offset=2 * SIZE)
    async with walking(client, prefetch=prefetch).run() as run:
        pages = run.pages()
        await anext(pages)
        await anext(pages)
        waiting = asyncio.ensure_future(anext(pages))
        await until(lambda: fake.in_flight == expected)  # of 16 only eight are left in the list
        await asyncio.sleep(0.03)

        assert expected == fake.in_flight == fake.max_in_flight
        assert [0, *range(SIZE, (expected + 2) * SIZE, SIZE)] == sorted(asked(fake))
        waiting.cancel()
        await asyncio.wait([waiting])
    assert [] == tasks_left()
    await until(lambda: fake.in_flight == 0)


async def test_pages_are_handed_out_in_order_however_they_come(
    client: DistinctClient, world: World, fake: FakeServer
) -> None:
    for offset, delay in [(10, 0.06), (20, 0.03), (30, 0.05), (60, 0.02)]:
        fake.fail(query={"offset": str(offset)}, delay=delay)

    assert visits(world) == await walking(client, prefetch=8).collect()


async def test_a_look_at_the_first_page_is_one_request_however_long_it_takes(
    client: DistinctClient, fake: FakeServer
) -> None:
    async with walking(client, prefetch=16).run() as run:
        async for _ in run.pages():
            await asyncio.sleep(0.03)
            break
    async with walking(client, prefetch=16).run() as run:
        async for number, _ in aenumerate(run):
            await asyncio.sleep(0.001)
            if number == SIZE - 1:
                break

    await asyncio.sleep(0.03)
    assert [0, 0] == asked(fake)


async def aenumerate(rows: AsyncIterator[Visit] | Run[Visit]) -> AsyncIterator[tuple[int, Visit]]:
    number = 0
    async for row in rows:
        yield number, row
        number += 1


async def test_with_prefetch_1_a_page_is_asked_only_when_the_consumer_wants_it(
    client: DistinctClient, fake: FakeServer
) -> None:
    async with walking(client, prefetch=1).run() as run:
        async for number, _ in aenumerate(run):
            assert number // SIZE + 1 == len(fake.requests)

    assert 1 == fake.max_in_flight


@pytest.mark.parametrize("prefetch", [2, 4])
async def test_a_slow_consumer_has_prefetch_pages_waiting_beside_the_one_in_its_hands(
    prefetch: int, client: DistinctClient, fake: FakeServer
) -> None:
    async with walking(client, prefetch=prefetch).run() as run:
        held = 0
        async for _ in run.pages():
            held += 1
            expected = 1 if held == 1 else min(PAGES, held + prefetch)
            await until(lambda: expected <= len(fake.requests) and not fake.in_flight)  # noqa: B023
            await asyncio.sleep(0.005)
            assert expected == len(fake.requests)


async def test_a_prefetch_above_max_concurrency_is_cut_to_it(fake: FakeServer, world: World) -> None:
    hang(fake, from_offset=SIZE)
    async with connected(fake, max_concurrency=3) as client, walking(client, prefetch=16).run() as run:
        pages = run.pages()
        await anext(pages)
        waiting = asyncio.ensure_future(anext(pages))
        await until(lambda: fake.in_flight == 3)
        await asyncio.sleep(0.02)
        assert [0, 10, 20, 30] == sorted(asked(fake))
        assert 3 == len(run._window) + 1
        waiting.cancel()
        await asyncio.wait([waiting])
    assert len(world.scans("tp-1")) == COUNT


async def test_two_walks_at_once_do_not_disturb_each_other(client: DistinctClient, world: World) -> None:
    first, second = await asyncio.gather(walking(client).collect(), walking(client, page_size=7).collect())

    assert visits(world) == first == second


async def test_in_the_window_wait_responses_as_msgspec_read_them(client: DistinctClient, world: World) -> None:
    async with walking(client, page_size=10, prefetch=4).run() as run:
        pages = aiter(run.pages())
        await anext(pages)
        await anext(pages)
        await until(lambda: len(run._window) == 4 and all(pending.reply for pending in run._window))

        values: list[Any] = [pending.reply.value for pending in run._window if pending.reply]
        waiting = [row for value in values for row in value.touchpoints.details.items]

    assert [row.user_id for row in visits(world)[20:60]] == [row.user_id for row in waiting]
    assert {True} == {isinstance(row, msgspec.Struct) for row in waiting}
    assert [] == [row for row in waiting if gc.is_tracked(row)]


async def test_of_all_pages_the_rows_of_two_are_alive(client: DistinctClient, fake: FakeServer) -> None:
    """Whatever the length: the page in hand, and the one before for the comparison."""
    walk, pages, most = walking(client, page_size=2, prefetch=4), list[weakref.ref[Page[Visit]]](), 0
    rows = list[weakref.ref[Visit]]()
    async for page in walk.pages():
        pages.append(weakref.ref(page))
        rows += map(weakref.ref, page)
        most = max(most, sum(ref() is not None for ref in rows))
        assert 1 >= sum(ref() is not None for ref in pages[:-2])
        assert len(fake.requests) <= len(pages) + 4
        del page

    assert most <= 2 * 3  # the page in hand, the one before, and the one being read
    assert len(rows) == COUNT


# --- the ways out -----------------------------------------------------------------------------------------------------


@every_prefetch
async def test_a_page_that_fails_for_good_ends_the_walk_after_the_rows_before_it(
    prefetch: int, client: DistinctClient, world: World, fake: FakeServer
) -> None:
    fake.fail(query={"offset": "30"}, status=500)
    hang(fake, from_offset=40)
    async with walking(client, prefetch=prefetch).run() as run:
        rows = []
        with pytest.raises(ServerError) as caught:  # noqa: PT012
            async for row in run:
                rows.append(row)  # noqa: PERF401
        assert [] == tasks_left()
        assert visits(world)[:30] == rows
        assert caught.value.checkpoint == run.checkpoint
        assert 3 == caught.value.attempts

    await until(lambda: fake.in_flight == 0)
    fake.faults.clear()
    assert run.checkpoint is not None
    assert visits(world)[30:] == await walking(client).resume(run.checkpoint).collect()


async def test_the_error_of_a_later_page_waits_for_the_pages_before_it(
    client: DistinctClient, world: World, fake: FakeServer
) -> None:
    fake.fail(query={"offset": "40"}, status=403)
    fake.fail(query={"offset": "20"}, status=404, delay=0.03)

    rows, error, run = await given(walking(client, prefetch=8))

    assert visits(world)[:20] == rows
    assert isinstance(error, NotFoundError)
    assert error.checkpoint == run.checkpoint
    assert [] == tasks_left()


@every_prefetch
async def test_a_page_with_one_bad_row_gives_the_rows_before_the_page(
    prefetch: int, client: DistinctClient, world: World, fake: FakeServer
) -> None:
    def spoil(body: bytes) -> bytes:
        response = json.loads(body)
        response["data"]["touchpoints"]["totalVisitsDetails"]["items"][4]["timestampUTC"] = "2026-13-01T00:00:00Z"
        return json.dumps(response).encode()

    fake.fail(query={"offset": "20"}, body=spoil)

    rows, error, _ = await given(walking(client, prefetch=prefetch))

    assert visits(world)[:20] == rows
    assert isinstance(error, DecodeError)
    assert ("$.data.touchpoints.totalVisitsDetails.items[4].timestampUTC",) == error.paths
    assert error.checkpoint is not None
    assert 20 == error.checkpoint.position


def test_every_error_of_a_walk_pickles_with_its_checkpoint() -> None:
    error = DriftError("moved", checkpoint=Checkpoint(WALK_QUESTION, 7, "0" * 32))

    assert error.checkpoint == pickle.loads(pickle.dumps(error)).checkpoint


WALK_QUESTION = DistinctClient("key").metrics.total_visits("tp-1")._source.question


async def test_a_break_out_of_the_short_form_cancels_what_is_in_flight_within_some_turns_of_the_loop(
    client: DistinctClient, fake: FakeServer
) -> None:
    hang(fake, from_offset=30)
    number = 0
    async for _ in walking(client, prefetch=4):
        number += 1
        if number == 15:
            await until(lambda: fake.in_flight > 0)
            break
    assert tasks_left()  # else there were nothing to see

    for _ in range(20):
        await asyncio.sleep(0)
    assert [] == tasks_left()
    await until(lambda: fake.in_flight == 0)


@pytest.mark.parametrize("as_pages", [False, True])
async def test_a_break_out_of_the_short_form_is_cleaned_up_by_closing_the_client(
    as_pages: bool,  # noqa: FBT001
    fake: FakeServer,
) -> None:
    hang(fake, from_offset=30)
    client = connected(fake)
    number = 0
    async for _ in walking(client, prefetch=4).pages() if as_pages else walking(client, prefetch=4):
        number += 1
        if number == (2 if as_pages else 15):
            await until(lambda: fake.in_flight > 0)
            break
    assert tasks_left()

    await client.close()
    assert [] == tasks_left()


@pytest.mark.parametrize("held", [1, 11])
async def test_nothing_of_a_walk_left_at_once_outlives_its_client(held: int, fake: FakeServer) -> None:
    async with aiohttp.ClientSession() as lent:  # which takes no time to close, since it is not closed
        client, number = connected(fake, session=lent), 0
        async for _ in walking(client, prefetch=4):
            number += 1
            if number == held:
                break

        await client.close()
        assert [] == tasks_left()


class Stop(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("way", ["break", "exception", "return"])
@pytest.mark.parametrize("as_pages", [False, True])
async def test_when_a_run_is_left_nothing_is_in_flight(
    way: str,
    as_pages: bool,  # noqa: FBT001
    client: DistinctClient,
    world: World,
    fake: FakeServer,
) -> None:
    hang(fake, from_offset=30)
    hanging = list(fake.faults)
    run = walking(client, prefetch=4).run()

    async def consume() -> None:
        async with run:
            number = 0
            async for _ in run.pages() if as_pages else run:
                number += 1
                if number == (2 if as_pages else 15):
                    await until(lambda: fake.in_flight > 0)
                    if way == "exception":
                        raise Stop
                    if way == "return":
                        return
                    break

    with contextlib.suppress(Stop):
        await consume()

    assert [] == tasks_left()
    await asyncio.sleep(0)  # nor is anything left to the garbage collector, which would begin it now
    assert [] == tasks_left()
    assert run.checkpoint is not None
    assert (20 if as_pages else 15) == run.checkpoint.position == run.report.rows
    assert not run.report.complete
    await until(lambda: fake.in_flight == 0)
    fake.faults = [fault for fault in fake.faults if fault not in hanging]
    assert visits(world)[run.checkpoint.position :] == await walking(client).resume(run.checkpoint).collect()


async def test_leaving_a_run_twice_or_without_having_begun_is_fine(client: DistinctClient, fake: FakeServer) -> None:
    async with walking(client).run() as run:
        pass
    await run.aclose()
    async with walking(client).run() as other:
        other.pages()

    assert [] == fake.requests
    assert run.checkpoint is None
    assert run.report == Report(0, 0, 0, 0, None, None, 0.0, 0.0, complete=False)


@pytest.mark.parametrize("prefetch", [1, 4])
@pytest.mark.parametrize("as_pages", [False, True])
@pytest.mark.parametrize("offset", [0, 20])
@pytest.mark.parametrize("close", ["close", "aclose"])
async def test_a_run_closed_by_another_task_ends_the_consumer_that_waits_for_a_page(
    close: str,
    offset: int,
    as_pages: bool,  # noqa: FBT001
    prefetch: int,
    client: DistinctClient,
    fake: FakeServer,
) -> None:
    fake.fail(query={"offset": str(offset)} if offset else {}, wire="hang")
    run = walking(client, prefetch=prefetch, page_size=10).run()

    async def consume() -> None:
        async for _ in run.pages() if as_pages else run:
            pass

    consumer = asyncio.create_task(consume())
    await until(lambda: fake.in_flight > 0 and run.report.rows == offset)
    await asyncio.gather(getattr(run, close)(), run.close())

    assert [] == [coro for coro in tasks_left() if coro is not consumer.get_coro()]
    with pytest.raises(ClientStateError, match="closed while its consumer waited") as caught:
        await consumer
    assert offset == (caught.value.checkpoint.position if caught.value.checkpoint else 0) == run.report.rows
    assert not run.report.complete
    assert [] == tasks_left()


async def test_a_consumer_that_is_cancelled_while_its_run_is_closed_is_cancelled(
    client: DistinctClient, fake: FakeServer
) -> None:
    fake.fail(wire="hang")
    run = walking(client).run()

    async def consume() -> None:
        async for _ in run:
            pass

    consumer = asyncio.create_task(consume())
    await until(lambda: fake.in_flight > 0)
    consumer.cancel()
    await run.close()
    with pytest.raises(asyncio.CancelledError):
        await consumer


async def test_a_run_closed_between_two_rows_ends_there(client: DistinctClient) -> None:
    async with walking(client).run() as run:
        rows = 0
        async for _ in run:
            rows += 1
            if rows == 15:
                await asyncio.create_task(run.close())
    assert 15 == rows == run.report.rows
    assert not run.report.complete


async def test_a_run_is_iterated_once(client: DistinctClient) -> None:
    async with walking(client).run() as run:
        async for _ in run:
            break
        for again in (run.pages, run.__aiter__):
            with pytest.raises(ClientStateError, match="once"):
                again()
    with pytest.raises(ClientStateError, match="once"):
        run.pages()
    async with walking(client).run() as whole:
        assert COUNT == len([row async for row in whole])
        with pytest.raises(ClientStateError, match="once"):
            aiter(whole)


@pytest.mark.parametrize("held", [0, 1, 2, 15])
@every_prefetch
async def test_closing_the_client_ends_a_walk_with_an_error_that_has_its_checkpoint(
    prefetch: int, held: int, fake: FakeServer
) -> None:
    hang(fake, from_offset=20)
    client = connected(fake)
    async with walking(client, prefetch=prefetch).run() as run:
        rows = aiter(run)
        for _ in range(held):
            await anext(rows)
        await asyncio.sleep(0.005)
        await client.close()
        with pytest.raises(ClientStateError) as caught:  # noqa: PT012
            while True:
                await anext(rows)

        assert caught.value.checkpoint == run.checkpoint
        expected = None if held == 0 else 20 if held == 15 else 10
        assert expected == (run.checkpoint.position if run.checkpoint else None)
        assert [] == tasks_left()
    del caught
    gc.collect()  # a coroutine that was never awaited is reported here, not in another test


async def test_closing_the_client_wakes_who_waits_for_a_page(fake: FakeServer) -> None:
    hang(fake, from_offset=20)
    client = connected(fake)
    waiting = asyncio.create_task(given(walking(client, prefetch=4)))
    await until(lambda: fake.in_flight == 4)

    await client.close()
    rows, error, _ = await waiting

    assert 20 == len(rows)
    assert isinstance(error, ClientStateError)
    assert [] == tasks_left()


# --- the walk table -------------------------------------------------------------------------------------------------

SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "capped with an echo": ({"max_page_size": 7}, {"page_size": 100}),
    "capped, and the echo hides it": ({"max_page_size": 37, "echo_page_size": "asked"}, {"page_size": 100}),
    "capped without an echo": ({"max_page_size": 7, "echo_page_size": None}, {"page_size": 50}),
    "no page size asked": ({"max_page_size": 9}, {"page_size": None}),
    "no pagination block": ({"echo_page_size": None}, {}),
    "no total": ({"totals": False}, {}),
    "no total, no pagination block": ({"totals": False, "echo_page_size": None}, {}),
    "no total, capped": ({"totals": False, "echo_page_size": "asked", "max_page_size": 7}, {"page_size": 100}),
    "the total is the page's count": ({"totals": "page"}, {}),
    "the page's count, capped with an echo": ({"totals": "page", "max_page_size": 7}, {"page_size": 100}),
    "the page's count, no echo, nothing asked": ({"totals": "page", "echo_page_size": None}, {"page_size": None}),
    "descending": ({"order": "descending"}, {}),
    "404 past the end": ({"past_end": "404"}, {}),
    "400 past the end": ({"past_end": "400"}, {}),
    "404 past the end of one full page": ({"past_end": "404"}, {"page_size": COUNT}),
    "400 past the end of one full page": ({"past_end": "400"}, {"page_size": COUNT}),
    "nothing past the end of one full page": ({}, {"page_size": COUNT}),
    "one row a page": ({}, {"page_size": 1}),
}


@every_prefetch
@pytest.mark.parametrize("case", SETTINGS)
async def test_every_row_is_given_once(
    case: str, prefetch: int, client: DistinctClient, world: World, fake: FakeServer
) -> None:
    knobs, settings = SETTINGS[case]
    for name, value in knobs.items():
        setattr(fake, name, value)
    expected = visits(world)[:: -1 if fake.order == "descending" else 1]

    rows, error, run = await given(walking(client, prefetch=prefetch, **settings))

    assert expected == rows
    assert error is None
    assert run.report.complete
    length = min(settings.get("page_size", SIZE) or 50, fake.max_page_size or 1000)
    assert -(-COUNT // length) + 1 >= run.report.requests == len(fake.requests)
    assert 1 >= fake.max_in_flight or fake.totals is True


def in_lengths(world: World, lengths: Iterator[int]) -> Callable[[bytes], bytes]:
    """A server that cuts each page as long as it likes."""

    def cut(body: bytes) -> bytes:
        response = json.loads(body)
        details = response["data"]["touchpoints"]["totalVisitsDetails"]
        offset = details["pagination"]["offset"]
        scans = world.scans("tp-1")[offset : offset + next(lengths)]
        details["items"] = [{"userId": scan.user_id, "timestampUTC": scan.at.isoformat()} for scan in scans]
        return json.dumps(response).encode()

    return cut


@every_prefetch
async def test_pages_shorter_and_longer_than_asked_lose_nothing(
    prefetch: int, client: DistinctClient, world: World, fake: FakeServer
) -> None:
    fake.fail(body=in_lengths(world, iter([10, 3, 3, 3, 17, 17, 1, *[10] * 200])))

    assert visits(world) == await walking(client, prefetch=prefetch).collect()


def without_rows(body: bytes) -> bytes:
    response = json.loads(body)
    response["data"]["touchpoints"]["totalVisitsDetails"]["items"] = []
    return json.dumps(response).encode()


@every_prefetch
@pytest.mark.parametrize("offset", ["10", "50", "90"])
async def test_an_empty_page_before_the_total_is_tried_once_more(
    offset: str, prefetch: int, client: DistinctClient, world: World, fake: FakeServer
) -> None:
    fake.fail(query={"offset": offset}, body=without_rows, times=1)

    rows, error, run = await given(walking(client, prefetch=prefetch))

    assert (visits(world), None) == (rows, error)
    assert run.report.complete


@every_prefetch
async def test_empty_twice_it_is_an_error_with_the_checkpoint(
    prefetch: int, client: DistinctClient, world: World, fake: FakeServer
) -> None:
    fake.fail(query={"offset": "50"}, body=without_rows)

    rows, error, run = await given(walking(client, prefetch=prefetch))

    assert visits(world)[:50] == rows
    assert PaginationError is type(error)
    assert error is not None
    assert error.checkpoint == run.checkpoint
    assert 2 == asked(fake).count(50)


@every_prefetch
async def test_empty_twice_it_is_the_end_with_a_warning_where_drift_is_only_to_be_told(
    prefetch: int, client: DistinctClient, world: World, fake: FakeServer
) -> None:
    fake.fail(query={"offset": "50"}, body=without_rows)

    with pytest.warns(DriftWarning, match="empty page at offset 50") as reports:
        rows, error, run = await given(walking(client, prefetch=prefetch, on_drift="warn"))

    assert 1 == len(reports)
    assert (visits(world)[:50], None) == (rows, error)
    assert not run.report.complete


@every_prefetch
@pytest.mark.parametrize(
    "knobs",
    [{}, {"echo_page_size": "asked"}, {"echo_page_size": None}, {"echo_page_size": None, "totals": False}],
    ids=str,
)
async def test_a_server_that_ignores_the_offset_is_found_out_by_few_requests(
    knobs: dict[str, Any], prefetch: int, client: DistinctClient, world: World, fake: FakeServer
) -> None:
    fake.ignore_offset = True
    for name, value in knobs.items():
        setattr(fake, name, value)

    rows, error, _ = await given(walking(client, prefetch=prefetch))

    assert visits(world)[:SIZE] == rows
    assert isinstance(error, PageLoopError)
    assert error.checkpoint is not None
    assert SIZE == error.checkpoint.position
    await asyncio.sleep(0.01)
    assert len(fake.requests) <= 2 + prefetch


@every_prefetch
@pytest.mark.parametrize("page_size", [1, 3])
@pytest.mark.parametrize("knobs", [{}, {"totals": False}, {"echo_page_size": None}, {"totals": "page"}], ids=str)
async def test_equal_pages_are_correct_where_one_user_scans_often_in_one_second(
    knobs: dict[str, Any], page_size: int, prefetch: int, client: DistinctClient, world: World, fake: FakeServer
) -> None:
    for name, value in knobs.items():
        setattr(fake, name, value)
    for _ in range(20):
        world.add_scan("tp-2", "user-1", OPENING)

    rows = await client.metrics.total_visits("tp-2", page_size=page_size, prefetch=prefetch).collect()

    assert [Visit("user-1", OPENING)] * 20 == rows


def when_asked(fake: FakeServer, offset: int, action: Callable[[], object]) -> None:
    """Do it, once, when that page has been responded as it was before."""

    def body(correct: bytes) -> bytes:
        action()
        return correct

    fake.fail(query={"offset": str(offset)}, body=body, times=1)


@every_prefetch
async def test_rows_added_at_the_end_of_ascending_ones_are_given_too(
    prefetch: int, client: DistinctClient, world: World, fake: FakeServer
) -> None:
    for offset in (10, 50, 90):
        when_asked(fake, offset, lambda: world.grow(7, "tp-1"))

    rows, error, run = await given(walking(client, prefetch=prefetch))

    assert (None, COUNT + 21) == (error, len(visits(world)))
    assert visits(world) == rows
    assert (COUNT, COUNT + 21, True) == (run.report.total_first, run.report.total_last, run.report.complete)


@pytest.mark.parametrize("prefetch", [4, 16])
async def test_a_page_that_answers_late_with_a_larger_total_is_no_drift(
    prefetch: int, client: DistinctClient, world: World, fake: FakeServer
) -> None:
    fake.fail(query={"offset": "10"}, status=503, delay=0.3, times=1)
    walk = asyncio.create_task(given(walking(client, prefetch=prefetch)))
    await until(lambda: {10, 20, 30, 40} <= set(asked(fake)) and fake.in_flight == 1)
    world.grow(12, "tp-1")

    rows, error, run = await walk

    assert error is None
    assert visits(world) == rows
    assert run.report.complete
    assert 1 == run.report.retries


@every_prefetch
@pytest.mark.parametrize("order", ["ascending", "descending"])
async def test_rows_that_vanish_are_drift(
    order: Any, prefetch: int, client: DistinctClient, world: World, fake: FakeServer
) -> None:
    fake.order = order
    expected = visits(world)[:: 1 if order == "ascending" else -1]
    fake.latency = 0.002
    when_asked(fake, 20, lambda: world.remove("tp-1", 0 if order == "ascending" else -1))

    rows, error, run = await given(walking(client, prefetch=prefetch))

    assert isinstance(error, DriftError)
    assert "shrank from 95 to 94" in str(error)
    assert expected[: len(rows)] == rows
    assert len(rows) >= 20
    assert error.checkpoint == run.checkpoint


SECONDS: dict[str, Callable[[int], int]] = {
    "mixed": lambda number: (number // SIZE) * 3 - number % SIZE,  # up from page to page, down within each
    "of one time": lambda _: 5,
}


@every_prefetch
@pytest.mark.parametrize("order", ["descending", *SECONDS])
async def test_growth_where_rows_do_not_ascend_is_drift(
    order: str, prefetch: int, client: DistinctClient, world: World, fake: FakeServer
) -> None:
    if order == "descending":
        fake.order = "descending"
    else:
        world = fake.world = World()
        for number in range(COUNT):
            world.add_scan("tp-1", f"user-{number}", OPENING + timedelta(seconds=SECONDS[order](number)))
    expected = visits(world)[:: -1 if order == "descending" else 1]
    fake.latency = 0.002
    when_asked(fake, 20, lambda: world.add_scan("tp-1", "user-x", OPENING + timedelta(days=1)))

    rows, error, run = await given(walking(client, prefetch=prefetch))

    assert isinstance(error, DriftError)
    assert "grew from 95 to 96" in str(error)
    assert ("distinct", "metrics.total_visits(touchpoint_id='tp-1')", 1) == (
        error.vendor,
        error.operation,
        error.attempts,
    )
    assert 0 < error.on_wire <= error.elapsed
    assert expected[: len(rows)] == rows
    assert error.checkpoint == run.checkpoint


async def test_drift_that_is_only_to_be_reported_points_at_the_callers_line_and_the_walk_goes_on(
    client: DistinctClient, world: World, fake: FakeServer
) -> None:
    when_asked(fake, 20, lambda: world.remove("tp-1", -1))

    with pytest.warns(DriftWarning, match="shrank from 95 to 94") as reports:
        rows, error, run = await given(walking(client, on_drift="warn", prefetch=1))

    assert (None, COUNT - 1) == (error, len(rows))
    assert visits(world) == rows
    assert not run.report.complete
    assert [__file__] == [warning.filename for warning in reports]


async def test_behind_the_last_page_of_a_list_that_shrank_nothing_is_in_flight(
    client: DistinctClient, world: World, fake: FakeServer
) -> None:
    for offset in range(40, COUNT, 10):
        fake.fail(query={"offset": str(offset)}, delay=5)  # requested ahead, before it is known that they are beyond
    with pytest.warns(DriftWarning, match="shrank"):  # noqa: PT031
        async with walking(client, page_size=10, prefetch=4, on_drift="warn").run() as run:
            async for page in run.pages():
                if page.offset == 0:
                    world.shrink(COUNT - 40, "tp-1")
                if page.offset == 30:
                    assert 40 in asked(fake)
                    assert [] == tasks_left()


async def test_a_drift_warning_that_is_made_an_error_leaves_nothing_behind(
    client: DistinctClient, world: World, fake: FakeServer
) -> None:
    when_asked(fake, 20, lambda: world.remove("tp-1", -1))
    rows = []
    async with walking(client, on_drift="warn", prefetch=1).run() as run:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(DriftWarning):  # noqa: PT012
                async for row in run:
                    rows.append(row)  # noqa: PERF401

        assert run.checkpoint is not None
        assert len(rows) == run.checkpoint.position == run.report.rows
        assert [] == tasks_left()


@every_prefetch
@pytest.mark.parametrize("wire", ["reset", "cut", "garbage", None])
async def test_what_breaks_on_the_wire_costs_no_row(wire: Any, prefetch: int, world: World, fake: FakeServer) -> None:
    for seed in range(3):
        fake.fail(wire=wire, status=None if wire else 503, probability=0.1, times=5, seed=seed)
    fake.max_page_size = 7

    async with connected(fake, retry=RetryPolicy(attempts=20, base=0, cap=0)) as client:
        rows, error, run = await given(walking(client, prefetch=prefetch))

    assert (visits(world), None) == (rows, error)
    assert run.report.complete


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [None, 1, 33])
async def test_a_walk_goes_on_after_any_row_with_another_page_size(
    page_size: int | None, client: DistinctClient, world: World
) -> None:
    for place in (1, 10, 11, COUNT - 6, COUNT) if page_size != 1 else (COUNT - 6, COUNT - 1):
        async with walking(client).run() as run:
            async for number, _ in aenumerate(run):
                assert run.checkpoint is not None
                assert number + 1 == run.checkpoint.position
                if number + 1 == place:
                    break
        assert run.checkpoint is not None
        checkpoint = Checkpoint.from_json(run.checkpoint.to_json())
        walk = walking(client, page_size=page_size, offset=77).resume(checkpoint)

        assert visits(world)[place:] == await walk.collect()


async def test_the_checkpoint_of_every_page_is_that_of_its_last_row(client: DistinctClient, world: World) -> None:
    async for page in walking(client).pages():
        assert page.offset + len(page) == page.checkpoint.position
        rest = await walking(client, page_size=41).resume(page.checkpoint).collect()
        assert visits(world)[page.checkpoint.position :] == rest


async def test_the_checkpoint_within_a_page_and_at_its_end_is_the_same_for_the_same_row(
    client: DistinctClient,
) -> None:
    async def at(place: int, page_size: int) -> Checkpoint | None:
        async with walking(client, page_size=page_size).run() as run:
            async for number, _ in aenumerate(run):
                if number + 1 == place:
                    break
        return run.checkpoint

    assert await at(20, 10) == await at(20, 7) == await at(20, 50)
    assert await at(20, 10) != await at(21, 10)


async def test_after_a_finished_walk_one_request_gives_what_was_appended(
    client: DistinctClient, world: World, fake: FakeServer
) -> None:
    _, _, run = await given(walking(client))
    assert run.checkpoint is not None
    fake.requests.clear()

    page = await walking(client).resume(run.checkpoint)
    assert ((), COUNT) == (page.items, page.offset)
    rows, _, rest = await given(walking(client).resume(run.checkpoint))
    assert [] == rows
    assert rest.report.complete
    assert run.checkpoint == rest.checkpoint == page.checkpoint
    assert [COUNT - 1] * 2 == asked(fake)

    world.grow(3, "tp-1")
    assert visits(world)[-3:] == await walking(client).resume(rest.checkpoint).collect()


async def test_a_walk_may_be_resumed_again_and_again(client: DistinctClient, world: World) -> None:
    rows: list[Visit] = []
    walk = walking(client, limit=4)
    while page := await walk:
        rows += page
        walk = walking(client, limit=4).resume(page.checkpoint)

    assert visits(world) == rows


@pytest.mark.parametrize("form", [by_rows, by_pages, collected])
async def test_the_limit_counts_from_the_resume_and_its_offset_is_ignored(
    form: Callable[[Walk[Any]], Awaitable[list[Any]]], client: DistinctClient, world: World
) -> None:
    first = await walking(client, limit=33, offset=5)
    walk = walking(client, limit=33, offset=5).resume(first.checkpoint)

    assert visits(world)[15:48] == await form(walk)


async def test_a_limit_of_nothing_leaves_a_resumed_walk_where_it_was(client: DistinctClient, fake: FakeServer) -> None:
    checkpoint = (await walking(client)).checkpoint
    fake.requests.clear()
    page = await walking(client, limit=0).resume(checkpoint)

    assert ((), SIZE) == (page.items, page.offset)
    assert checkpoint == page.checkpoint
    assert [] == fake.requests


@every_prefetch
async def test_a_resumed_walk_that_fails_at_once_has_the_checkpoint_it_was_resumed_from(
    prefetch: int, client: DistinctClient, fake: FakeServer
) -> None:
    checkpoint = (await walking(client)).checkpoint
    fake.fail(status=500)

    _, error, run = await given(walking(client, prefetch=prefetch).resume(checkpoint))

    assert isinstance(error, ServerError)
    assert checkpoint == error.checkpoint == run.checkpoint
    with pytest.raises(ServerError) as caught:
        await walking(client).resume(checkpoint)
    assert checkpoint == caught.value.checkpoint


async def test_a_walk_that_fails_at_once_has_no_checkpoint(client: DistinctClient, fake: FakeServer) -> None:
    fake.fail(status=500)

    _, error, run = await given(walking(client, offset=7))

    assert isinstance(error, ServerError)
    assert error.checkpoint is None
    assert run.checkpoint is None


Deed = Callable[[World], object]
MOVED: dict[str, Deed] = {
    "a row inserted before": lambda world: world.insert("tp-1", 3, "user-x", OPENING),
    "a row removed before": lambda world: world.remove("tp-1", 3),
    "the row itself removed": lambda world: world.remove("tp-1", 24),
    "all after it removed, and it": lambda world: world.shrink(COUNT - 20, "tp-1"),
    "everything removed": lambda world: world.shrink(COUNT, "tp-1"),
}


@every_prefetch
@pytest.mark.parametrize("action", MOVED)
async def test_rows_that_moved_before_the_checkpoint_are_drift_on_resuming(
    action: str, prefetch: int, client: DistinctClient, world: World
) -> None:
    page = await walking(client, page_size=25)
    MOVED[action](world)

    rows, error, run = await given(walking(client, prefetch=prefetch).resume(page.checkpoint))

    assert [] == rows
    assert isinstance(error, DriftError)
    assert page.checkpoint == error.checkpoint == run.checkpoint


async def test_what_was_removed_behind_the_checkpoint_does_not_matter(client: DistinctClient, world: World) -> None:
    page = await walking(client, page_size=25)
    world.remove("tp-1", 30)

    assert visits(world)[25:] == await walking(client).resume(page.checkpoint).collect()


async def test_a_checkpoint_of_another_question_is_refused_at_once(client: DistinctClient, fake: FakeServer) -> None:
    checkpoint = (await walking(client)).checkpoint
    fake.requests.clear()
    others: list[Walk[Any]] = [
        client.metrics.total_visits("tp-2"),
        client.metrics.unique_visits("tp-1"),
        client.metrics.total_visits("tp-1", experience_id="exp-1"),
        client.impressions.list(),
    ]

    for other in others:
        with pytest.raises(CheckpointError, match=re.escape("total_visits(touchpoint_id='tp-1')")):
            other.resume(checkpoint)
    for junk in (None, checkpoint.to_json(), 7):
        with pytest.raises(CheckpointError, match="from_json"):
            walking(client).resume(junk)  # type: ignore[arg-type]
    assert [] == fake.requests


async def test_no_user_can_be_read_from_a_checkpoint(client: DistinctClient, world: World) -> None:
    text = (await walking(client, page_size=24)).checkpoint.to_json()

    assert all(user not in text for user in world.users)


async def test_impressions_are_resumed_like_visits(client: DistinctClient, world: World) -> None:
    page = await client.impressions.list(page_size=40)
    rest = await client.impressions.list(page_size=7).resume(page.checkpoint).collect()
    assert list(world.impressions)[40:] == [row.id for row in rest]

    world.remove("tp-1", 0)
    with pytest.raises(DriftError):
        await client.impressions.list().resume(page.checkpoint)


# --- the report -------------------------------------------------------------------------------------------------------


async def test_the_report_counts_what_was_given_and_what_it_cost(client: DistinctClient, fake: FakeServer) -> None:
    fake.fail(query={"offset": "30"}, status=503, times=2)
    fake.latency = 0.002

    _, _, run = await given(walking(client, prefetch=4))

    report = run.report
    assert (COUNT, PAGES, PAGES + 2, 2) == (report.rows, report.pages, report.requests, report.retries)
    assert (COUNT, COUNT, True) == (report.total_first, report.total_last, report.complete)
    assert report.on_wire >= (PAGES + 2) * 0.002
    assert report.waited >= 0


async def test_the_report_is_true_at_every_row(client: DistinctClient) -> None:
    async with walking(client).run() as run:
        async for number, _ in aenumerate(run):
            assert number + 1 == run.report.rows
            assert number // SIZE + 1 == run.report.pages
            assert run.report.complete is (number + 1 == COUNT)


async def test_the_report_is_true_after_an_error(client: DistinctClient, fake: FakeServer) -> None:
    fake.fail(query={"offset": "30"}, status=404)

    _, _, run = await given(walking(client, prefetch=1))

    assert (30, 3, 4, False) == (run.report.rows, run.report.pages, run.report.requests, run.report.complete)


async def test_a_limit_that_leaves_rows_out_is_not_complete(client: DistinctClient) -> None:
    _, _, short = await given(walking(client, limit=COUNT - 1))
    _, _, whole = await given(walking(client, limit=COUNT))

    assert (False, True) == (short.report.complete, whole.report.complete)


@pytest.mark.parametrize("as_pages", [False, True])
async def test_progress_is_reported_after_each_page(as_pages: bool, client: DistinctClient) -> None:  # noqa: FBT001
    reports: list[Report] = []
    async with walking(client).run(reports.append) as run:
        async for _ in run.pages() if as_pages else run:
            pass

    assert [*range(10, COUNT, 10), COUNT] == [report.rows for report in reports]
    assert list(range(1, PAGES + 1)) == [report.pages for report in reports]
    assert run.report == reports[-1]
    assert [False] * 9 + [True] == [report.complete for report in reports]


async def test_an_error_in_the_progress_callback_is_the_callers_and_leaves_nothing_behind(
    client: DistinctClient,
) -> None:
    def reports(report: Report) -> None:
        if report.pages == 3:
            raise Stop

    async with walking(client).run(reports) as run:
        with pytest.raises(Stop):
            async for _ in run:
                pass
        assert [] == tasks_left()
        assert run.checkpoint is not None
        assert 30 == run.checkpoint.position


async def test_only_what_the_vendor_lists_is_asked(client: DistinctClient, fake: FakeServer) -> None:
    await walking(client, limit=15).collect()
    first: RequestRecord = fake.requests[0]

    assert {"metricsType": "TOUCHPOINT", "touchpointId": "tp-1", "visitsType": "TOTAL", "pageSize": "10"} == first.query
    assert "10" == fake.requests[1].query["offset"]
