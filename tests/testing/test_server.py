"""The fake vendors respond as the vendors' documents say, inject faults, and clean up."""

import asyncio
import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

import aiohttp
import pytest
import trustme

from distinct_async.testing import FakeServer, Fault, World

METRICS = "/v3/touchpoint/metrics"
IMPRESSIONS = "/api/v1/impressions"
FETCHED = "Touchpoint scanner metrics fetched successfully"
EXPERIENCE = {"metricsType": "EXPERIENCE", "experienceId": "exp-1"}
USER = {"metricsType": "USER", "experienceId": "exp-1", "userId": "user-1"}
TOTAL = {"metricsType": "TOUCHPOINT", "touchpointId": "tp-1"}
UNIQUE = {**TOTAL, "visitsType": "UNIQUE"}


@pytest.fixture
def world() -> World:
    """The world of the vendors' own samples."""
    world = World()
    world.add_touchpoint("tp-1", "Entry Scan", "entry_scan")
    world.add_touchpoint("tp-2", "Exit Scan", "exit_scan")
    for touchpoint_id, user_id, day in [("tp-1", "user-1", 1), ("tp-1", "user-2", 2), ("tp-1", "user-1", 3)]:
        world.add_scan(touchpoint_id, user_id, f"2024-01-0{day}T10:00:00Z")
    world.add_scan("tp-2", "user-2", "2024-01-04T10:00:00Z")
    return world


@pytest.fixture
async def fake(world: World) -> AsyncIterator[FakeServer]:
    async with FakeServer(world) as server:
        yield server


async def ask(fake: FakeServer, path: str = METRICS, /, **params: str | int) -> tuple[int, Any]:
    keys = {"x-distinct-api-key": fake.api_key, "Authorization": f"Bearer {fake.vantio_api_key}"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(fake.url + path, params=params, headers=keys) as response,
    ):
        return response.status, json.loads(await response.read())


async def users(fake: FakeServer, **params: str | int) -> list[str]:
    status, response = await ask(fake, **{**TOTAL, **params})
    assert 200 == status
    return [item["userId"] for item in response["data"]["touchpoints"]["totalVisitsDetails"]["items"]]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


# The four views, word for word.


async def test_experience_metrics_are_those_of_the_document(fake: FakeServer) -> None:
    touchpoints = [
        {"id": "tp-1", "name": "Entry Scan", "value": "entry_scan", "totalVisits": 3, "uniqueVisits": 2},
        {"id": "tp-2", "name": "Exit Scan", "value": "exit_scan", "totalVisits": 1, "uniqueVisits": 1},
    ]
    data = {"totalTouchpoints": 2, "touchpoints": touchpoints}
    assert (200, {"statusCode": 200, "message": FETCHED, "data": data}) == await ask(fake, **EXPERIENCE)


async def test_user_metrics_are_those_of_the_document(fake: FakeServer) -> None:
    named = {"id": "tp-1", "name": "Entry Scan", "value": "entry_scan"}
    visits = {"totalVisits": 2, "timestampsUTC": ["2024-01-01T10:00:00Z", "2024-01-03T10:00:00Z"]}
    data = {"totalTouchpoints": 1, "touchpoints": [named | visits]}  # the document says 2, and lists 1
    assert (200, {"statusCode": 200, "message": FETCHED, "data": data}) == await ask(fake, **USER)


async def test_total_visits_are_those_of_the_document(fake: FakeServer) -> None:
    items = [
        {"userId": "user-1", "timestampUTC": "2024-01-01T10:00:00Z"},
        {"userId": "user-2", "timestampUTC": "2024-01-02T10:00:00Z"},
        {"userId": "user-1", "timestampUTC": "2024-01-03T10:00:00Z"},
    ]
    details = {"items": items, "pagination": {"offset": 0, "pageSize": 50}}
    named = {"id": "tp-1", "name": "Entry Scan", "value": "entry_scan"}
    data = {"touchpoints": named | {"totalVisits": 3, "totalVisitsDetails": details}}
    expected = (200, {"statusCode": 200, "message": FETCHED, "data": data})
    assert expected == await ask(fake, **TOTAL)
    assert expected == await ask(fake, **TOTAL, visitsType="TOTAL", experienceId="exp-1", offset=0, pageSize=50)


