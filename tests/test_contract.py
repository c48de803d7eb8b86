"""Every ambiguity of the vendors' documents: the end of each test's name is its row in docs/explanation/vendors.md.

Not tested here: A18 (an endpoint that is not called), A19 to A21 (tests/test_walk.py, tests/test_engine.py) and B16
(tests/endpoints).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from aioresponses import aioresponses
from yarl import URL

from distinct_async import DistinctClient, RetryPolicy, models
from distinct_async.errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    DecodeError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)
from distinct_async.testing import FakeServer, World

from .rig import AT_ONCE, KEY, ONCE, VANTIO_KEY, client_of, query, served
from .wire import responses
from .wire.responses import distinct, encoded, whole
from .wire.server import Exchange, FaultServer

Json = dict[str, Any]
Call = Callable[[DistinctClient], Awaitable[object]]

CALLS: dict[str, Call] = {
    "experience": lambda client: client.metrics.experience("exp-1"),
    "user": lambda client: client.metrics.user("user-1", experience_id="exp-1"),
    "touchpoint": lambda client: client.metrics.touchpoint("tp-1"),
    "unique": lambda client: client.metrics.touchpoint("tp-1", visits_type="UNIQUE"),
    "total_visits": lambda client: client.metrics.total_visits("tp-1").collect(),
    "unique_visits": lambda client: client.metrics.unique_visits("tp-1").collect(),
    "impression": lambda client: client.impressions.get("imp_123abc"),
    "impressions": lambda client: client.impressions.list().collect(),
}
DISTINCT = ["experience", "user", "touchpoint", "unique", "total_visits", "unique_visits"]
VANTIO = ["impression", "impressions"]


def touchpoint(number: int, **changes: object) -> Json:
    """A touchpoint of an EXPERIENCE response."""
    return {"id": f"tp-{number}", "name": "A", "value": "a", "totalVisits": number, "uniqueVisits": 1} | changes


def visit(minute: int, user_id: str = "user-1") -> Json:
    return {"userId": user_id, "timestampUTC": f"2024-01-01T10:{minute:02}:00Z"}


def visits(rows: list[Json], total: int | None, word: str = "total", **details: object) -> Json:
    """A TOUCHPOINT response."""
    counted = {} if total is None else {f"{word}Visits": total}
    return distinct({"touchpoints": {"id": "tp-1", **counted, f"{word}VisitsDetails": {"items": rows, **details}}})


def impression(number: int = 1, **changes: object) -> Json:
    return responses.IMPRESSION | {"id": f"imp_{number}"} | changes


def touchpoint_ids(metrics: models.ExperienceMetrics) -> list[str]:
    return [each.id for each in metrics.touchpoints]


async def failure(call: Awaitable[object]) -> APIError:
    with pytest.raises(APIError) as caught:
        await call
    return caught.value


async def misfit(call: Awaitable[object]) -> tuple[str, ...]:
    """The paths of the DecodeError in which the call ends."""
    with pytest.raises(DecodeError) as caught:
        await call
    return caught.value.paths


# -- A: Distinct


@pytest.mark.parametrize("page_size", [None, 1, 2, 4, 5, 6])
@pytest.mark.parametrize(
    "server", [{"experience_pages": True}, {"experience_pages": False}, {"experience_pages": True, "max_page_size": 2}]
)
async def test_an_experience_is_complete_whether_the_server_pages_or_not_vendors_a1(
    server: Json, page_size: int | None
) -> None:
    world = World.sample(touchpoints=5, scans=20, users=3)
    async with (
        FakeServer(world, **server) as fake,
        DistinctClient(fake.api_key, base_url=fake.url, retry=ONCE) as client,
    ):
        metrics = await client.metrics.experience("exp-1", page_size=page_size)
    assert (5, ["tp-1", "tp-2", "tp-3", "tp-4", "tp-5"]) == (metrics.total_touchpoints, touchpoint_ids(metrics))
    assert [len(world.scans(each.id)) for each in metrics.touchpoints] == [
        each.total_visits for each in metrics.touchpoints
    ]
    assert {"EXPERIENCE"} == {one.query["metricsType"] for one in fake.requests}
    assert {None if page_size is None else str(page_size)} == {one.query.get("pageSize") for one in fake.requests}
    assert [None, *sorted({one.query["offset"] for one in fake.requests[1:]})] == [
        one.query.get("offset") for one in fake.requests
    ]


async def test_all_touchpoints_at_once_cost_one_request_vendors_a1() -> None:
    async with served(responses.experience()) as (client, server):
        await client.metrics.experience("exp-1")
    assert 1 == len(server.requests)


async def test_an_ignored_offset_is_no_endless_loop_vendors_a1() -> None:
    page = distinct({"totalTouchpoints": 9, "touchpoints": [touchpoint(1), touchpoint(2)]})
    async with served(page) as (client, server):
        metrics = await client.metrics.experience("exp-1")
    assert (9, ["tp-1", "tp-2"]) == (metrics.total_touchpoints, touchpoint_ids(metrics))
    assert [None, "2"] == [query(seen).get("offset") for seen in server.requests]


async def test_a_promise_of_more_than_there_is_gives_what_there_is_vendors_a1() -> None:
    pages = [distinct({"totalTouchpoints": 9, "touchpoints": [touchpoint(n)] if n < 3 else []}) for n in (1, 2, 3)]
    async with served(*pages) as (client, server):
        metrics = await client.metrics.experience("exp-1")
    assert ["tp-1", "tp-2"] == touchpoint_ids(metrics)
    assert [None, "1", "2"] == [query(seen).get("offset") for seen in server.requests]


async def test_pages_that_overlap_give_each_touchpoint_once_and_the_offset_moves_by_what_was_received_vendors_a1() -> (
    None
):
    numbers = [(1, 2), (2, 3), (4, 5)]
    pages = [distinct({"totalTouchpoints": 5, "touchpoints": [touchpoint(n) for n in page]}) for page in numbers]
    async with served(*pages) as (client, server):
        assert [f"tp-{n}" for n in range(1, 6)] == touchpoint_ids(await client.metrics.experience("exp-1"))
    assert [None, "2", "4"] == [query(seen).get("offset") for seen in server.requests]


@pytest.mark.parametrize("refusal", [400, 404])
async def test_a_refusal_past_the_end_is_the_end_but_other_errors_are_errors_vendors_a1(refusal: int) -> None:
    page = distinct({"totalTouchpoints": 9, "touchpoints": [touchpoint(1)]})
    async with served(page, whole(b"", refusal), page, whole(b"", 500)) as (client, server):
        assert ["tp-1"] == touchpoint_ids(await client.metrics.experience("exp-1"))
        assert ServerError is type(await failure(client.metrics.experience("exp-1")))
    assert 4 == len(server.requests)


async def test_both_page_size_and_offset_can_be_sent_and_then_that_page_only_comes_vendors_a1() -> None:
    page = distinct({"totalTouchpoints": 9, "touchpoints": [touchpoint(4), touchpoint(5)]})
    async with served(page) as (client, server):
        metrics = await client.metrics.experience("exp-1", page_size=2, offset=3)
    assert (9, ["tp-4", "tp-5"]) == (metrics.total_touchpoints, touchpoint_ids(metrics))
    sent = {"metricsType": "EXPERIENCE", "experienceId": "exp-1", "pageSize": "2", "offset": "3"}
    assert [sent] == [query(seen) for seen in server.requests]


async def test_counts_are_not_held_against_lengths_vendors_a2() -> None:
    row = {"id": "tp-1", "name": "A", "value": "a", "totalVisits": 7, "timestampsUTC": ["2024-01-01T10:00:00Z"]}
    details = visits([visit(1), visit(2)], 1)
    async with served(
        distinct({"totalTouchpoints": 2, "touchpoints": [row]}),
        distinct({"totalTouchpoints": 0, "touchpoints": [touchpoint(1), touchpoint(2)]}),
        details,
        visits([visit(1)], 0),
    ) as (client, _):
        user = await client.metrics.user("user-1", experience_id="exp-1")
        assert (2, 1, 7, 1) == (
            user.total_touchpoints,
            len(user.touchpoints),
            user.touchpoints[0].total_visits,
            len(user.touchpoints[0].timestamps_utc),
        )
        experience = await client.metrics.experience("exp-1")
        assert (0, 2) == (experience.total_touchpoints, len(experience.touchpoints))
        assert (1, 2) == ((page := await client.metrics.touchpoint("tp-1")).total_visits, len(page.visits))
        assert (0, 1) == ((page := await client.metrics.touchpoint("tp-1")).total_visits, len(page.visits))


async def test_total_touchpoints_is_due_where_it_is_documented_and_nowhere_else_vendors_a3() -> None:
    nothing: Json = distinct({"touchpoints": []})
    async with served(nothing, nothing, responses.touchpoint()) as (client, _):
        assert ("$.data.totalTouchpoints",) == await misfit(CALLS["experience"](client))
        assert ("$.data.totalTouchpoints",) == await misfit(CALLS["user"](client))
        assert not hasattr(await CALLS["touchpoint"](client), "total_touchpoints")
    assert not issubclass(models.UserMetrics, models.ExperienceMetrics)


SHAPES = {
    "experience": responses.experience(),
    "user": responses.user(),
    "touchpoint": responses.touchpoint(),
    "unique": responses.touchpoint("UNIQUE"),
}


@pytest.mark.parametrize("asked", ["experience", "user", "touchpoint", "unique", "total_visits", "unique_visits"])
@pytest.mark.parametrize("given", SHAPES)
async def test_object_or_array_is_decided_by_what_was_asked_vendors_a4(asked: str, given: str) -> None:
    lists = {"experience", "user"}
    async with served(SHAPES[given]) as (client, server):
        if asked.replace("_visits", "").replace("total", "touchpoint") == given:
            assert None is not await CALLS[asked](client)
        else:
            paths = await misfit(CALLS[asked](client))
            assert all(path.startswith(("$.data.touchpoints", "$.data.totalTouchpoints")) for path in paths)
            if (asked in lists) != (given in lists):
                assert "$.data.touchpoints" in paths
    assert 1 == len(server.requests), "another shape is not tried again"


@pytest.mark.parametrize("asked", DISTINCT)
@pytest.mark.parametrize("given", [None, "tp-1", 1, True], ids=repr)
async def test_touchpoints_that_are_neither_are_named_vendors_a4(asked: str, given: object) -> None:
    async with served(distinct({"totalTouchpoints": 0, "touchpoints": given})) as (client, _):
        assert "$.data.touchpoints" in await misfit(CALLS[asked](client))


@pytest.mark.parametrize("word", ["total", "unique"])
@pytest.mark.parametrize("pagination", [{}, {"pagination": None}, {"pagination": {"offset": 0, "pageSize": 2}}])
async def test_without_a_total_in_the_paging_block_a_walk_ends_by_the_count_beside_the_list_vendors_a5(
    word: str, pagination: Json
) -> None:
    more = {"pagination": {"offset": 2, "pageSize": 2}} if pagination.get("pagination") else pagination
    first, last = visits([visit(1), visit(2)], 3, word, **pagination), visits([visit(3)], 3, word, **more)
    async with served(first, last) as (client, server):
        walk = client.metrics.total_visits if word == "total" else client.metrics.unique_visits
        rows = await walk("tp-1").collect()
    assert [1, 2, 3] == [row.timestamp_utc.minute for row in rows]
    assert [None, "2"] == [query(seen).get("offset") for seen in server.requests]


async def test_without_any_count_a_walk_ends_by_an_empty_page_vendors_a5() -> None:
    pages = [visits([visit(1), visit(2)], None), visits([visit(3)], None), visits([], None)]
    async with served(*pages) as (client, server):
        rows = await client.metrics.total_visits("tp-1").collect()
    assert [1, 2, 3] == [row.timestamp_utc.minute for row in rows]
    assert [None, "2", "3"] == [query(seen).get("offset") for seen in server.requests]


@pytest.mark.parametrize("echo", ["real", "asked", None])
async def test_a_page_size_is_sent_as_asked_and_may_be_cut_by_the_server_vendors_a6(echo: Any) -> None:
    world = World.sample(touchpoints=1, scans=100, users=9)
    async with (
        FakeServer(world, max_page_size=37, echo_page_size=echo) as fake,
        DistinctClient(fake.api_key, base_url=fake.url) as client,
    ):
        rows = await client.metrics.total_visits("tp-1", page_size=1_000_000).collect()
    assert [(scan.user_id, scan.at) for scan in world.scans("tp-1")] == [
        (row.user_id, row.timestamp_utc) for row in rows
    ]
    assert {"1000000"} == {one.query["pageSize"] for one in fake.requests}


BODIES = {
    "ours": b'{"statusCode": 403, "message": "Told so"}',
    "theirs": b'{"error": "Unauthorized", "message": "Told so"}',
    "an error alone": b'{"error": "Told so"}',
    "a problem": b'{"title": "Told so", "status": 401}',
    "an object in error": b'{"error": {"message": "Told so", "code": 7}}',
    "a text": b'"Told so"',
}
WORDLESS = {
    "none": b"",
    "not JSON": b"<h1>Told so</h1>",
    "null": b"null",
    "a list": b'["Told so"]',
    "cut": b'{"message": "Tol',
    "no UTF-8": b"\xff\xfe",
    "null words": b'{"message": null, "error": null}',
    "numbers": b'{"message": 7, "error": 8}',
}


async def assert_refused(call: str, status: int, kind: type[APIError]) -> None:
    """Whatever stands in the body, the error is this one; it has the vendor's words if there are any."""
    for name, body in (BODIES | WORDLESS).items():
        async with served(whole(body, status, content_type=None)) as (client, server):
            error = await failure(CALLS[call](client))
        vendor = "distinct" if call in DISTINCT else "vantio"
        assert (kind, status, vendor) == (type(error), error.status, error.vendor), name
        assert body.decode(errors="replace") == error.body
        assert (name in BODIES) == (error.message == "Told so"), name
        assert (name in BODIES) == ("Told so" in str(error)), name
        assert 1 == len(server.requests)


