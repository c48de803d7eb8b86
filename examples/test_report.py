"""A test suite to copy, with a custom world, fault injection, and the record of requests."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from distinct_async import DistinctClient, RetryPolicy
from distinct_async.errors import DecodeError, RateLimitError
from distinct_async.testing import FakeServer, World

from .report import Line, report

pytestmark = pytest.mark.asyncio


@pytest.fixture
def distinct_world() -> World:
    """Two doors: everybody scans at the front door once, and ann twice at the back door."""
    world = World()
    world.add_touchpoint("front", "Front door")
    world.add_touchpoint("back")
    for hour, (door, user) in enumerate([("front", "ann"), ("front", "bob"), ("back", "ann"), ("back", "ann")]):
        world.add_scan(door, user, f"2024-01-01T{hour:02}:00:00Z")
    return world


@pytest_asyncio.fixture
async def client(distinct_env: FakeServer) -> AsyncIterator[DistinctClient]:  # noqa: ARG001  # sets the variables
    """A client as in production, but without waits between attempts."""
    async with DistinctClient(retry=RetryPolicy(sleep=False)) as client:
        yield client


async def test_most_visits_per_visitor_come_first(client: DistinctClient) -> None:
    assert [Line("back", 2, 1), Line("Front door", 2, 2)] == await report(client, "exp-1")


async def test_what_does_not_exist_has_no_lines(client: DistinctClient, distinct_env: FakeServer) -> None:
    assert () == await report(client, "exp-2")
    assert [404] == [request.status for request in distinct_env.requests]


async def test_a_touchpoint_without_visits_does_not_divide_by_zero(
    client: DistinctClient, distinct_world: World
) -> None:
    distinct_world.add_touchpoint("cellar")
    assert 0.0 == (await report(client, "exp-1"))[-1].per_visitor


async def test_two_failures_are_retried(client: DistinctClient, distinct_env: FakeServer) -> None:
    distinct_env.fail(status=503, times=2)
    assert 2 == len(await report(client, "exp-1"))
    assert [503, 503, 200] == [request.status for request in distinct_env.requests]


async def test_a_long_pause_is_not_waited_for(client: DistinctClient, distinct_env: FakeServer) -> None:
    distinct_env.fail(status=429, headers={"Retry-After": "3600"})
    with pytest.raises(RateLimitError) as caught:
        await report(client, "exp-1")
    assert 3600 == caught.value.retry_after


async def test_an_unexpected_shape_is_reported_with_its_path(client: DistinctClient, distinct_env: FakeServer) -> None:
    distinct_env.fail(body=lambda body: body.replace(b'"totalVisits":2', b'"totalVisits":"2"', 1))
    with pytest.raises(DecodeError) as caught:
        await report(client, "exp-1")
    assert "totalVisits" in caught.value.paths[0]
