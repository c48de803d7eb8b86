"""Each documented sample response, word for word in `samples/`, is read by the public API over a real socket."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from distinct_async import DistinctClient
from distinct_async.errors import APIError, BadRequestError, NotFoundError
from distinct_async.models import (
    ExperienceMetrics,
    Impression,
    Pagination,
    TouchpointMetrics,
    TouchpointSummary,
    UserMetrics,
    UserTouchpoint,
    Visit,
)

from .rig import served
from .wire.responses import whole

SAMPLES = Path(__file__).parent / "samples"
FIRST, SECOND, THIRD = (datetime(2024, 1, day, 10, tzinfo=UTC) for day in (1, 2, 3))

EXPERIENCE = ExperienceMetrics(
    total_touchpoints=2,
    touchpoints=(
        TouchpointSummary(id="tp-1", name="Entry Scan", value="entry_scan", total_visits=3, unique_visits=2),
        TouchpointSummary(id="tp-2", name="Exit Scan", value="exit_scan", total_visits=1, unique_visits=1),
    ),
)
USER = UserMetrics(
    total_touchpoints=2,
    touchpoints=(
        UserTouchpoint(id="tp-1", name="Entry Scan", value="entry_scan", total_visits=2, timestamps_utc=(FIRST, THIRD)),
    ),
)
TOTAL = TouchpointMetrics(
    id="tp-1",
    name="Entry Scan",
    value="entry_scan",
    total_visits=3,
    unique_visits=None,
    visits=(Visit("user-1", FIRST), Visit("user-2", SECOND), Visit("user-1", THIRD)),
    pagination=Pagination(offset=0, page_size=50),
)
UNIQUE = TouchpointMetrics(
    id="tp-1",
    name="Entry Scan",
    value="entry_scan",
    total_visits=None,
    unique_visits=2,
    visits=(Visit("user-1", FIRST), Visit("user-2", SECOND)),
    pagination=Pagination(offset=0, page_size=50),
)
IMPRESSION = Impression(
    id="imp_123abc",
    poster_id="poster_123abc",
    program_id="prog_123abc",
    student_id="user_123abc",
    scanned_at=datetime(2024, 1, 15, 10, 30, tzinfo=UTC),
    user_agent="Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15",
    ip_address="192.168.1.1",
    metadata={"device_type": "mobile", "location": "campus_center", "referrer": "direct"},
)
LISTED = [
    Impression(
        id="imp_123abc",
        poster_id="poster_123abc",
        program_id="prog_123abc",
        student_id="user_123abc",
        scanned_at=datetime(2024, 1, 15, 10, 30, tzinfo=UTC),
        user_agent="Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)",
        ip_address="192.168.1.1",
        metadata={"device_type": "mobile", "location": "campus_center"},
    ),
    Impression(
        id="imp_456def",
        poster_id="poster_123abc",
        program_id="prog_123abc",
        student_id="user_123abc",
        scanned_at=datetime(2024, 1, 15, 11, 15, tzinfo=UTC),
        user_agent="Mozilla/5.0 (Android 13; Mobile)",
        ip_address="192.168.1.2",
        metadata={"device_type": "mobile", "location": "library"},
    ),
]

Call = Callable[[DistinctClient], Awaitable[object]]
READ: dict[str, tuple[Call, object]] = {
    "experience": (lambda client: client.metrics.experience("exp-1"), EXPERIENCE),
    "user": (lambda client: client.metrics.user("user-1", experience_id="exp-1"), USER),
    "touchpoint_total": (lambda client: client.metrics.touchpoint("tp-1"), TOTAL),
    "touchpoint_unique": (lambda client: client.metrics.touchpoint("tp-1", visits_type="UNIQUE"), UNIQUE),
    "impression": (lambda client: client.impressions.get("imp_123abc"), IMPRESSION),
}
REFUSED: dict[str, tuple[type[APIError], int, str]] = {
    "error_400": (BadRequestError, 400, "Missing required parameter: metricsType"),
    "error_404": (NotFoundError, 404, "Experience not found"),
}


def sample(name: str) -> bytes:
    return (SAMPLES / f"{name}.json").read_bytes()


def plain(time: datetime) -> tuple[datetime, object]:
    """Times are equal across zones; these must be UTC itself."""
    return time.replace(tzinfo=None), time.tzinfo


def times(value: Any) -> list[tuple[datetime, object]]:
    found = [*getattr(value, "visits", ()), *getattr(value, "touchpoints", ()), value]
    return [
        *(plain(one.timestamp_utc) for one in found if hasattr(one, "timestamp_utc")),
        *(plain(time) for one in found for time in getattr(one, "timestamps_utc", ())),
        *(plain(one.scanned_at) for one in found if hasattr(one, "scanned_at")),
    ]


def test_each_sample_has_its_test_here() -> None:
    assert {*READ, *REFUSED, "impressions"} == {path.stem for path in SAMPLES.glob("*.json")}


@pytest.mark.parametrize("name", READ)
async def test_a_documented_answer_is_read_field_by_field(name: str) -> None:
    call, expected = READ[name]
    async with served(whole(sample(name))) as (client, server):
        value = await call(client)
    assert expected == value
    assert type(expected) is type(value)
    assert times(expected) == times(value)
    assert 1 == len(server.requests)


async def test_the_documented_list_of_impressions_is_walked() -> None:
    listed = json.loads(sample("impressions"))["impressions"]
    async with served(whole(sample("impressions")), {"impressions": listed[-1:]}) as (client, server):
        assert LISTED == await client.impressions.list().collect()
    assert 2 == len(server.requests)


@pytest.mark.parametrize(
    ("name", "rows"),
    [("touchpoint_total", TOTAL.visits), ("touchpoint_unique", UNIQUE.visits)],
    ids=["TOTAL", "UNIQUE"],
)
async def test_a_documented_page_of_visits_is_walked(name: str, rows: tuple[Visit, ...]) -> None:
    async with served(whole(sample(name))) as (client, server):
        walk = client.metrics.total_visits if name == "touchpoint_total" else client.metrics.unique_visits
        assert list(rows) == await walk("tp-1").collect()
    assert 1 == len(server.requests), "3 rows of a page of 50 are not full: nothing more is asked"


@pytest.mark.parametrize("name", REFUSED)
async def test_a_documented_refusal_keeps_the_vendors_words(name: str) -> None:
    kind, status, message = REFUSED[name]
    async with served(whole(sample(name), status)) as (client, _):
        with pytest.raises(APIError) as caught:
            await client.metrics.experience("exp-1")
    error = caught.value
    assert (kind, status, message) == (type(error), error.status, error.message)
    assert (sample(name).decode(), "distinct") == (error.body, error.vendor)
    assert message in str(error)