@pytest.mark.parametrize(("status", "kind"), [(401, AuthenticationError), (403, PermissionDeniedError)])
async def test_401_and_403_are_reported_apart_by_the_status_whatever_the_body_vendors_a7(
    status: int, kind: type[APIError]
) -> None:
    await assert_refused("experience", status, kind)


@pytest.mark.parametrize("name", ["experience", "user", "touchpoint"])
@pytest.mark.parametrize(
    "message", ["Experience not found", "Nutzer unbekannt: ü", "  spaced\tout ", "404", "User not found"]
)
async def test_a_404_is_kept_word_for_word_and_never_interpreted_vendors_a8(name: str, message: str) -> None:
    async with served(whole({"statusCode": 404, "message": message}, 404)) as (client, _):
        error = await failure(CALLS[name](client))
    assert (NotFoundError, message) == (type(error), error.message)


async def test_nothing_scanned_may_be_empty_lists_zeros_or_a_404_vendors_a9() -> None:
    empty: Json = distinct({"totalTouchpoints": 0, "touchpoints": []})
    unscanned = distinct({"totalTouchpoints": 1, "touchpoints": [touchpoint(1, totalVisits=0, uniqueVisits=0)]})
    async with served(
        empty, empty, unscanned, visits([], 0), visits([], 0, "unique"), whole({"message": "User not found"}, 404)
    ) as (client, server):
        assert models.ExperienceMetrics(0, ()) == await CALLS["experience"](client)
        assert models.UserMetrics(0, ()) == await CALLS["user"](client)
        (only,) = (await client.metrics.experience("exp-1")).touchpoints
        assert (0, 0) == (only.total_visits, only.unique_visits)
        assert (0, ()) == ((page := await client.metrics.touchpoint("tp-1")).total_visits, page.visits)
        assert [] == await CALLS["unique_visits"](client)
        assert NotFoundError is type(await failure(CALLS["user"](client)))
    assert 6 == len(server.requests)