async def test_unique_visits_are_those_of_the_document(fake: FakeServer) -> None:
    items = [
        {"userId": "user-1", "timestampUTC": "2024-01-01T10:00:00Z"},
        {"userId": "user-2", "timestampUTC": "2024-01-02T10:00:00Z"},
    ]
    details = {"items": items, "pagination": {"offset": 0, "pageSize": 50}}
    named = {"id": "tp-1", "name": "Entry Scan", "value": "entry_scan"}
    data = {"touchpoints": named | {"uniqueVisits": 2, "uniqueVisitsDetails": details}}
    assert (200, {"statusCode": 200, "message": FETCHED, "data": data}) == await ask(fake, **UNIQUE)


async def test_what_nobody_scanned_is_empty_and_not_unknown(fake: FakeServer) -> None:
    fake.world.add_touchpoint("tp-3", experience_id="exp-2")
    fake.world.add_experience("exp-3")
    _, response = await ask(fake, **{**EXPERIENCE, "experienceId": "exp-3"})
    assert {"totalTouchpoints": 0, "touchpoints": []} == response["data"]
    _, response = await ask(fake, **{**USER, "experienceId": "exp-2"})
    assert {"totalTouchpoints": 0, "touchpoints": []} == response["data"]
    _, response = await ask(fake, **{**TOTAL, "touchpointId": "tp-3"})
    details = {"items": [], "pagination": {"offset": 0, "pageSize": 50}}
    empty = {"id": "tp-3", "name": None, "value": None, "totalVisits": 0, "totalVisitsDetails": details}
    assert empty == response["data"]["touchpoints"]


async def test_ids_and_names_may_be_any_text(fake: FakeServer) -> None:
    fake.world.add_touchpoint('t"p\\ü', name='a "name"\n')
    fake.world.add_scan('t"p\\ü', 'us"er\\ß', "2024-01-01T10:00:00.123456+02:00")
    _, response = await ask(fake, **{**TOTAL, "touchpointId": 't"p\\ü'})
    touchpoint = response["data"]["touchpoints"]
    assert ('t"p\\ü', 'a "name"\n') == (touchpoint["id"], touchpoint["name"])
    row = {"userId": 'us"er\\ß', "timestampUTC": "2024-01-01T10:00:00.123456+02:00"}
    assert [row] == touchpoint["totalVisitsDetails"]["items"]


async def test_the_server_shows_the_world_as_it_is_now(fake: FakeServer) -> None:
    assert ["user-1", "user-2", "user-1"] == await users(fake)
    fake.world.add_scan("tp-1", "user-3", "2024-01-05T10:00:00Z")
    fake.world.insert("tp-1", 0, "user-4", "2023-12-31T10:00:00Z")
    assert ["user-4", "user-1", "user-2", "user-1", "user-3"] == await users(fake)
    fake.world.remove("tp-1", 1)
    fake.world.shrink(1, "tp-1")
    assert ["user-4", "user-2", "user-1"] == await users(fake)
    _, response = await ask(fake, **UNIQUE)
    assert 3 == response["data"]["touchpoints"]["uniqueVisits"]


# Impressions.


async def test_an_impression_is_the_document_s(fake: FakeServer) -> None:
    sample = {
        "id": "imp_123abc",
        "poster_id": "poster_123abc",
        "program_id": "prog_123abc",
        "student_id": "user_123abc",
        "scanned_at": "2024-01-15T10:30:00Z",
        "user_agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15",
        "ip_address": "192.168.1.1",
        "metadata": {"device_type": "mobile", "location": "campus_center", "referrer": "direct"},
    }
    fake.world.add_impression(
        "imp_123abc",
        user_agent="Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15",
        ip_address="192.168.1.1",
        metadata={"device_type": "mobile", "location": "campus_center", "referrer": "direct"},
    )
    assert (200, sample) == await ask(fake, f"{IMPRESSIONS}/imp_123abc")


