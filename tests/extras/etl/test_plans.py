"""`etl.plan`: what there is to do, in one call."""

import pytest

from distinct_async import DistinctClient, errors, etl
from distinct_async.models import VisitsType
from distinct_async.testing import FakeServer, World


@pytest.fixture
def world() -> World:
    world = World()
    world.add_touchpoint("tp-1", "Entry", "entry")
    world.add_touchpoint("tp-2")
    world.add_touchpoint("tp-3", experience_id="exp-2")
    for user_id in ("u1", "u2", "u1"):
        world.add_scan("tp-1", user_id, "2026-06-01T10:00:00Z")
    return world


async def test_one_request_reports_every_list_with_its_rows(client: DistinctClient, fake: FakeServer) -> None:
    plan = await etl.plan(client, "exp-1")

    works = [(work.touchpoint.id, work.visits_type, work.expected) for work in plan.works]
    assert [("tp-1", "TOTAL", 3), ("tp-1", "UNIQUE", 2), ("tp-2", "TOTAL", 0), ("tp-2", "UNIQUE", 0)] == works
    assert [("tp-1", "Entry", "entry"), ("tp-2", None, None)] == [(t.id, t.name, t.value) for t in plan.touchpoints]
    assert ("exp-1", 5, 2, True) == (plan.experience_id, plan.expected, plan.declared, plan.complete)
    assert [{"metricsType": "EXPERIENCE", "experienceId": "exp-1"}] == [request.query for request in fake.requests]


@pytest.mark.parametrize(("visits_type", "expected"), [("TOTAL", 3), ("UNIQUE", 2)])
async def test_one_type_is_planned_alone(client: DistinctClient, visits_type: VisitsType, expected: int) -> None:
    plan = await etl.plan(client, "exp-1", visits_type=visits_type)
    assert {visits_type} == {work.visits_type for work in plan.works}
    assert expected == plan.expected


async def test_a_plan_of_fewer_touchpoints_than_declared_is_not_complete(
    client: DistinctClient, fake: FakeServer
) -> None:
    fake.fail(body=lambda body: body.replace(b'"totalTouchpoints":2', b'"totalTouchpoints":3'))
    plan = await etl.plan(client, "exp-1")
    assert (2, 3, False) == (len(plan.touchpoints), plan.declared, plan.complete)


async def test_a_touchpoint_that_is_listed_twice_is_walked_once(client: DistinctClient, fake: FakeServer) -> None:
    fake.fail(body=lambda body: body.replace(b'"tp-2"', b'"tp-1"'))
    plan = await etl.plan(client, "exp-1", visits_type="TOTAL")
    assert (["tp-1"], False) == ([work.touchpoint.id for work in plan.works], plan.complete)


async def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    client: DistinctClient, fake: FakeServer
) -> None:
    for experience_id, visits_type in (("", None), ("exp-1", "total"), ("exp-1", "")):
        with pytest.raises(errors.InvalidRequestError):
            await etl.plan(client, experience_id, visits_type=visits_type)  # type: ignore[arg-type]
    assert [] == fake.requests


async def test_an_unknown_experience_is_not_found(client: DistinctClient) -> None:
    with pytest.raises(errors.NotFoundError, match="exp-9"):
        await etl.plan(client, "exp-9")