@pytest.mark.parametrize("call", ["touchpoint", "total_visits", "unique_visits"])
async def test_an_experience_of_a_touchpoint_is_passed_on_untouched_vendors_a10(call: str) -> None:
    word, visits_type = ("unique", "UNIQUE") if call == "unique_visits" else ("total", "TOTAL")
    page = visits([visit(1)], 9, word)
    async with served(page, visits([visit(2)], 9, word)) as (client, server):
        if call == "touchpoint":
            await client.metrics.touchpoint("tp-1", experience_id=" eXp/1&")
        else:
            await getattr(client.metrics, call)("tp-1", experience_id=" eXp/1&", limit=2, prefetch=1).collect()
    asked = {"metricsType": "TOUCHPOINT", "touchpointId": "tp-1", "experienceId": " eXp/1&", "visitsType": visits_type}
    assert [asked, asked | {"offset": "1"}][: len(server.requests)] == [query(seen) for seen in server.requests]
    assert (1 if call == "touchpoint" else 2) == len(server.requests)


async def test_the_servers_order_is_kept_vendors_a11() -> None:
    down, mixed = [visit(3), visit(2), visit(1)], [visit(2), visit(3), visit(1)]
    times = ["2024-01-03T10:00:00Z", "2024-01-01T10:00:00Z", "2024-01-02T10:00:00Z"]
    row = {"id": "tp-1", "totalVisits": 3, "timestampsUTC": times}
    async with served(
        visits(down, 3),
        visits(mixed, 3, pagination={"offset": 0, "pageSize": 50}),
        distinct({"totalTouchpoints": 1, "touchpoints": [row]}),
        distinct({"totalTouchpoints": 2, "touchpoints": [touchpoint(2), touchpoint(1)]}),
    ) as (client, _):
        assert [3, 2, 1] == [each.timestamp_utc.minute for each in (await client.metrics.touchpoint("tp-1")).visits]
        assert [2, 3, 1] == [each.timestamp_utc.minute async for each in client.metrics.total_visits("tp-1")]
        (only,) = (await client.metrics.user("user-1", experience_id="exp-1")).touchpoints
        assert [3, 1, 2] == [time.day for time in only.timestamps_utc]
        assert ["tp-2", "tp-1"] == touchpoint_ids(await client.metrics.experience("exp-1"))


