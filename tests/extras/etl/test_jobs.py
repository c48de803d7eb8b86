"""Jobs read as walks do, from every kind of server; and what a destination knows of a list. The rest shows in syncs."""

from typing import Any

import attrs
import pytest

from distinct_async import Checkpoint, DistinctClient, errors, etl, structure
from distinct_async.etl.destinations import Chunk, ListState
from distinct_async.etl.plans import VisitList
from distinct_async.models import TouchpointSummary, Visit
from distinct_async.sansio.pages import Question
from distinct_async.testing import FakeServer, World
from tests import test_walk as walks

WORK = VisitList(TouchpointSummary(id="tp-1", name=None, value=None, total_visits=9, unique_visits=4), "TOTAL")
CHECKPOINT = Checkpoint(Question("metrics.total_visits", {}), 0)


@pytest.mark.parametrize(
    ("before", "seen", "rebuild", "after"),
    [
        (None, True, False, True),
        (None, None, False, None),
        (True, None, False, True),
        (True, False, False, False),
        (False, None, False, False),
        (False, True, False, False),  # a tail that ascends does not make an ascending list
        (False, True, True, True),
        (True, None, True, None),
    ],
)
def test_what_is_known_of_the_order_of_a_list_is_kept_until_it_is_rebuilt(
    before: bool | None,  # noqa: FBT001
    seen: bool | None,  # noqa: FBT001
    rebuild: bool,  # noqa: FBT001
    after: bool | None,  # noqa: FBT001
) -> None:
    chunk = Chunk(WORK, 0, rebuild, CHECKPOINT, ascends=seen)
    assert ListState(CHECKPOINT, 9, complete=False, ascends=after) == chunk.state(
        ListState(CHECKPOINT, 5, complete=True, ascends=before)
    )


@pytest.fixture
def world() -> World:
    """The one that walks are tested with."""
    world = World()
    walks.fill(world, walks.COUNT)
    return world


async def read(client: DistinctClient, **options: Any) -> list[Visit]:
    """Return the rows of a job."""
    batches: list[Any] = [batch async for batch in etl.batches(client, "exp-1", **{"page_size": walks.SIZE, **options})]
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert list(range(rows[0]["position"], rows[0]["position"] + len(rows))) == [row["position"] for row in rows]
    return [Visit(row["user_id"], row["timestamp_utc"]) for row in rows]


@pytest.mark.parametrize("paths", ["both", "strict"])
@pytest.mark.parametrize("prefetch", [1, 4])
@pytest.mark.parametrize("case", walks.SETTINGS)
async def test_a_job_reads_what_a_walk_does_from_every_kind_of_server(
    case: str,
    prefetch: int,
    paths: str,
    client: DistinctClient,
    world: World,
    fake: FakeServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    knobs, settings = walks.SETTINGS[case]
    for name, value in knobs.items():
        setattr(fake, name, value)
    if paths == "strict":
        decoder = attrs.evolve(structure.VISITS["TOTAL"], fast=lambda _: None)
        monkeypatch.setattr(structure, "VISITS", {**structure.VISITS, "TOTAL": decoder})
    expected = walks.visits(world)[:: -1 if fake.order == "descending" else 1]
    assert expected == await read(client, prefetch=prefetch, **settings)


@pytest.mark.parametrize("action", walks.MOVED)
async def test_rows_that_moved_before_what_a_job_has_are_drift(
    action: str, client: DistinctClient, world: World
) -> None:
    state: dict[str, str] = {}
    assert walks.COUNT == len(await read(client, state=state))
    walks.MOVED[action](world)
    walks.fill(world, 3)
    before = dict(state)
    with pytest.raises(errors.DriftError):
        await read(client, state=state)
    assert before == state
