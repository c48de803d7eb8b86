"""Impressions that change while they are listed: the vendor states no total, so only the rows themselves show it."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from distinct_async import DistinctClient
from distinct_async.errors import DriftError, DriftWarning, PageLoopError
from distinct_async.models import Visit
from distinct_async.testing import FakeServer, World
from tests.rig import OPENING, queue

COUNT = 30


@pytest.fixture
def world() -> World:
    return queue(COUNT)


def arrange(world: World, order: Sequence[str]) -> None:
    """List the impressions in this order; those that are not in it are gone."""
    known = world._known_sources()
    world._sources = {each: known[each] for each in order}
    world._listings.clear()


def add_in_front(world: World) -> None:
    world.add_impression("imp_new")
    arrange(world, ["imp_new", *world.impressions[:-1]])


def add_at_the_end(world: World) -> None:
    world.add_impression("imp_new")


def remove_from_front(world: World) -> None:
    arrange(world, world.impressions[1:])


def replace_the_front(world: World) -> None:
    """As many as before, and all of them moved up by one."""
    world.add_impression("imp_new")
    arrange(world, world.impressions[1:])


async def changed_while_listed(
    client: DistinctClient, world: World, change: Callable[[World], None], *, after: int, **settings: Any
) -> tuple[list[str], Exception | None, bool]:
    """The ids delivered, how it ended, and whether it claims to be complete, with a change after that many rows."""
    ids: list[str] = []
    async with client.impressions.list(**settings).run() as run:
        try:
            async for row in run:
                ids.append(row.id)
                if len(ids) == after:
                    change(world)
        except (DriftError, PageLoopError) as error:
            return ids, error, run.report.complete
    return ids, None, run.report.complete


@pytest.mark.parametrize("page_size", [1, 2, 7, 10, 29])
@pytest.mark.parametrize("change", [add_in_front, remove_from_front, replace_the_front])
async def test_rows_that_move_are_drift(
    change: Callable[[World], None], page_size: int, client: DistinctClient, world: World
) -> None:
    before = list(world.impressions)

    ids, error, complete = await changed_while_listed(client, world, change, after=10, page_size=page_size)

    assert isinstance(error, DriftError)
    assert ids == before[: len(ids)]
    assert not complete
    assert error.checkpoint is not None
    assert len(ids) == error.checkpoint.position


@pytest.mark.parametrize("capped", [2, 20, COUNT - 1])
@pytest.mark.parametrize("change", [add_in_front, remove_from_front, replace_the_front])
async def test_rows_that_move_behind_a_first_page_that_is_capped_are_drift(
    change: Callable[[World], None], capped: int, client: DistinctClient, world: World, fake: FakeServer
) -> None:
    before, fake.max_limit = list(world.impressions), capped

    ids, error, complete = await changed_while_listed(client, world, change, after=capped)

    assert isinstance(error, DriftError)
    assert before[:capped] == ids
    assert not complete


@pytest.mark.parametrize("change", [add_in_front, remove_from_front, replace_the_front])
async def test_a_list_that_changes_before_its_first_page_or_at_its_end_is_complete(
    change: Callable[[World], None], client: DistinctClient, world: World
) -> None:
    change(world)
    world.add_impression("imp_last")
    ids, error, complete = await changed_while_listed(
        client, world, lambda world: world.add_impression("imp_later"), after=10, page_size=7
    )

    assert (list(world.impressions), None, True) == (ids, error, complete)


async def test_a_newest_first_list_that_grows_is_drift(client: DistinctClient, world: World, fake: FakeServer) -> None:
    fake.order = "descending"

    _, error, complete = await changed_while_listed(client, world, add_at_the_end, after=10, page_size=10)

    assert isinstance(error, DriftError)
    assert not complete


async def test_a_list_that_is_reordered_is_drift(client: DistinctClient, world: World, fake: FakeServer) -> None:
    def reverse(_: World) -> None:
        fake.order = "descending"

    _, error, _ = await changed_while_listed(client, world, reverse, after=10, page_size=10)

    assert isinstance(error, DriftError)


async def test_drift_that_is_only_reported_is_a_warning_and_not_complete(client: DistinctClient, world: World) -> None:
    with pytest.warns(DriftWarning, match="row 9 has changed") as caught:
        ids, error, complete = await changed_while_listed(
            client, world, add_in_front, after=10, page_size=10, on_drift="warn"
        )

    assert __file__ == caught[0].filename
    assert (None, False) == (error, complete)
    assert {"imp_new"} == set(world.impressions) - set(ids)


@pytest.mark.parametrize("page_size", [1, 10, 15, 29, 30])
@pytest.mark.parametrize("number", [2, 3])
async def test_an_empty_page_that_passes_costs_no_row(
    number: int, page_size: int, client: DistinctClient, world: World, fake: FakeServer
) -> None:
    fake.fail(path="/api/v1/impressions", nth=number, body=b'{"impressions": []}')

    async with client.impressions.list(page_size=page_size).run() as run:
        ids = [row.id async for row in run]

    assert list(world.impressions) == ids
    assert run.report.complete


async def test_an_id_that_comes_twice_is_drift_however_far_apart(client: DistinctClient, world: World) -> None:
    first = world.impressions[0]

    def swap(world: World) -> None:
        arrange(world, [world.impressions[-1], *world.impressions[1:-1], first])

    ids, error, _ = await changed_while_listed(client, world, swap, after=10, page_size=10)

    assert isinstance(error, DriftError)
    assert first in str(error)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("capped", [2, 20, COUNT - 1])
async def test_an_empty_page_that_passes_behind_a_capped_one_costs_no_row(
    capped: int, client: DistinctClient, world: World, fake: FakeServer
) -> None:
    fake.max_limit = capped
    fake.fail(path="/api/v1/impressions", nth=2, body=b'{"impressions": []}')

    async with client.impressions.list().run() as run:
        assert list(world.impressions) == [row.id async for row in run]
    assert run.report.complete


@pytest.mark.parametrize(
    ("page_size", "capped", "expected"),
    [(10, 30, 5), (30, 30, 3), (50, 50, 2), (100, 100, 2), (2, 30, 31), (50, 29, 4), (50, 15, 5)],
)
async def test_an_overlap_costs_few_requests(
    page_size: int, capped: int, expected: int, client: DistinctClient, fake: FakeServer
) -> None:
    fake.max_limit = capped
    assert COUNT == len(await client.impressions.list(page_size=page_size).collect())
    assert expected == len(fake.requests)


async def test_a_checkpoint_between_overlapping_pages_resumes_at_the_next_row(
    client: DistinctClient, world: World
) -> None:
    async for page in client.impressions.list(page_size=7).pages():
        rest = await client.impressions.list(page_size=4).resume(page.checkpoint).collect()
        assert list(world.impressions)[page.offset + len(page) :] == [row.id for row in rest]


# -- a queue that was uploaded twice


@pytest.mark.parametrize("prefetch", [1, 4])
@pytest.mark.parametrize("copies", [2, 3])
@pytest.mark.parametrize("knobs", [{}, {"echo_page_size": None}, {"totals": False}, {"totals": "page"}], ids=str)
async def test_a_queue_that_was_uploaded_twice_is_read_twice(
    knobs: dict[str, Any], copies: int, prefetch: int, fake: FakeServer, client: DistinctClient, world: World
) -> None:
    for name, value in knobs.items():
        setattr(fake, name, value)
    for _ in range(copies):
        for number in range(10):
            world.add_scan("tp-2", f"user-{number}", OPENING + timedelta(seconds=number))
    rows = [Visit(scan.user_id, scan.at) for scan in world.scans("tp-2")]

    async with client.metrics.total_visits("tp-2", page_size=10, prefetch=prefetch).run() as run:
        assert rows == [row async for row in run]
    assert run.report.complete