@pytest.mark.parametrize(
    "key", ["k", "sk_of_another_vendor", "a b:c=d/e+f", "8c1d1a8e-0b6f-4c54-9d5e-2f6f1f0f5f11", "~" * 900]
)
async def test_a_key_has_no_form_and_goes_into_one_header_as_it_is_vendors_a12(key: str) -> None:
    async with FaultServer() as server, DistinctClient(key, base_url=server.url) as client:
        await CALLS["experience"](client)
    (seen,) = server.requests
    assert (key, None) == (seen.headers["x-distinct-api-key"], seen.headers.get("authorization"))


async def test_ids_are_ids_and_no_values_and_keep_their_case_vendors_a13() -> None:
    named = responses.touchpoint()
    named["data"]["touchpoints"]["id"] = "entry_SCAN"
    async with served(responses.experience(), responses.user(), named) as (client, server):
        await client.metrics.experience("47Gop5")
        await client.metrics.user("User-1", experience_id="experience-2024")
        await client.metrics.touchpoint("entry_SCAN")
    assert ["47Gop5", "experience-2024", None] == [query(seen).get("experienceId") for seen in server.requests]
    assert [None, "User-1", None] == [query(seen).get("userId") for seen in server.requests]
    assert [None, None, "entry_SCAN"] == [query(seen).get("touchpointId") for seen in server.requests]
    with pytest.raises(TypeError):
        await client.metrics.experience(experience_value="experience-2024")  # type: ignore[call-arg]


@pytest.mark.parametrize("prefix", ["", "/", "/gateway", "/gateway/", "/a/b%20c//"])
async def test_the_version_is_in_the_path_and_the_base_url_is_what_stands_before_it_vendors_a14(prefix: str) -> None:
    async with FaultServer() as server:
        urls = {"base_url": server.url + prefix, "vantio_base_url": server.url + prefix}
        async with client_of(server, **urls) as client:
            for name in ("experience", "user", "touchpoint", "total_visits"):
                server.script()
                await CALLS[name](client)
    assert {prefix.rstrip("/") + "/v3/touchpoint/metrics"} == {seen.path for seen in server.requests}


@pytest.mark.parametrize("name", DISTINCT)
async def test_data_may_be_empty_or_null_and_then_the_missing_is_named_vendors_a15(name: str) -> None:
    async with served(distinct({}), distinct(None), {"statusCode": 200}) as (client, _):
        assert all(path.startswith("$.data.") for path in await misfit(CALLS[name](client)))
        assert ("$.data",) == await misfit(CALLS[name](client))
        assert ("$.data",) == await misfit(CALLS[name](client))