async def test_impressions_are_listed_in_pages_whose_size_the_server_caps(fake: FakeServer) -> None:
    fake.world.grow(200)
    ids = list(fake.world.impressions)
    for params, expected in [
        ({}, ids[:50]),
        ({"limit": 20, "offset": 30}, ids[30:50]),
        ({"limit": 500}, ids[:100]),
        ({"offset": 190}, ids[190:]),
        ({"offset": 204}, []),
    ]:
        status, response = await ask(fake, IMPRESSIONS, **params)
        assert (200, ["impressions"]) == (status, list(response))
        assert expected == [one["id"] for one in response["impressions"]]
    assert fake.world.impression(ids[0]) == (await ask(fake, IMPRESSIONS))[1]["impressions"][0]


async def test_impressions_are_listed_by_poster_and_program(fake: FakeServer) -> None:
    for params, count in [
        ({"posterId": "poster_tp-1"}, 3),
        ({"programId": "prog_exp-1"}, 4),
        ({"posterId": "poster_tp-2", "programId": "prog_exp-1"}, 1),
        ({"programId": "prog_nothing"}, 0),
    ]:
        assert count == len((await ask(fake, IMPRESSIONS, **params))[1]["impressions"])


async def test_an_impression_s_id_is_one_part_of_the_path_and_an_empty_one_is_the_list(fake: FakeServer) -> None:
    fake.world.add_impression("a/b?ü")
    assert (200, "a/b?ü") == ((found := await ask(fake, f"{IMPRESSIONS}/a%2Fb%3F%C3%BC"))[0], found[1]["id"])
    assert f"{IMPRESSIONS}/a%2Fb%3F%C3%BC" == fake.requests[-1].path
    assert 404 == (await ask(fake, f"{IMPRESSIONS}/a/b"))[0]
    assert ["impressions"] == list((await ask(fake, f"{IMPRESSIONS}/"))[1])


# Refusals.


@pytest.mark.parametrize(
    ("params", "status", "message"),
    [
        ({}, 400, "Missing required parameter: metricsType"),
        ({"metricsType": ""}, 400, "Missing required parameter: metricsType"),
        ({"metricsType": "experience"}, 400, "Invalid parameter: metricsType"),
        ({"metricsType": "EXPERIENCE"}, 400, "Missing required parameter: experienceId"),
        ({"metricsType": "USER", "userId": "user-1"}, 400, "Missing required parameter: experienceId"),
        ({"metricsType": "USER", "experienceId": "exp-1"}, 400, "Missing required parameter: userId"),
        ({"metricsType": "TOUCHPOINT"}, 400, "Missing required parameter: touchpointId"),
        ({**TOTAL, "visitsType": "BOTH"}, 400, "Invalid parameter: visitsType"),
        ({**TOTAL, "pageSize": ""}, 400, "Invalid parameter: pageSize"),
        ({**TOTAL, "pageSize": "0"}, 400, "Invalid parameter: pageSize"),
        ({**TOTAL, "pageSize": "-1"}, 400, "Invalid parameter: pageSize"),
        ({**TOTAL, "pageSize": "1.5"}, 400, "Invalid parameter: pageSize"),
        ({**TOTAL, "pageSize": "٣"}, 400, "Invalid parameter: pageSize"),
        ({**TOTAL, "offset": "-1"}, 400, "Invalid parameter: offset"),
        ({**TOTAL, "offset": "all"}, 400, "Invalid parameter: offset"),
        ({**TOTAL, "offset": "9" * 5000}, 400, "Invalid parameter: offset"),
        ({**EXPERIENCE, "experienceId": "exp-9"}, 404, "Experience not found"),
        ({**USER, "experienceId": "exp-9"}, 404, "Experience not found"),
        ({**USER, "userId": "user-9"}, 404, "User not found"),
        ({**TOTAL, "touchpointId": "tp-9"}, 404, "Touchpoint not found"),
        ({**TOTAL, "experienceId": "exp-9"}, 404, "Experience not found"),
        ({**TOTAL, "experienceId": "exp-2"}, 404, "Touchpoint not found"),
    ],
)
async def test_distinct_s_errors_are_in_its_envelope(
    fake: FakeServer, params: dict[str, str], status: int, message: str
) -> None:
    fake.world.add_experience("exp-2")
    assert (status, {"statusCode": status, "message": message}) == await ask(fake, **params)


async def test_visits_type_has_no_effect_but_with_touchpoint(fake: FakeServer) -> None:
    for params in (EXPERIENCE, USER):
        assert await ask(fake, **params) == await ask(fake, **params, visitsType="BOTH")


