"""The thin layer of metrics over aioresponses: requests and responses. Sockets are elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aioresponses import aioresponses
from yarl import URL

from distinct_async import DistinctClient, RetryPolicy
from distinct_async.errors import DecodeError, DriftError, InvalidRequestError, NotFoundError, ServerError
from distinct_async.models import ExperienceMetrics, TouchpointMetrics, UserMetrics, Visit
from tests.rig import KEY
from tests.wire import responses

BASE = "https://api.distinct.so/v3/touchpoint/metrics"
Call = Callable[[DistinctClient], Awaitable[object]]


@pytest.fixture
def vendor() -> Iterator[aioresponses]:
    with aioresponses() as vendor:
        yield vendor


@pytest.fixture
async def client(vendor: aioresponses) -> AsyncIterator[DistinctClient]:  # noqa: ARG001 - it comes first
    async with DistinctClient(KEY, retry=RetryPolicy(attempts=3, base=0, cap=0)) as client:
        yield client


def url(**params: str) -> URL:
    return URL(BASE).with_query(params)


def page(*minutes: int, total: int, offset: int = 0, size: int = 2) -> dict[str, Any]:
    rows = [{"userId": f"user-{minute}", "timestampUTC": f"2024-01-01T10:{minute:02}:00Z"} for minute in minutes]
    details = {"items": rows, "pagination": {"offset": offset, "pageSize": size}}
    return responses.distinct({"touchpoints": {"id": "tp-1", "totalVisits": total, "totalVisitsDetails": details}})


EXPERIENCE = url(metricsType="EXPERIENCE", experienceId="exp-1")
USER = url(metricsType="USER", experienceId="exp-1", userId="user-1")
TOTAL = url(metricsType="TOUCHPOINT", touchpointId="tp-1", visitsType="TOTAL")
UNIQUE = url(metricsType="TOUCHPOINT", touchpointId="tp-1", visitsType="UNIQUE")


async def test_an_experience_is_asked_for_and_read(vendor: aioresponses, client: DistinctClient) -> None:
    vendor.get(EXPERIENCE, payload=responses.experience())
    metrics = await client.metrics.experience("exp-1")
    assert (ExperienceMetrics, 2, 2) == (type(metrics), metrics.total_touchpoints, len(metrics.touchpoints))
    assert [("GET", dict(EXPERIENCE.query))] == [(method, dict(at.query)) for method, at in vendor.requests]


async def test_a_user_is_asked_for_and_read(vendor: aioresponses, client: DistinctClient) -> None:
    vendor.get(USER, payload=responses.user())
    metrics = await client.metrics.user("user-1", experience_id="exp-1")
    assert (UserMetrics, 2, 1) == (type(metrics), metrics.total_touchpoints, len(metrics.touchpoints))


@pytest.mark.parametrize(("visits_type", "at", "counts"), [("TOTAL", TOTAL, (3, None)), ("UNIQUE", UNIQUE, (None, 2))])
async def test_a_touchpoint_has_the_count_that_was_asked_for(
    vendor: aioresponses, client: DistinctClient, visits_type: Any, at: URL, counts: tuple[int | None, int | None]
) -> None:
    vendor.get(at, payload=responses.touchpoint(visits_type))
    metrics = await client.metrics.touchpoint("tp-1", visits_type=visits_type)
    assert (TouchpointMetrics, *counts) == (type(metrics), metrics.total_visits, metrics.unique_visits)
    assert Visit("user-1", datetime(2024, 1, 1, 10, tzinfo=UTC)) == metrics.visits[0]


async def test_the_count_that_was_not_asked_for_is_left_out_even_if_it_comes(
    vendor: aioresponses, client: DistinctClient
) -> None:
    both = responses.touchpoint()
    both["data"]["touchpoints"] |= responses.touchpoint("UNIQUE")["data"]["touchpoints"]
    vendor.get(TOTAL, payload=both)
    vendor.get(UNIQUE, payload=both)
    total = await client.metrics.touchpoint("tp-1")
    unique = await client.metrics.touchpoint("tp-1", visits_type="UNIQUE")
    assert (3, None, 3) == (total.total_visits, total.unique_visits, len(total.visits))
    assert (None, 2, 2) == (unique.total_visits, unique.unique_visits, len(unique.visits))


@pytest.mark.parametrize("prefetch", [1, 2, 9])
async def test_a_walk_asks_page_by_page_and_gives_every_row_in_order(
    vendor: aioresponses, client: DistinctClient, prefetch: int
) -> None:
    for offset in (0, 2, 4):
        minutes = range(offset, min(offset + 2, 5))
        more = {"offset": str(offset)} if offset else {}
        vendor.get(TOTAL.update_query(more), payload=page(*minutes, total=5, offset=offset))
    rows = await client.metrics.total_visits("tp-1", prefetch=prefetch).collect()
    assert [f"user-{n}" for n in range(5)] == [row.user_id for row in rows]
    assert 3 == len(vendor.requests)


async def test_a_walk_sends_nothing_before_it_is_used(vendor: aioresponses, client: DistinctClient) -> None:
    walk = client.metrics.total_visits("tp-1", page_size=2)
    assert {} == vendor.requests
    vendor.get(TOTAL.update_query(pageSize="2"), payload=page(0, total=1))
    first = await walk
    assert (1, 0, 1) == (len(first), first.offset, first.total)


async def test_a_limit_of_nothing_sends_nothing(vendor: aioresponses, client: DistinctClient) -> None:
    assert [] == await client.metrics.total_visits("tp-1", limit=0).collect()
    assert {} == vendor.requests


async def test_a_failure_that_passes_is_tried_again(vendor: aioresponses, client: DistinctClient) -> None:
    vendor.get(EXPERIENCE, status=503)
    vendor.get(EXPERIENCE, exception=ConnectionResetError())
    vendor.get(EXPERIENCE, payload=responses.experience())
    assert 2 == (await client.metrics.experience("exp-1")).total_touchpoints


async def test_a_failure_that_stays_ends_the_call(vendor: aioresponses, client: DistinctClient) -> None:
    vendor.get(EXPERIENCE, status=503, repeat=True)
    with pytest.raises(ServerError) as caught:
        await client.metrics.experience("exp-1")
    assert (3, "metrics.experience(experience_id='exp-1')") == (caught.value.attempts, caught.value.operation)


async def test_a_refusal_keeps_its_words(vendor: aioresponses, client: DistinctClient) -> None:
    vendor.get(USER, status=404, payload={"statusCode": 404, "message": "User not found"})
    with pytest.raises(NotFoundError, match="User not found") as caught:
        await client.metrics.user("user-1", experience_id="exp-1")
    assert "metrics.user(experience_id='exp-1')" == caught.value.operation, "no user's id in it"


async def test_another_shape_is_named_by_its_path(vendor: aioresponses, client: DistinctClient) -> None:
    vendor.get(TOTAL, payload=responses.touchpoint("UNIQUE"))
    with pytest.raises(DecodeError, match="totalVisits"):
        await client.metrics.touchpoint("tp-1")


async def test_drift_is_raised_with_a_checkpoint(vendor: aioresponses, client: DistinctClient) -> None:
    vendor.get(TOTAL, payload=page(0, 1, total=6))
    vendor.get(TOTAL.update_query(offset="2"), payload=page(3, 4, total=5, offset=2))
    with pytest.raises(DriftError) as caught:
        await client.metrics.total_visits("tp-1", prefetch=1).collect()
    assert caught.value.checkpoint is not None
    assert 2 == caught.value.checkpoint.position


# -- refused before anything is sent

BAD_IDS: list[Any] = ["", " ", "\t", "a\nb", "a\r\nb", "a\0b", "\x7f", "\x85", "\ud800", None, 1, b"tp-1", ["tp-1"]]
BAD_SIZES: list[Any] = [0, -1, 1.0, "1", True, False]
BAD_OFFSETS: list[Any] = [-1, 0.0, "0", True]
ONE_ID: dict[str, Callable[[DistinctClient, Any], object]] = {
    "experience": lambda client, bad: client.metrics.experience(bad),
    "user": lambda client, bad: client.metrics.user(bad, experience_id="exp-1"),
    "user's experience": lambda client, bad: client.metrics.user("user-1", experience_id=bad),
    "touchpoint": lambda client, bad: client.metrics.touchpoint(bad),
    "total_visits": lambda client, bad: client.metrics.total_visits(bad),
    "unique_visits": lambda client, bad: client.metrics.unique_visits(bad),
}
OPTIONAL: dict[str, Callable[..., object]] = {
    "experience": lambda client, **bad: client.metrics.experience("exp-1", **bad),
    "touchpoint": lambda client, **bad: client.metrics.touchpoint("tp-1", **bad),
    "total_visits": lambda client, **bad: client.metrics.total_visits("tp-1", **bad),
    "unique_visits": lambda client, **bad: client.metrics.unique_visits("tp-1", **bad),
}


async def assert_refused(name: str, make: Callable[..., object], *given: Any, **named: Any) -> None:
    """A call is refused when it is awaited, a walk when it is made; both name what is wrong."""
    with pytest.raises(InvalidRequestError, match=name) as caught:
        await make(*given, **named)  # type: ignore[misc]
    assert (0, None) == (caught.value.attempts, caught.value.__context__)


@pytest.mark.parametrize("call", ONE_ID)
async def test_a_bad_id_is_refused(vendor: aioresponses, client: DistinctClient, call: str) -> None:
    for bad in BAD_IDS:
        await assert_refused("_id", ONE_ID[call], client, bad)
    assert {} == vendor.requests


@pytest.mark.parametrize("call", ["touchpoint", "total_visits", "unique_visits"])
async def test_a_bad_experience_of_a_touchpoint_is_refused(
    vendor: aioresponses, client: DistinctClient, call: str
) -> None:
    for bad in BAD_IDS:
        if bad is not None:
            await assert_refused("experience_id", OPTIONAL[call], client, experience_id=bad)
    assert {} == vendor.requests


@pytest.mark.parametrize("call", OPTIONAL)
async def test_a_page_size_below_1_is_refused(vendor: aioresponses, client: DistinctClient, call: str) -> None:
    for bad in BAD_SIZES:
        await assert_refused("page_size", OPTIONAL[call], client, page_size=bad)
    assert {} == vendor.requests


@pytest.mark.parametrize("call", OPTIONAL)
async def test_a_negative_offset_is_refused(vendor: aioresponses, client: DistinctClient, call: str) -> None:
    for bad in BAD_OFFSETS:
        await assert_refused("offset", OPTIONAL[call], client, offset=bad)
    assert {} == vendor.requests


@pytest.mark.parametrize("call", ["total_visits", "unique_visits"])
@pytest.mark.parametrize(
    ("name", "bad"),
    [*(("limit", bad) for bad in BAD_OFFSETS), *(("prefetch", bad) for bad in BAD_SIZES), ("on_drift", "ignore")],
)
async def test_a_walk_is_refused_when_it_is_made(client: DistinctClient, call: str, name: str, bad: Any) -> None:
    with pytest.raises(InvalidRequestError, match=name):
        OPTIONAL[call](client, **{name: bad})


async def test_everything_after_the_first_id_is_keyword_only(client: DistinctClient) -> None:
    wrong: list[Callable[[Any], object]] = [
        lambda metrics: metrics.experience("exp-1", 50),
        lambda metrics: metrics.user("user-1", "exp-1"),
        lambda metrics: metrics.touchpoint("tp-1", "UNIQUE"),
        lambda metrics: metrics.total_visits("tp-1", "exp-1"),
        lambda metrics: metrics.unique_visits("tp-1", "exp-1"),
    ]
    for call in wrong:
        with pytest.raises(TypeError):
            call(client.metrics)