@pytest.mark.parametrize("name", DISTINCT)
@pytest.mark.parametrize(
    ("stated", "kind"), [(400, BadRequestError), (401, AuthenticationError), (404, NotFoundError), (500, ServerError)]
)
async def test_an_envelope_that_says_no_overrules_http_vendors_a15(
    name: str, stated: int, kind: type[APIError]
) -> None:
    data: list[Json] = [{}, {"data": None}, {"data": responses.experience()["data"]}]
    async with served(*({"statusCode": stated, "message": "No", **more} for more in data)) as (client, _):
        for _ in data:
            error = await failure(CALLS[name](client))
            assert (kind, stated, "No") == (type(error), error.status, error.message)


async def test_http_that_says_no_is_not_overruled_by_an_envelope_vendors_a15() -> None:
    async with served(whole(responses.experience(), 404)) as (client, _):
        error = await failure(CALLS["experience"](client))
    assert (NotFoundError, 404) == (type(error), error.status)


async def test_a_status_in_vantios_bare_object_is_no_envelope_vendors_a15() -> None:
    async with served(impression(statusCode=500)) as (client, _):
        assert "imp_1" == (await client.impressions.get("imp_1")).id


def places(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every object in a JSON value."""
    if isinstance(value, dict):
        yield place
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*place, key))


def with_unknown(value: Json, place: tuple[str | int, ...]) -> Json:
    copy: Json = json.loads(json.dumps(value))
    target: Any = copy
    for step in place:
        target = target[step]
    target["unknown"] = {"a": [1, None, {"b": "c"}]}
    return copy


@pytest.mark.parametrize("name", [*SHAPES, "impression"])
async def test_unknown_keys_are_ignored_wherever_they_stand_vendors_a16_a17(name: str) -> None:
    sample = {**SHAPES, "impression": responses.IMPRESSION}[name]
    async with served(sample) as (client, server):
        expected = await CALLS[name](client)
        tried = [place for place in places(sample) if place != ("metadata",)]
        for place in tried:
            async with served(with_unknown(sample, place)) as (other, _):
                assert expected == await CALLS[name](other), place
    assert (1, 1) <= (len(tried), len(server.requests))


@pytest.mark.parametrize("field", ["name", "value"])
@pytest.mark.parametrize("name", SHAPES)
async def test_names_and_values_may_be_null_or_absent_alike_vendors_a16(name: str, field: str) -> None:
    absent: Json = json.loads(json.dumps(SHAPES[name]))
    inner = absent["data"]["touchpoints"]
    del (inner[0] if isinstance(inner, list) else inner)[field]
    null: Json = json.loads(json.dumps(absent))
    inner = null["data"]["touchpoints"]
    (inner[0] if isinstance(inner, list) else inner)[field] = None
    async with served(absent, null) as (client, _):
        first, second = await CALLS[name](client), await CALLS[name](client)
    assert first == second
    value: Any = first
    assert None is getattr(value.touchpoints[0] if hasattr(value, "touchpoints") else value, field)


DUE = [
    ("experience", "touchpoints[0]", ["id", "totalVisits", "uniqueVisits"]),
    ("user", "touchpoints[0]", ["id", "totalVisits", "timestampsUTC"]),
    ("touchpoint", "touchpoints", ["id", "totalVisits", "totalVisitsDetails"]),
    ("unique", "touchpoints", ["id", "uniqueVisits", "uniqueVisitsDetails"]),
]


@pytest.mark.parametrize(
    ("name", "place", "field"), [(name, place, field) for name, place, due in DUE for field in due]
)
async def test_ids_counts_and_lists_are_due_vendors_a16(name: str, place: str, field: str) -> None:
    absent: Json = json.loads(json.dumps(SHAPES[name]))
    inner = absent["data"]["touchpoints"]
    del (inner[0] if isinstance(inner, list) else inner)[field]
    null: Json = json.loads(json.dumps(absent))
    inner = null["data"]["touchpoints"]
    (inner[0] if isinstance(inner, list) else inner)[field] = None
    async with served(absent, null) as (client, _):
        assert (f"$.data.{place}.{field}",) == await misfit(CALLS[name](client))
        assert (f"$.data.{place}.{field}",) == await misfit(CALLS[name](client))


@pytest.mark.parametrize(
    ("details", "place"),
    [
        ({}, "totalVisitsDetails"),
        ({"totalVisitsDetails": None}, "totalVisitsDetails"),
        ({"totalVisitsDetails": {}}, "totalVisitsDetails.items"),
        ({"totalVisitsDetails": {"items": None, "pagination": None}}, "totalVisitsDetails.items"),
    ],
    ids=str,
)
async def test_items_may_be_missing_only_where_the_count_is_0_vendors_a16(details: Json, place: str) -> None:
    def page(**count: int) -> Json:
        return distinct({"touchpoints": {"id": "tp-1", **count, **details}})

    none, one, unknown = page(totalVisits=0), page(totalVisits=1), page()
    async with served(none, none, one, one, unknown) as (client, _):
        assert (0, ()) == ((empty := await client.metrics.touchpoint("tp-1")).total_visits, empty.visits)
        assert [] == await CALLS["total_visits"](client)
        assert (f"$.data.touchpoints.{place}",) == await misfit(CALLS["touchpoint"](client))
        assert (f"$.data.touchpoints.{place}",) == await misfit(CALLS["total_visits"](client))
        assert f"$.data.touchpoints.{place}" in await misfit(CALLS["total_visits"](client))


async def test_values_that_no_document_lists_do_not_crash_vendors_a17() -> None:
    async with served(
        {**responses.experience(), "message": None, "statusCode": 206},
        {**responses.experience(), "message": ["new"], "statusCode": "OK"},
        whole({"statusCode": 418, "message": "Teapot", "code": "NEW"}, 418),
        whole({"statusCode": 599, "message": "Odd"}, 599),
        whole(encoded(responses.experience()), 203, content_type="application/vnd.new+json"),
    ) as (client, _):
        assert ["tp-1", "tp-2"] == touchpoint_ids(await client.metrics.experience("exp-1"))
        assert ["tp-1", "tp-2"] == touchpoint_ids(await client.metrics.experience("exp-1"))
        assert (APIError, 418, "Teapot") == (type(e := await failure(CALLS["user"](client))), e.status, e.message)
        assert (ServerError, 599) == (type(e := await failure(CALLS["user"](client))), e.status)
        assert ["tp-1", "tp-2"] == touchpoint_ids(await client.metrics.experience("exp-1"))


# -- B: Vantio


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("base", ["http://localhost:3000", "https://api.vantio.app", "https://vantio.app"])
async def test_each_of_the_three_base_urls_works_with_and_without_a_slash_vendors_b1(base: str, slash: str) -> None:
    with aioresponses() as vendor:
        vendor.get(f"{base}/api/v1/impressions/imp_123abc", payload=responses.IMPRESSION)
        vendor.get(f"{base}/api/v1/impressions", payload={"impressions": []})
        async with DistinctClient(vantio_api_key=VANTIO_KEY, vantio_base_url=base + slash) as client:
            await CALLS["impression"](client)
            await CALLS["impressions"](client)
    assert 2 == len(vendor.requests)


async def test_the_newest_of_them_is_the_default_vendors_b1() -> None:
    with aioresponses() as vendor:
        vendor.get("https://vantio.app/api/v1/impressions/imp_123abc", payload=responses.IMPRESSION)
        async with DistinctClient(vantio_api_key=VANTIO_KEY) as client:
            await CALLS["impression"](client)


async def test_the_ambassador_is_no_campus_number_vendors_b2() -> None:
    async with served(impression(student_id="user_9", metadata={"student_id": "STU-2024-001"})) as (client, _):
        found = await client.impressions.get("imp_1")
    assert ("user_9", "STU-2024-001") == (found.student_id, found.metadata["student_id"])


async def test_the_id_is_in_the_path_the_filters_in_the_query_and_the_body_is_empty_vendors_b3_b6() -> None:
    heads: list[Mapping[str, str]] = []

    async def look(exchange: Exchange) -> None:
        heads.append(exchange.seen.headers)
        await exchange.send(whole(responses.correct(exchange.seen.target)))

    async with served(look) as (client, server):
        await client.impressions.get("imp_123abc")
        await client.impressions.list(program_id="prog_1", poster_id="poster_1", page_size=7, offset=1).collect()
    get, listed = server.requests
    assert ("/api/v1/impressions/imp_123abc", {}) == (get.target, query(get))
    assert "/api/v1/impressions" == listed.path
    assert {"programId": "prog_1", "posterId": "poster_1", "limit": "7", "offset": "1"} == query(listed)
    assert [f"Bearer {VANTIO_KEY}"] * 2 == [head["authorization"] for head in heads]
    assert [None, None] == [head.get("content-length") for head in heads]


ODD = ["a/b", "a?b", "a#b", "%2F", "%2e%2e", "...", "a b", "a+b", "ä€😀", "a;b=c", "a:b@c", "\\", "a&b=c", "*", "~x"]


@pytest.mark.parametrize("impression_id", ODD)
async def test_an_id_is_one_segment_of_the_path_vendors_b3(impression_id: str) -> None:
    world = World()
    world.add_impression(impression_id)
    async with (
        FakeServer(world) as fake,
        DistinctClient(vantio_api_key=fake.vantio_api_key, vantio_base_url=fake.url) as client,
    ):
        assert impression_id == (await client.impressions.get(impression_id)).id
    assert [4] == [one.path.count("/") for one in fake.requests]


@pytest.mark.parametrize("call", VANTIO)
async def test_a_404_needs_no_body_that_we_know_vendors_b4(call: str) -> None:
    await assert_refused(call, 404, NotFoundError)


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({}, {}),
        ({"program_id": "prog_1"}, {"programId": "prog_1"}),
        ({"poster_id": "poster_1"}, {"posterId": "poster_1"}),
        ({"page_size": 5}, {"limit": "5"}),
        ({"offset": 5}, {"offset": "5"}),
        ({"offset": 0, "limit": 3}, {}),
    ],
    ids=str,
)
async def test_the_filters_are_camel_case_and_only_those_asked_for_are_sent_vendors_b5(asked: Json, sent: Json) -> None:
    async with served({"impressions": []}) as (client, server):
        await client.impressions.list(**asked).collect()
    assert [sent] == [query(seen) for seen in server.requests]


async def test_a_list_ends_by_an_empty_page_and_not_by_a_short_one_vendors_b7() -> None:
    # Each page begins with the last row of the one before
    numbers: list[list[int]] = [[1, 2, 3], [3, 4], [4, 5, 6], [6, 7], [7], []]
    pages = [{"impressions": [impression(n) for n in page]} for page in numbers]
    async with served(*pages) as (client, server):
        found = await client.impressions.list(page_size=3).collect()
    assert [f"imp_{n}" for n in range(1, 8)] == [one.id for one in found]
    assert [None, "2", "3", "5", "6", "7"] == [query(seen).get("offset") for seen in server.requests]
    assert {"3"} == {query(seen)["limit"] for seen in server.requests}


@pytest.mark.parametrize("page_size", [100, 101, 5_000])
async def test_more_than_100_may_be_asked_for_and_a_cut_page_loses_nothing_vendors_b8(page_size: int) -> None:
    world = World.sample(touchpoints=1, scans=250, users=9)
    async with (
        FakeServer(world) as fake,
        DistinctClient(vantio_api_key=fake.vantio_api_key, vantio_base_url=fake.url) as client,
    ):
        found = await client.impressions.list(page_size=page_size).collect()
    assert list(world.impressions) == [one.id for one in found]
    assert {str(page_size)} == {one.query["limit"] for one in fake.requests}
    assert [None, "99", "198", "249"] == [one.query.get("offset") for one in fake.requests]


@pytest.mark.parametrize("field", ["user_agent", "ip_address", "metadata"])
async def test_absent_and_null_are_alike_vendors_b9(field: str) -> None:
    null = impression() | {field: None}
    absent = {key: value for key, value in null.items() if key != field}
    last = {**absent, "id": "imp_2"}
    listing, end = {"impressions": [null, last]}, {"impressions": [last]}
    async with served(null, absent, listing, end, impression_cache=0) as (client, _):
        first, second = await client.impressions.get("imp_1"), await client.impressions.get("imp_1")
        listed = await client.impressions.list().collect()
    assert [{} if field == "metadata" else None] * 4 == [getattr(one, field) for one in (first, second, *listed)]
    assert first == second


@pytest.mark.parametrize(
    "metadata",
    [{}, {"n": 1, "f": 1.5, "b": True, "x": None, "deep": {"list": [1, {"a": []}]}, "": "", "ü": "ü"}],
    ids=str,
)
async def test_metadata_is_whatever_it_is_vendors_b10(metadata: Json) -> None:
    async with served(impression(metadata=metadata)) as (client, _):
        assert metadata == (await client.impressions.get("imp_1")).metadata


async def test_what_stands_in_a_list_is_not_taken_for_the_whole_vendors_b11() -> None:
    short = impression(user_agent="short", metadata={})
    async with served({"impressions": [short]}, {"impressions": []}, impression(user_agent="long")) as (client, server):
        (listed,) = await client.impressions.list().collect()
        assert ("short", "long") == (listed.user_agent, (await client.impressions.get("imp_1")).user_agent)
    assert 3 == len(server.requests)


@pytest.mark.parametrize(("status", "kind"), [(401, AuthenticationError), (403, PermissionDeniedError)])
async def test_both_401_and_403_have_their_error_vendors_b13(status: int, kind: type[APIError]) -> None:
    await assert_refused("impression", status, kind)


@pytest.mark.parametrize("call", ["experience", "impression"])
async def test_a_429_is_a_rate_limit_whose_headers_can_be_read_vendors_b12(call: str) -> None:
    limits = [("X-RateLimit-Remaining", "0"), ("x-ratelimit-reset", "17"), ("X-Request-Id", "req-1")]
    async with served(whole({"message": "Slow down"}, 429, *limits)) as (client, _):
        error = await failure(CALLS[call](client))
    assert isinstance(error, RateLimitError)
    assert (429, "Slow down", "req-1", None) == (error.status, error.message, error.request_id, error.retry_after)
    assert ("0", "17") == (error.headers["x-ratelimit-remaining"], error.headers["X-RATELIMIT-RESET"])


@pytest.mark.parametrize("call", ["experience", "impression"])
async def test_a_429_is_waited_for_and_a_long_one_is_reported_vendors_b12(call: str) -> None:
    long, short = (whole(b"", 429, ("Retry-After", seconds)) for seconds in ("3600", "0"))
    async with served(short, short, responses.experience() | responses.IMPRESSION, retry=AT_ONCE) as (client, server):
        await CALLS[call](client)
        assert 3 == len(server.requests)
    async with served(long, retry=RetryPolicy(attempts=9)) as (client, server):
        assert 3600 == (await failure(CALLS[call](client))).retry_after
        assert 1 == len(server.requests)


@pytest.mark.parametrize("when", ["1999-12-31T23:59:59Z", "2999-01-01T00:00:00Z", "2024-01-15T10:30:00.123456+02:00"])
async def test_nothing_is_concluded_from_a_time_vendors_b14(when: str) -> None:
    async with served(impression(scanned_at=when)) as (client, _):
        found = await client.impressions.get("imp_1")
    assert (datetime.fromisoformat(when).astimezone(UTC), UTC) == (found.scanned_at, found.scanned_at.tzinfo)


@pytest.mark.parametrize("address", ["2001:db8::1", "::ffff:192.0.2.1", "192.0.2.1, 10.0.0.1", "unknown", "", None])
async def test_an_address_is_a_text_and_is_not_read_vendors_b15(address: str | None) -> None:
    async with served(impression(ip_address=address)) as (client, _):
        assert address == (await client.impressions.get("imp_1")).ip_address


# -- exactly what goes over the wire

EXPERIENCE = {"metricsType": "EXPERIENCE", "experienceId": "exp-1"}
USER = {"metricsType": "USER", "experienceId": "exp-1", "userId": "user-1"}
TOTAL = {"metricsType": "TOUCHPOINT", "touchpointId": "tp-1", "visitsType": "TOTAL"}
UNIQUE = {"metricsType": "TOUCHPOINT", "touchpointId": "tp-1", "visitsType": "UNIQUE"}
WIRE: list[tuple[str, Call, Json]] = [
    ("experience", CALLS["experience"], EXPERIENCE),
    ("experience, paged", lambda c: c.metrics.experience("exp-1", page_size=1), EXPERIENCE | {"pageSize": "1"}),
    ("experience, first", lambda c: c.metrics.experience("exp-1", offset=0), EXPERIENCE),
    ("experience, offset", lambda c: c.metrics.experience("exp-1", offset=2), EXPERIENCE | {"offset": "2"}),
    ("user", CALLS["user"], USER),
    ("touchpoint", CALLS["touchpoint"], TOTAL),
    ("touchpoint, UNIQUE", CALLS["unique"], UNIQUE),
    (
        "touchpoint, paged",
        lambda c: c.metrics.touchpoint("tp-1", page_size=10, offset=0, experience_id="exp-1"),
        TOTAL | {"pageSize": "10", "offset": "0", "experienceId": "exp-1"},
    ),
    ("walk", CALLS["total_visits"], TOTAL),
    ("walk, UNIQUE", CALLS["unique_visits"], UNIQUE),
    ("walk, sized", lambda c: c.metrics.total_visits("tp-1", page_size=10).collect(), TOTAL | {"pageSize": "10"}),
    ("walk, from 2", lambda c: c.metrics.total_visits("tp-1", offset=2).collect(), TOTAL | {"offset": "2"}),
    ("walk, limited", lambda c: c.metrics.total_visits("tp-1", limit=1).collect(), TOTAL),
    ("first page", lambda c: c.metrics.unique_visits("tp-1", page_size=9)._first(), UNIQUE | {"pageSize": "9"}),
]


@pytest.mark.parametrize(("call", "sent"), [pytest.param(call, sent, id=name) for name, call, sent in WIRE])
async def test_exactly_the_parameters_of_the_document_are_sent(call: Call, sent: Json) -> None:
    async with served() as (client, server):
        await call(client)
    (seen,) = server.requests
    assert ("/v3/touchpoint/metrics", sent) == (seen.path, query(seen))


async def test_later_pages_ask_for_the_same_and_an_offset() -> None:
    world = World.sample(touchpoints=1, scans=30, users=5)
    async with FakeServer(world) as fake, DistinctClient(fake.api_key, base_url=fake.url) as client:
        await client.metrics.unique_visits("tp-1", page_size=2).collect()
    assert [UNIQUE | {"pageSize": "2"} | ({"offset": offset} if offset != "0" else {}) for offset in "024"] == [
        dict(one.query) for one in fake.requests
    ]


async def test_each_key_goes_to_its_own_vendor_in_its_own_header() -> None:
    async with (
        FaultServer() as distinct_,
        FaultServer() as vantio,
        client_of(distinct_, vantio_base_url=vantio.url) as client,
    ):
        for call in CALLS.values():
            await call(client)
    assert {("/v3/touchpoint/metrics", KEY, None)} == {
        (seen.path, seen.headers.get("x-distinct-api-key"), seen.headers.get("authorization"))
        for seen in distinct_.requests
    }
    assert {(None, f"Bearer {VANTIO_KEY}")} == {
        (seen.headers.get("x-distinct-api-key"), seen.headers.get("authorization")) for seen in vantio.requests
    }
    targets = [seen.target for seen in (*distinct_.requests, *vantio.requests)]
    assert [] == [target for target in targets if KEY in target or VANTIO_KEY in target]
    assert {"application/json"} == {seen.headers["accept"] for seen in (*distinct_.requests, *vantio.requests)}


async def test_ids_in_a_query_are_quoted_whole() -> None:
    async with served() as (client, server):
        await client.metrics.user("a&userId=b+ü/", experience_id="e=1#?%20")
    (seen,) = server.requests
    assert {"metricsType": "USER", "experienceId": "e=1#?%20", "userId": "a&userId=b+ü/"} == query(seen)
    assert URL(seen.target, encoded=True).raw_query_string == urlsplit(seen.target).query
    assert "userId=a%26userId%3Db%2B%C3%BC%2F" in seen.target


@pytest.mark.parametrize("visits_type", ["total", "", "ALL", None, 1])
async def test_another_visits_type_is_refused_before_it_is_sent(visits_type: Any) -> None:
    async with served() as (client, server):
        with pytest.raises(InvalidRequestError):
            await client.metrics.touchpoint("tp-1", visits_type=visits_type)
    assert 0 == server.connections