@pytest.mark.parametrize(
    ("path", "status", "error", "message"),
    [
        (f"{IMPRESSIONS}/imp_nothing", 404, "Not Found", "Impression not found"),
        (f"{IMPRESSIONS}?limit=0", 400, "Bad Request", "Invalid parameter: limit"),
        (f"{IMPRESSIONS}?limit=many", 400, "Bad Request", "Invalid parameter: limit"),
        (f"{IMPRESSIONS}?offset=-1", 400, "Bad Request", "Invalid parameter: offset"),
        ("/api/v1/posters", 404, "Not Found", "Cannot GET /api/v1/posters"),
    ],
)
async def test_vantio_s_errors_are_flat(fake: FakeServer, path: str, status: int, error: str, message: str) -> None:
    assert (status, {"error": error, "message": message}) == await ask(fake, path)


@pytest.mark.parametrize("key", [None, "", "wrong", "distinct-key-of-the-fak"])
async def test_a_missing_or_wrong_key_is_refused_by_either_vendor(fake: FakeServer, key: str | None) -> None:
    distinct = {} if key is None else {"x-distinct-api-key": key}
    vantio = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession() as session:
        async with session.get(fake.url + METRICS, headers=distinct) as response:
            assert (401, {"statusCode": 401, "message": "Unauthorized"}) == (response.status, await response.json())
        for path in (IMPRESSIONS, f"{IMPRESSIONS}/imp_000001"):
            async with session.get(fake.url + path, headers=vantio) as response:
                refusal = {"error": "Unauthorized", "message": "Invalid or missing API key"}
                assert (401, refusal) == (response.status, await response.json())


async def test_each_vendor_takes_its_own_key_only(world: World) -> None:
    async with FakeServer(world, api_key="one", vantio_api_key="two") as fake, aiohttp.ClientSession() as session:
        assert 200 == (await ask(fake, **TOTAL))[0]
        async with session.get(fake.url + METRICS, headers={"x-distinct-api-key": "two"}) as response:
            assert 401 == response.status
        async with session.get(fake.url + IMPRESSIONS, headers={"Authorization": "two"}) as response:
            assert 401 == response.status


async def test_only_get_is_allowed(fake: FakeServer) -> None:
    async with aiohttp.ClientSession() as session, session.post(fake.url + METRICS, data=b"x" * 100_000) as response:
        assert (405, "Method Not Allowed") == (response.status, (await response.json())["message"])
        assert "GET" == response.headers["Allow"]


# Pages, and the settings that the documents leave open.


async def test_pages_put_together_are_the_list(fake: FakeServer) -> None:
    fake.world.grow(98, "tp-1")
    for view, details, scans in [
        (TOTAL, "totalVisitsDetails", fake.world.scans("tp-1")),
        (UNIQUE, "uniqueVisitsDetails", fake.world.unique_scans("tp-1")),
    ]:
        walked: list[str] = []
        for offset in range(0, 110, 10):
            _, response = await ask(fake, **view, pageSize=10, offset=offset)
            walked += [item["userId"] for item in response["data"]["touchpoints"][details]["items"]]
            assert {"offset": offset, "pageSize": 10} == response["data"]["touchpoints"][details]["pagination"]
        assert [scan.user_id for scan in scans] == walked


@pytest.mark.parametrize(
    ("echo", "pagination"),
    [("real", {"offset": 0, "pageSize": 2}), ("asked", {"offset": 1, "pageSize": 10}), (None, None)],
)
async def test_a_cap_and_an_ignored_offset_are_shown_or_hidden(
    fake: FakeServer, echo: Literal["real", "asked"] | None, pagination: dict[str, int] | None
) -> None:
    fake.max_page_size, fake.ignore_offset, fake.echo_page_size = 2, True, echo
    details = (await ask(fake, **TOTAL, pageSize=10, offset=1))[1]["data"]["touchpoints"]["totalVisitsDetails"]
    assert ["user-1", "user-2"] == [item["userId"] for item in details["items"]]
    assert pagination == details.get("pagination")


