"""`batches(..., state=...)`: only what is new, and a state that is stored with the rows."""

import json
import pickle
from datetime import timedelta
from typing import Any

import pytest

from distinct_async import DistinctClient, errors, etl
from distinct_async.testing import FakeServer, World

from .rows import BOTH, rows_in, rows_of


async def rows_read(client: DistinctClient, state: dict[str, str], **options: Any) -> list[Any]:
    """Return the rows that are new."""
    batches = [batch async for batch in etl.batches(client, "exp-1", state=state, visits_type=None, **options)]
    return [row for batch in batches for row in rows_in(batch)]


def grow(world: World, touchpoint_id: str = "tp-1", rows: int = 3) -> None:
    for _ in range(rows):
        world.add_scan(touchpoint_id, "user-new", world.scans(touchpoint_id)[-1].at + timedelta(seconds=1))


async def test_only_what_is_new_is_read_and_nothing_costs_one_request(
    client: DistinctClient, fake: FakeServer, world: World
) -> None:
    state: dict[str, str] = {}
    rows = await rows_read(client, state, page_size=20)
    assert sorted(rows_of(world, *BOTH)) == sorted(rows)

    fake.requests.clear()
    assert [] == await rows_read(client, state)
    assert 1 == len(fake.requests)

    grow(world)
    state = pickle.loads(pickle.dumps(json.loads(json.dumps(state))))  # the test's own
    rows += await rows_read(client, state, page_size=7)
    assert sorted(rows_of(world, *BOTH)) == sorted(rows)


async def test_the_state_is_that_of_the_batch_in_hand(client: DistinctClient, world: World) -> None:
    rows, stored = list[Any](), dict[str, str]()
    while len(rows) < len(rows_of(world, *BOTH)):  # each run is left after its first batch
        state = dict(stored)
        batches = etl.batches(client, "exp-1", state=state, visits_type=None, page_size=20, batch_rows=20)
        rows += rows_in(await anext(batches))
        stored = dict(state)
        await batches.aclose()
    assert sorted(rows_of(world, *BOTH)) == sorted(rows)
    assert [] == await rows_read(client, stored)


async def test_a_plan_can_be_read_with_a_state(client: DistinctClient, world: World) -> None:
    state: dict[str, str] = {}
    await rows_read(client, state)
    grow(world, rows=2)
    plan = await etl.plan(client, "exp-1", visits_type="TOTAL")
    assert 2 == sum([len(batch) async for batch in etl.batches(client, plan, state=state)])


async def test_rows_that_have_moved_are_drift_or_rebuild_the_list(
    client: DistinctClient, fake: FakeServer, world: World
) -> None:
    state: dict[str, str] = {}
    await rows_read(client, state)
    fake.world = World.sample(touchpoints=3, scans=len(world.scans("tp-1")) + 50, users=5, seed=99)
    before = dict(state)
    with pytest.raises(errors.DriftError):
        await rows_read(client, state)

    rebuilt: list[etl.VisitList] = []
    rows = await rows_read(client, before, on_drift="rebuild", on_rebuild=rebuilt.append, page_size=20)
    keys = {(each.touchpoint.id, each.visits_type) for each in rebuilt}
    assert {("tp-1", "TOTAL")} <= keys
    assert sorted(row for row in rows_of(fake.world, *BOTH) if row[:2] in keys) == sorted(
        row for row in rows if row[:2] in keys
    )
    assert [] == await rows_read(client, before)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda _: "junk", "cannot be read"),
        (lambda _: "", "cannot be read"),
        (lambda _: None, "cannot be read"),
        (lambda text: text.replace('"state":1', '"state":2'), "version 2"),
        (lambda text: text.replace("exp-1", "exp-2"), "belongs to experience 'exp-2'"),
        (lambda text: text.replace("tp-1", "tp-2"), "belongs to 'TOTAL tp-2'"),
        (lambda text: text.replace("total_visits", "other"), "not of a list of visits"),
    ],
    ids=["junk", "empty", "none", "later version", "other experience", "other list", "other endpoint"],
)
async def test_a_state_that_does_not_fit_is_refused_by_name(
    client: DistinctClient, fake: FakeServer, change: Any, problem: str
) -> None:
    state: dict[str, Any] = {}
    await rows_read(client, state)
    state["TOTAL tp-1"] = change(state["TOTAL tp-1"])
    fake.requests.clear()
    with pytest.raises(errors.CheckpointError, match=problem) as caught:
        etl.batches(client, "exp-1", state=state)
    assert "'TOTAL tp-1'" in str(caught.value)
    assert [] == fake.requests


async def test_a_part_with_a_state_and_a_plan_with_touchpoints_are_refused(client: DistinctClient) -> None:
    plan = await etl.plan(client, "exp-1")
    with pytest.raises(errors.InvalidRequestError, match="ranges"):
        etl.batches(client, plan.split(2)[0], state={})
    with pytest.raises(errors.InvalidRequestError, match="touchpoint_ids"):
        etl.batches(client, plan, touchpoint_ids=["tp-1"])


async def test_no_user_id_is_in_a_state(client: DistinctClient, world: World) -> None:
    state: dict[str, str] = {}
    await rows_read(client, state)
    text = json.dumps(state)
    assert [] == [row[3] for row in rows_of(world) if row[3] in text]
