"""Tests of the service, with a client of the fake vendors: they need neither a network nor a key."""

import json
from collections.abc import AsyncIterator, Callable, Sequence

import httpx
import pytest
import pytest_asyncio

from distinct_async import DistinctClient
from distinct_async.fastapi import get_client
from distinct_async.testing import FakeServer, Scan, World

from .service import app

pytestmark = pytest.mark.asyncio

WORLD = World.sample(touchpoints=3, scans=2_000, users=90, seed=7)


@pytest_asyncio.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """The service with the fake vendors."""
    async with (
        FakeServer(WORLD) as fake,
        DistinctClient(**fake.settings) as client,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as http,
    ):
        app.dependency_overrides[get_client] = lambda: client
        yield http
        app.dependency_overrides.clear()


async def test_touchpoints_come_the_busiest_first(http: httpx.AsyncClient) -> None:
    response = await http.get("/experiences/exp-1/touchpoints")

    counts = [each["totalVisits"] for each in response.json()]
    assert sorted((len(WORLD.scans(each)) for each in WORLD.touchpoints), reverse=True) == counts


@pytest.mark.parametrize(("of", "scans"), [("everyone", WORLD.scans), ("newcomers", WORLD.unique_scans)])
async def test_visits_are_streamed_in_order(
    http: httpx.AsyncClient, of: str, scans: Callable[[str], Sequence[Scan]]
) -> None:
    response = await http.get("/touchpoints/tp-1/visits", params={"of": of})

    rows = [json.loads(line)["userId"] for line in response.text.splitlines()]
    assert [scan.user_id for scan in scans("tp-1")] == rows


async def test_an_impression_has_the_vendors_names(http: httpx.AsyncClient) -> None:
    response = await http.get(f"/impressions/{WORLD.impressions[0]}")

    assert WORLD.impression(WORLD.impressions[0]) == response.json()


async def test_what_does_not_exist_is_a_404(http: httpx.AsyncClient) -> None:
    response = await http.get("/experiences/no-such/touchpoints")

    assert (404, "application/problem+json") == (response.status_code, response.headers["content-type"])