@pytest.mark.parametrize(("totals", "shown"), [(True, 3), (False, None), ("page", 2)])
async def test_the_total_may_be_left_out_or_be_the_page_s_own(
    world: World, totals: Literal[True, False, "page"], shown: int | None
) -> None:
    async with FakeServer(world, totals=totals) as fake:
        assert shown == (await ask(fake, **TOTAL, pageSize=2))[1]["data"]["touchpoints"].get("totalVisits")


@pytest.mark.parametrize(("past_end", "status"), [("empty", 200), ("404", 404), ("400", 400)])
async def test_past_the_end_is_empty_or_an_error(
    world: World, past_end: Literal["empty", "404", "400"], status: int
) -> None:
    world.add_touchpoint("tp-3")
    async with FakeServer(world, past_end=past_end) as fake:
        for view, details in [(TOTAL, "totalVisitsDetails"), (UNIQUE, "uniqueVisitsDetails")]:
            got, response = await ask(fake, **view, offset=3)
            assert status == got
            assert 200 != got or [] == response["data"]["touchpoints"][details]["items"]
        assert status == (await ask(fake, IMPRESSIONS, offset=4))[0]
        assert ["user-1"] == await users(fake, offset=2)
        assert [] == await users(fake, touchpointId="tp-3")


async def test_experience_may_come_in_pages(fake: FakeServer) -> None:
    for paged, expected in [(False, ["tp-1", "tp-2"]), (True, ["tp-2"])]:
        fake.experience_pages = paged
        data = (await ask(fake, **EXPERIENCE, pageSize=1, offset=1))[1]["data"]
        assert (2, expected) == (data["totalTouchpoints"], [one["id"] for one in data["touchpoints"]])


async def test_an_offset_may_be_ignored_wherever_there_are_pages(fake: FakeServer) -> None:
    fake.ignore_offset = fake.experience_pages = True
    assert await ask(fake, **TOTAL) == await ask(fake, **TOTAL, offset=2)
    assert await ask(fake, **EXPERIENCE) == await ask(fake, **EXPERIENCE, offset=1)
    assert await ask(fake, IMPRESSIONS) == await ask(fake, IMPRESSIONS, offset=1)


async def test_the_order_may_be_turned_round(fake: FakeServer) -> None:
    fake.order = "descending"
    assert ["user-1", "user-2", "user-1"] == await users(fake)
    assert ["user-2", "user-1"] == await users(fake, offset=1)
    assert ["user-1", "user-2"] == await users(fake, pageSize=2)
    assert ["user-2", "user-1"] == await users(fake, pageSize=3, offset=1)
    assert [] == await users(fake, offset=3)
    _, response = await ask(fake, **USER)
    assert ["2024-01-03T10:00:00Z", "2024-01-01T10:00:00Z"] == response["data"]["touchpoints"][0]["timestampsUTC"]
    _, response = await ask(fake, IMPRESSIONS, limit=1)
    assert "imp_000004" == response["impressions"][0]["id"]


