"""Answers that say no, or say something else than documented: each row of the table "The response is no"."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from distinct_async import RetryPolicy
from distinct_async.errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    DecodeError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)

from . import responses
from .checks import (
    BOTH_VENDORS,
    EXPERIENCE,
    IMPRESSION,
    TOUCHPOINT,
    USER,
    USER_ID,
    Ask,
    Build,
    assert_correct,
    assert_recovers,
    failure,
)
from .responses import Json, whole
from .server import FaultServer, say

if TYPE_CHECKING:
    from distinct_async import DistinctClient

pytestmark = pytest.mark.usefixtures("_no_debug")

UNIQUE = Ask("metrics.touchpoint", "distinct", lambda c: c.metrics.touchpoint("tp-1", visits_type="UNIQUE"))
IMPRESSIONS = Ask("impressions.list", "vantio", lambda client: client.impressions.list(page_size=2))


def no(status: int, message: str, *headers: tuple[str, str]) -> bytes:
    return whole({"statusCode": status, "message": message}, status, *headers)


# -- the refusals


@BOTH_VENDORS
@pytest.mark.parametrize(
    ("status", "message", "due", "attempts"),
    [
        (400, "Missing required parameter: metricsType", BadRequestError, 1),
        (401, "Invalid or missing API key", AuthenticationError, 1),
        (402, "Pay first", APIError, 1),
        (403, "Forbidden", PermissionDeniedError, 1),
        (404, "Experience not found", NotFoundError, 1),
        (405, "Method not allowed", APIError, 1),
        (408, "Too slow", APIError, 3),
        (409, "Conflict", APIError, 1),
        (410, "Gone", APIError, 1),
        (418, "A teapot, — für immer", APIError, 1),
        (422, "Not a page size", BadRequestError, 1),
        (425, "Too early", APIError, 3),
        (429, "Slow down", RateLimitError, 3),
        (500, "Internal server error", ServerError, 3),
        (501, "Not implemented", ServerError, 1),
        (502, "Bad gateway", ServerError, 3),
        (503, "Unavailable", ServerError, 3),
        (504, "Gateway timeout", ServerError, 3),
        (505, "No such version", ServerError, 1),
        (599, "Nobody knows", ServerError, 1),
    ],
)
async def test_a_refusal_ends_in_the_error_of_its_status(
    server: FaultServer,
    client: DistinctClient,
    ask: Ask,
    status: int,
    message: str,
    due: type[APIError],
    attempts: int,
) -> None:
    server.steady = say(no(status, message, ("X-Request-Id", "req-1")))
    error = await failure(ask.call(client))
    assert isinstance(error, APIError)
    assert (due, status, message, "req-1") == (type(error), error.status, error.message, error.request_id)
    assert attempts == len(server.requests)
    assert str(status) in str(error)
    assert "req-1" == error.headers["x-request-id"]
    assert message in json.loads(error.body)["message"]
    assert_correct(error, ask, attempts)
    await assert_recovers(client, server, ask)


async def test_a_403_asks_for_the_allowlist(server: FaultServer, client: DistinctClient) -> None:
    server.steady = say(whole(b"", 403))
    error = await failure(USER.call(client))
    assert PermissionDeniedError is type(error)
    assert "IP address" in str(error)
    await assert_recovers(client, server, USER)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param({"error": "Not Found", "message": "Impression not found"}, "Impression not found", id="vantio"),
        pytest.param({"error": "Not Found"}, "Not Found", id="error only"),
        pytest.param({"error": {"message": "inside"}}, "inside", id="nested"),
        pytest.param(b"Not here", "Not here", id="text"),
    ],
)
async def test_the_words_of_a_refusal_are_read_leniently(
    server: FaultServer, client: DistinctClient, body: Json | bytes, message: str
) -> None:
    server.steady = say(whole(body, 404))
    error = await failure(IMPRESSION.call(client))
    assert isinstance(error, NotFoundError)
    assert message == error.message
    assert 1 == len(server.requests)
    assert_correct(error, IMPRESSION, 1)
    await assert_recovers(client, server, IMPRESSION)


@BOTH_VENDORS
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"message": 7}', b"\xff\xfe", b"[" * 100_000, b"0"])
async def test_a_refusal_needs_no_words(server: FaultServer, client: DistinctClient, ask: Ask, body: bytes) -> None:
    server.steady = say(whole(body, 404))
    error = await failure(ask.call(client))
    assert NotFoundError is type(error)
    assert 1 == len(server.requests)
    assert_correct(error, ask, 1)
    await assert_recovers(client, server, ask)


async def test_problem_json_gives_its_title_and_detail(server: FaultServer, client: DistinctClient) -> None:
    problem = {"type": "about:blank", "title": "Out of order", "detail": "The disk is full", "status": 500}
    server.steady = say(whole(problem, 500, content_type="application/problem+json"))
    error = await failure(USER.call(client))
    assert isinstance(error, ServerError)
    assert [True, True] == [words in error.message for words in ("Out of order", "The disk is full")]
    assert_correct(error, USER, 3)
    await assert_recovers(client, server, USER)


@pytest.mark.parametrize(
    ("stated", "due", "attempts"),
    [
        (400, BadRequestError, 1),
        (401, AuthenticationError, 1),
        (404, NotFoundError, 1),
        pytest.param("404", NotFoundError, 1, id="404 as a text"),
        (429, RateLimitError, 3),
        (500, ServerError, 3),
    ],
)
async def test_an_envelope_that_says_no_overrules_a_200(
    server: FaultServer, client: DistinctClient, stated: int | str, due: type[APIError], attempts: int
) -> None:
    server.steady = say(whole({"statusCode": stated, "message": "Not so"}, 200))
    error = await failure(USER.call(client))
    assert isinstance(error, APIError)
    assert (due, int(stated), "Not so") == (type(error), error.status, error.message)
    assert attempts == len(server.requests)
    assert_correct(error, USER, attempts)
    await assert_recovers(client, server, USER)


@pytest.mark.parametrize("stated", [None, "200", 200, 201, "none"], ids=repr)
async def test_an_envelope_without_a_plain_status_is_accepted(
    server: FaultServer, client: DistinctClient, stated: int | str | None
) -> None:
    body = {name: value for name, value in responses.user().items() if name != "statusCode"}
    server.script(say(whole(body if stated == "none" else {**body, "statusCode": stated})))
    await USER.call(client)
    assert 1 == len(server.requests)
    await assert_recovers(client, server, USER)


@BOTH_VENDORS
@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_failure_that_passes_costs_one_request_each_time(
    server: FaultServer, build: Build, ask: Ask, status: int, times: int
) -> None:
    client = build(retry=RetryPolicy(attempts=4, base=0, cap=0))
    server.script(*[say(no(status, "Not now"))] * times)
    assert None is not await ask.call(client)
    assert times + 1 == len(server.requests)
    await assert_recovers(client, server, USER)


# -- Retry-After

HOUR = timedelta(hours=1)
DATES: dict[str, str] = {
    "IMF-fixdate": "%a, %d %b %Y %H:%M:%S GMT",
    "RFC 850": "%A, %d-%b-%y %H:%M:%S GMT",
    "asctime": "%a %b %d %H:%M:%S %Y",
    "without a zone": "%a, %d %b %Y %H:%M:%S",
}
dates = pytest.mark.parametrize("form", DATES.values(), ids=DATES)
both_throttles = pytest.mark.parametrize("status", [429, 503])


@dates
@both_throttles
async def test_a_date_too_far_away_ends_the_call_at_once_and_says_how_far(
    server: FaultServer, build: Build, form: str, status: int
) -> None:
    client = build(retry=RetryPolicy(attempts=3, base=0, cap=0, max_retry_after=60))
    server.steady = say(no(status, "Later", ("Retry-After", (datetime.now(UTC) + HOUR).strftime(form))))
    error = await failure(USER.call(client))
    assert isinstance(error, RateLimitError if status == 429 else ServerError)
    assert error.retry_after is not None
    assert 3590 < error.retry_after <= 3600
    assert 1 == len(server.requests)
    assert_correct(error, USER, 1)
    await assert_recovers(client, server, USER)


@BOTH_VENDORS
@both_throttles
async def test_seconds_above_the_limit_end_the_call_at_once_and_hold_nobody_else(
    server: FaultServer, build: Build, ask: Ask, status: int
) -> None:
    client = build(retry=RetryPolicy(attempts=3, base=0, cap=0, max_retry_after=60))
    server.steady = say(no(status, "Later", ("Retry-After", "61")))
    error = await failure(ask.call(client))
    assert isinstance(error, APIError)
    assert 61 == error.retry_after
    assert 1 == len(server.requests)
    assert_correct(error, ask, 1)
    started = time.monotonic()
    await assert_recovers(client, server, ask)
    assert time.monotonic() - started < 5


@dates
async def test_a_date_that_has_passed_is_no_wait(server: FaultServer, build: Build, form: str) -> None:
    client = build(retry=RetryPolicy(attempts=2, base=20, cap=20))
    server.script(say(no(429, "Later", ("Retry-After", (datetime.now(UTC) - HOUR).strftime(form)))))
    started = time.monotonic()
    await USER.call(client)
    assert time.monotonic() - started < 2
    assert 2 == len(server.requests)
    await assert_recovers(client, server, USER)


async def test_zero_seconds_are_no_wait(server: FaultServer, build: Build) -> None:
    client = build(retry=RetryPolicy(attempts=2, base=20, cap=20))
    server.script(say(no(429, "Later", ("Retry-After", "0"))))
    started = time.monotonic()
    await USER.call(client)
    assert time.monotonic() - started < 2
    assert 2 == len(server.requests)
    await assert_recovers(client, server, USER)


@BOTH_VENDORS
async def test_the_seconds_asked_for_are_waited(server: FaultServer, client: DistinctClient, ask: Ask) -> None:
    server.script(say(no(429, "Later", ("Retry-After", "1"))))
    started = time.monotonic()
    await ask.call(client)
    assert 1 <= time.monotonic() - started < 2.5
    assert 2 == len(server.requests)
    await assert_recovers(client, server, USER)


async def test_a_pause_holds_back_the_other_calls_to_that_vendor_and_no_other(
    server: FaultServer, client: DistinctClient
) -> None:
    server.script(say(no(429, "Later", ("Retry-After", "1"))))
    started = time.monotonic()
    first = asyncio.ensure_future(USER.call(client))
    await server.sees(1)
    await asyncio.sleep(0.05)
    second = asyncio.ensure_future(EXPERIENCE.call(client))
    await IMPRESSION.call(client)
    assert time.monotonic() - started < 0.8
    assert 2 == len(server.requests)
    await asyncio.gather(first, second)
    assert 1 <= time.monotonic() - started < 3
    assert 4 == len(server.requests)
    await assert_recovers(client, server, USER, kept=2)


async def test_a_pause_longer_than_the_deadline_is_not_waited_for(server: FaultServer, build: Build) -> None:
    client = build(deadline=3)
    server.steady = say(no(429, "Later", ("Retry-After", "10")))
    started = time.monotonic()
    error = await failure(USER.call(client))
    assert isinstance(error, RateLimitError)
    assert 10 == error.retry_after
    assert 1 == len(server.requests)
    assert time.monotonic() - started < 1
    await client.close()
    assert await server.settles()


GARBAGE = {
    "words": [("Retry-After", "soon")],
    "negative": [("Retry-After", "-3600")],
    "empty": [("Retry-After", "")],
    "blank": [("Retry-After", "   ")],
    "twice": [("Retry-After", "3600"), ("Retry-After", "3600")],
    "not a number": [("Retry-After", "nan")],
    "infinity": [("Retry-After", "inf")],
    "hexadecimal": [("Retry-After", "0xffff")],
    "other digits": [("Retry-After", "\xb3\xb3\xb3\xb3")],
    "exponent": [("Retry-After", "1e9")],
    "underscore": [("Retry-After", "3_600")],
    "no such day": [("Retry-After", "Thu, 99 Foo 2099 99:99:99 GMT")],
    "a list": [("Retry-After", "3600, 3600")],
    "a unit": [("Retry-After", "3600s")],
}


@BOTH_VENDORS
@pytest.mark.parametrize("headers", GARBAGE.values(), ids=GARBAGE)
async def test_a_garbage_retry_after_is_ignored(
    server: FaultServer, client: DistinctClient, ask: Ask, headers: list[tuple[str, str]]
) -> None:
    server.steady = say(no(429, "Later", *headers))
    error = await failure(ask.call(client))
    assert isinstance(error, RateLimitError)
    assert None is error.retry_after
    assert 3 == len(server.requests)
    assert_correct(error, ask, 3)
    await assert_recovers(client, server, ask)


async def test_a_number_of_5000_digits_for_seconds_does_not_crash(server: FaultServer, client: DistinctClient) -> None:
    server.steady = say(no(429, "Later", ("Retry-After", "9" * 5_000)))
    error = await failure(USER.call(client))
    assert RateLimitError is type(error)
    assert len(server.requests) in {1, 3}
    await assert_recovers(client, server, USER)


# -- responses of another shape


def without(body: Json, *path: str | int) -> Json:
    return changed(body, *path, to=without)


def changed(body: Json, *path: str | int, to: Any) -> Json:
    """A copy of the response with one place changed, or left out."""
    copy = json.loads(json.dumps(body))
    *way, last = path
    place = copy
    for step in way:
        place = place[step]
    if to is without:
        del place[last]
    else:
        place[last] = to
    return copy  # type: ignore[no-any-return]


def bad(ask: Ask, path: str, body: object, name: str) -> Any:
    return pytest.param(ask, body, path, id=f"{ask.operation}: {name}")


DETAILS = ("data", "touchpoints", "totalVisitsDetails")
ITEMS = (*DETAILS, "items")


def shapes() -> list[Any]:
    experience, user, touchpoint, unique = (
        responses.experience(),
        responses.user(),
        responses.touchpoint(),
        responses.touchpoint("UNIQUE"),
    )
    impression = responses.IMPRESSION
    first = ("data", "touchpoints", 0)
    details = "$." + ".".join(DETAILS)
    items = "$." + ".".join(ITEMS)
    uniques = ("data", "touchpoints", 1, "uniqueVisits")
    stamps = "$.data.touchpoints[0].timestampsUTC"
    times = (*first, "timestampsUTC")
    rows = [
        bad(ask, path, body, name)
        for ask in (EXPERIENCE, USER, TOUCHPOINT)
        for path, body, name in [
            ("$.data", {"statusCode": 200, "message": "ok"}, "data absent"),
            ("$.data", {"statusCode": 200, "message": "ok", "data": None}, "data null"),
            ("$.data", {"statusCode": 200, "message": "ok", "data": []}, "data a list"),
            ("$.data", {"statusCode": 200, "message": "ok", "data": "all"}, "data a text"),
            ("$", [], "a list for the body"),
            ("$", "all is well", "a text for the body"),
            ("$", 7, "a number for the body"),
            ("$", None, "null for the body"),
            ("$", True, "true for the body"),
            ("$.data.touchpoints", {"statusCode": 200, "data": {"totalTouchpoints": 1}}, "touchpoints absent"),
            ("$.data.touchpoints", {"statusCode": 200, "data": {"totalTouchpoints": 1, "touchpoints": "a"}}, "text"),
        ]
    ]
    for ask, body in ((EXPERIENCE, experience), (USER, user)):
        rows += [
            bad(ask, "$.data.totalTouchpoints", without(body, "data", "totalTouchpoints"), "count absent"),
            bad(ask, "$.data.touchpoints[0].id", without(body, *first, "id"), "id absent"),
            bad(ask, "$.data.touchpoints[0].id", changed(body, *first, "id", to=None), "id null"),
            bad(ask, "$.data.touchpoints[0].id", changed(body, *first, "id", to=7), "id a number"),
            bad(ask, "$.data.touchpoints[0].name", changed(body, *first, "name", to=7), "name a number"),
            bad(ask, "$.data.touchpoints[0]", changed(body, *first, to=None), "touchpoint null"),
            bad(ask, "$.data.touchpoints[0]", changed(body, *first, to=["tp-1"]), "touchpoint a list"),
            bad(ask, "$.data.touchpoints", responses.touchpoint(), "an object where a list is due"),
            bad(ask, "$.data.touchpoints", changed(body, "data", "touchpoints", to={}), "an empty object for a list"),
        ]
        wrong: list[object] = ["3", True, 1.0, 1.5, None, []]
        for value in wrong:
            place = "$.data.touchpoints[0].totalVisits"
            rows.append(bad(ask, place, changed(body, *first, "totalVisits", to=value), f"count {value!r}"))
    rows += [
        bad(EXPERIENCE, "$.data.touchpoints[1].uniqueVisits", without(experience, *uniques), "count of users absent"),
        bad(USER, stamps, without(user, *times), "times absent"),
        bad(USER, stamps, changed(user, *times, to={}), "times an object"),
        bad(USER, stamps, changed(user, *times, to="ab"), "times a text"),
        bad(USER, f"{stamps}[1]", changed(user, *times, 1, to=None), "time null"),
        bad(TOUCHPOINT, "$.data.touchpoints", experience, "a list where an object is due"),
        bad(TOUCHPOINT, details, unique, "UNIQUE fields for TOTAL"),
        bad(UNIQUE, details.replace("total", "unique"), touchpoint, "TOTAL fields for UNIQUE"),
        bad(TOUCHPOINT, details, changed(touchpoint, *DETAILS, to=None), "details null"),
        bad(TOUCHPOINT, details, without(touchpoint, *DETAILS), "details absent"),
        bad(TOUCHPOINT, items, changed(touchpoint, *ITEMS, to=None), "items null"),
        bad(TOUCHPOINT, items, without(touchpoint, *ITEMS), "items absent"),
        bad(TOUCHPOINT, items, changed(touchpoint, *ITEMS, to={}), "items an object"),
        bad(TOUCHPOINT, f"{items}[1].userId", without(touchpoint, *ITEMS, 1, "userId"), "user absent"),
        bad(TOUCHPOINT, f"{items}[2].userId", changed(touchpoint, *ITEMS, 2, "userId", to=5), "user a number"),
        bad(TOUCHPOINT, f"{items}[0]", changed(touchpoint, *ITEMS, 0, to=None), "row null"),
        bad(IMPRESSIONS, "$.impressions", {}, "no list"),
        bad(IMPRESSIONS, "$.impressions", {"impressions": None}, "null for the list"),
        bad(IMPRESSIONS, "$.impressions", {"impressions": {}}, "an object for the list"),
        bad(IMPRESSIONS, "$.impressions[1].id", {"impressions": [impression, {**impression, "id": 5}]}, "id a number"),
        bad(IMPRESSION, "$", [impression], "a list for the object"),
        bad(IMPRESSION, "$", "imp", "a text for the object"),
        bad(IMPRESSION, "$", None, "null for the object"),
        bad(IMPRESSION, "$.id", {"impressions": [impression]}, "the list's response"),
        bad(IMPRESSION, "$.user_agent", {**impression, "user_agent": 7}, "agent a number"),
        bad(IMPRESSION, "$.metadata", {**impression, "metadata": []}, "metadata a list"),
    ]
    for name in ("id", "poster_id", "program_id", "student_id", "scanned_at"):
        rows += [
            bad(IMPRESSION, f"$.{name}", without(impression, name), f"{name} absent"),
            bad(IMPRESSION, f"$.{name}", {**impression, name: None}, f"{name} null"),
            bad(IMPRESSION, f"$.{name}", {**impression, name: 5}, f"{name} a number"),
        ]
    for when in BAD_TIMES:
        rows += [
            bad(IMPRESSION, "$.scanned_at", {**impression, "scanned_at": when}, f"time {when!r}"),
            bad(USER, f"{stamps}[0]", changed(user, *times, 0, to=when), f"{when!r}"),
            bad(
                TOUCHPOINT,
                f"{items}[2].timestampUTC",
                changed(touchpoint, *ITEMS, 2, "timestampUTC", to=when),
                f"time {when!r}",
            ),
        ]
    return rows


BAD_TIMES = [
    "",
    "yesterday",
    "2024-01-01",
    "2024-13-01T10:00:00Z",
    "2024-02-30T10:00:00Z",
    "2024-01-01T10:00:60Z",
    "2024-01-01T25:00:00Z",
    "0000-01-01T10:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "10000-01-01T00:00:00Z",
    1704103200,
    True,
]


@pytest.mark.parametrize(("ask", "body", "path"), shapes())
async def test_an_answer_of_another_shape_is_named_by_its_path(
    server: FaultServer, client: DistinctClient, ask: Ask, body: object, path: str
) -> None:
    server.steady = say(whole(responses.encoded(body)))
    error = await failure(ask.call(client))
    assert isinstance(error, DecodeError)
    assert path in error.paths
    assert path in str(error)
    assert 1 == len(server.requests)
    assert_correct(error, ask, 1)
    await assert_recovers(client, server, ask)


FINE: list[tuple[str, Ask, bytes]] = [
    ("unknown fields", USER, responses.encoded({**responses.user(), "new": {"a": [1]}})),
    (
        "unknown fields inside",
        USER,
        responses.encoded(changed(responses.user(), "data", "touchpoints", 0, "new", to=1)),
    ),
    ("unknown fields of an impression", IMPRESSION, responses.encoded({**responses.IMPRESSION, "new": []})),
    ("a null name", USER, responses.encoded(changed(responses.user(), "data", "touchpoints", 0, "name", to=None))),
    ("no value", USER, responses.encoded(without(responses.user(), "data", "touchpoints", 0, "value"))),
    (
        "no personal data",
        IMPRESSION,
        responses.encoded(without(without(responses.IMPRESSION, "user_agent"), "ip_address")),
    ),
    ("null metadata", IMPRESSION, responses.encoded({**responses.IMPRESSION, "metadata": None})),
    ("no pagination", TOUCHPOINT, responses.encoded(without(responses.touchpoint(), *DETAILS, "pagination"))),
    (
        "no items and none counted",
        TOUCHPOINT,
        responses.encoded(
            changed(changed(responses.touchpoint(), *ITEMS, to=None), "data", "touchpoints", "totalVisits", to=0)
        ),
    ),
]


@pytest.mark.parametrize(("ask", "body"), [pytest.param(ask, body, id=name) for name, ask, body in FINE])
async def test_what_is_optional_or_new_is_no_error(
    server: FaultServer, client: DistinctClient, ask: Ask, body: bytes
) -> None:
    server.script(say(whole(body)))
    assert None is not await ask.call(client)
    assert 1 == len(server.requests)
    await assert_recovers(client, server, EXPERIENCE)


async def test_of_two_equal_keys_the_last_one_counts(server: FaultServer, client: DistinctClient) -> None:
    row = b'{"id": "a", "totalVisits": "x", "id": "b", "totalVisits": 5, "timestampsUTC": []}'
    body = b'{"data": 7, "data": {"totalTouchpoints": 1, "touchpoints": [%b], "totalTouchpoints": 3}}' % row
    server.script(say(whole(body)))
    metrics = await client.metrics.user("user-1", experience_id="exp-1")
    assert (3, "b", 5) == (metrics.total_touchpoints, metrics.touchpoints[0].id, metrics.touchpoints[0].total_visits)
    await assert_recovers(client, server, USER)


# -- a bad row in a walk


def page(offset: int, count: int, total: int) -> Json:
    rows = [
        {"userId": f"{USER_ID}-{n}", "timestampUTC": f"2024-01-01T10:{n // 60:02}:{n % 60:02}Z"}
        for n in range(offset, offset + count)
    ]
    details = {"items": rows, "pagination": {"offset": offset, "pageSize": 50}}
    return responses.distinct({"touchpoints": {"id": "tp-1", "totalVisits": total, "totalVisitsDetails": details}})


async def test_a_bad_row_ends_a_walk_with_its_path_after_the_rows_of_the_page_before(
    server: FaultServer, client: DistinctClient
) -> None:
    broken = changed(page(50, 50, 100), *ITEMS, 17, "timestampUTC", to="yesterday")
    server.script(say(whole(page(0, 50, 100))), say(whole(broken)))
    given = []

    async def walk() -> None:
        async for visit in client.metrics.total_visits("tp-1", page_size=50, prefetch=1):
            given.append(visit.user_id)  # noqa: PERF401 - what came before the error counts

    error = await failure(walk())
    assert isinstance(error, DecodeError)
    assert (f"$.{'.'.join(ITEMS)}[17].timestampUTC",) == error.paths
    assert [f"{USER_ID}-{n}" for n in range(50)] == given
    assert error.checkpoint is not None
    assert 50 == error.checkpoint.position
    assert_correct(error, Ask("metrics.total_visits", "distinct", lambda _: walk()), 1)
    await assert_recovers(client, server, USER)