@pytest.mark.parametrize(
    "setting", [{"order": "random"}, {"past_end": 404}, {"totals": "all"}, {"echo_page_size": ""}, {"max_page_size": 0}]
)
def test_a_setting_that_does_not_exist_is_refused(world: World, setting: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        FakeServer(world, **setting)


# The journal and the counters.


async def test_the_requests_that_arrived_are_recorded(fake: FakeServer) -> None:
    await ask(fake, METRICS, **TOTAL, offset=5)
    await ask(fake, f"{IMPRESSIONS}/imp_nothing")
    first, second = fake.requests
    assert ("GET", METRICS, 200) == (first.method, first.path, first.status)
    assert {"metricsType": "TOUCHPOINT", "touchpointId": "tp-1", "offset": "5"} == first.query
    assert (f"{IMPRESSIONS}/imp_nothing", {}, 404) == (second.path, second.query, second.status)
    assert first.at < second.at
    assert "gzip, deflate" in first.headers["accept-encoding"]


async def test_no_key_is_in_a_record_or_a_repr(fake: FakeServer) -> None:
    await ask(fake, **TOTAL)
    record = fake.requests[0]
    assert ("***", "***") == (record.headers["X-Distinct-Api-Key"], record.headers["Authorization"])
    shown = f"{fake!r} {fake.requests!r} {dict(record.headers)!r}"
    assert fake.api_key not in shown
    assert fake.vantio_api_key not in shown


async def test_requests_in_flight_and_connections_are_counted(fake: FakeServer) -> None:
    fake.latency = 0.1
    began = time.monotonic()
    waiting = [asyncio.create_task(ask(fake, **TOTAL)) for _ in range(5)]
    await until(lambda: fake.in_flight == 5)
    assert 5 == fake.open_connections
    await asyncio.gather(*waiting)
    assert 0.1 <= time.monotonic() - began
    assert (0, 5, 5) == (fake.in_flight, fake.max_in_flight, fake.connections)


async def test_a_request_that_its_client_gave_up_is_not_in_flight(fake: FakeServer) -> None:
    fake.latency = 60
    asking = asyncio.create_task(ask(fake, **TOTAL))
    await until(lambda: fake.in_flight == 1)
    asking.cancel()
    await until(lambda: fake.in_flight == fake.open_connections == 0)
    assert 1 == len(fake.requests)


# Faults.


async def test_a_status_is_sent_as_often_as_requested_with_the_vendor_s_error_body(fake: FakeServer) -> None:
    fake.fail(status=503, times=2)
    assert (503, {"statusCode": 503, "message": "Service Unavailable"}) == await ask(fake, **TOTAL)
    vantio = {"error": "Service Unavailable", "message": "Service Unavailable"}
    assert (503, vantio) == await ask(fake, IMPRESSIONS)
    assert 200 == (await ask(fake, **TOTAL))[0]
    assert [503, 503, 200] == [record.status for record in fake.requests]


async def test_a_fault_applies_only_to_matching_requests(fake: FakeServer) -> None:
    fake.faults.append(Fault(status=500, path="/v3/*", query={"offset": "1"}, nth=2))
    asked = [{"offset": 1}, {"offset": 2}, {"offset": 1}, {"offset": 1}]
    statuses = [(await ask(fake, **TOTAL, **one))[0] for one in asked]
    assert [200, 200, 500, 200] == statuses
    assert 200 == (await ask(fake, IMPRESSIONS, offset=1))[0]


async def test_the_first_matching_fault_applies(fake: FakeServer) -> None:
    fake.fail(status=500, nth=1)
    fake.fail(status=502, times=1)
    fake.fail(status=504, path="*/imp_*")
    assert [500, 502, 200] == [(await ask(fake, **TOTAL))[0] for _ in range(3)]
    assert 504 == (await ask(fake, f"{IMPRESSIONS}/imp_000001"))[0]
    fake.faults.clear()
    assert 200 == (await ask(fake, f"{IMPRESSIONS}/imp_000001"))[0]


async def test_probability_is_reproducible(world: World) -> None:
    runs = []
    for seed in (1, 1, 2):
        async with FakeServer(world, faults=[Fault(status=500, probability=0.5, seed=seed)]) as fake:
            runs.append([(await ask(fake, **TOTAL))[0] for _ in range(20)])
    assert runs[0] == runs[1] != runs[2]
    assert {200, 500} == set(runs[0])


async def test_body_headers_and_delay_can_be_changed(fake: FakeServer) -> None:
    fake.fail(status=429, body="<b>slow down</b>", headers={"retry-after": "2", "content-type": "text/html"}, delay=0.1)
    began = time.monotonic()
    async with aiohttp.ClientSession() as session, session.get(fake.url + METRICS) as response:
        assert (429, "<b>slow down</b>") == (response.status, await response.text())
        assert ("2", "text/html") == (response.headers["Retry-After"], response.headers["Content-Type"])
    assert 0.1 <= time.monotonic() - began


async def test_the_original_body_can_be_changed_and_a_header_sent_twice(fake: FakeServer) -> None:
    fake.fail(
        body=lambda body: body.replace(b'"totalVisits":3', b'"totalVisits":"3"'), headers=[("X", "1"), ("X", "2")]
    )
    async with (
        aiohttp.ClientSession(headers={"x-distinct-api-key": fake.api_key}) as session,
        session.get(fake.url + METRICS, params=TOTAL) as response,
    ):
        assert ["1", "2"] == response.headers.getall("X")
        assert "3" == (await response.json())["data"]["touchpoints"]["totalVisits"]


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ("close", aiohttp.ServerDisconnectedError),
        ("reset", aiohttp.ClientOSError),
        ("cut", aiohttp.ClientPayloadError),
        ("garbage", aiohttp.ClientResponseError),
        ("hang", TimeoutError),
        ("drip", TimeoutError),
    ],
)
async def test_the_connection_breaks_as_requested(fake: FakeServer, wire: Any, expected: type[Exception]) -> None:
    fake.fail(wire=wire)
    limit = aiohttp.ClientTimeout(total=0.3 if expected is TimeoutError else 20)
    async with aiohttp.ClientSession(timeout=limit) as session:
        with pytest.raises(expected):
            await (await session.get(fake.url + METRICS)).read()
    assert {401 if wire in {"cut", "drip"} else None} == {record.status for record in fake.requests}
    fake.faults.clear()
    assert 200 == (await ask(fake, **TOTAL))[0]


async def test_a_drip_is_complete_in_the_end(fake: FakeServer) -> None:
    fake.fail(wire="drip", interval=0)
    assert ["user-1", "user-2", "user-1"] == await users(fake)


async def test_garbage_can_be_given(fake: FakeServer) -> None:
    fake.fail(wire="garbage", body=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    assert (200, {}) == await ask(fake)


# Its life.


async def test_stopping_drops_what_is_in_flight_and_leaves_no_task(world: World) -> None:
    mine = asyncio.all_tasks()
    async with FakeServer(world, latency=60) as fake, aiohttp.ClientSession() as session:
        fake.fail(wire="hang", nth=1)
        asked = [asyncio.create_task(session.get(fake.url + METRICS)) for _ in range(5)]
        await until(lambda: fake.in_flight == 5)
        began = time.monotonic()
        await fake.__aexit__(None, None, None)
        assert time.monotonic() - began < 1
        for dropped in asked:
            with pytest.raises(aiohttp.ClientConnectionError):
                await dropped
        assert (0, 0) == (fake.in_flight, fake.open_connections)
        assert set() == asyncio.all_tasks() - mine
    with pytest.raises(RuntimeError, match="not running"):
        _ = fake.url


@pytest.mark.parametrize("turns", range(6))
async def test_a_connection_made_just_before_the_stop_is_dropped_too(world: World, turns: int) -> None:
    mine = asyncio.all_tasks()
    async with FakeServer(world) as fake:
        host, _, port = fake.url.removeprefix("http://").partition(":")
        client = socket.create_connection((host, int(port)), timeout=1)
        for _ in range(turns):
            await asyncio.sleep(0)
    assert set() == asyncio.all_tasks() - mine
    with client, contextlib.suppress(ConnectionResetError):
        assert b"" == client.recv(1)


async def test_a_server_can_be_started_again(world: World) -> None:
    fake = FakeServer(world)
    for _ in range(2):
        async with fake:
            assert ["user-1", "user-2", "user-1"] == await users(fake)


async def test_it_speaks_https_with_a_context(world: World) -> None:
    mine = asyncio.all_tasks()
    authority, server = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    async with FakeServer(world, tls=server) as fake, aiohttp.ClientSession() as session:
        assert fake.url.startswith("https://127.0.0.1:")
        async with session.get(fake.url + METRICS, ssl=client) as response:
            assert 401 == response.status
        fake.fail(wire="reset")
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(fake.url + METRICS, ssl=client)
    assert set() == asyncio.all_tasks() - mine


def test_synchronous_code_gets_a_server_in_a_thread(world: World) -> None:
    threads = threading.active_count()
    with FakeServer.run_in_thread(world, api_key="mine") as fake:
        assert threads + 1 == threading.active_count()
        assert ["user-1", "user-2", "user-1"] == asyncio.run(users(fake))
        assert "mine" == fake.api_key
    assert threads == threading.active_count()


def test_a_thread_s_server_stops_when_the_caller_fails(world: World) -> None:
    with pytest.raises(ZeroDivisionError), FakeServer.run_in_thread(world):
        _ = 1 / 0


def test_a_server_that_cannot_start_says_so_to_its_caller(world: World) -> None:
    threads = threading.active_count()
    with pytest.raises(OSError, match="address"), FakeServer.run_in_thread(world, host="203.0.113.1"):
        pass
    assert threads == threading.active_count()
