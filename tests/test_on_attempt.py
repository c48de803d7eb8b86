"""`on_attempt` is called once for each attempt, with figures and names only, and cannot harm the call."""

import asyncio
import logging
import re
from itertools import pairwise
from typing import Any

import pytest

from distinct_async import Attempt, DistinctClient, RetryPolicy, errors
from distinct_async.testing import FakeServer

AT_ONCE = RetryPolicy(attempts=3, base=0)


def client_of(fake: FakeServer, seen: list[Attempt], **settings: Any) -> DistinctClient:
    return DistinctClient(**fake.settings, **{"on_attempt": seen.append, "retry": AT_ONCE, **settings})


def outcomes(seen: list[Attempt]) -> list[tuple[int, int | None, str | None, bool]]:
    return [(each.attempt, each.status, each.error, each.retry_in is None) for each in seen]


async def test_a_response_is_one_attempt_with_its_status_request_id_and_times(fake: FakeServer) -> None:
    seen = list[Attempt]()
    fake.fail(status=200, body='{"statusCode": 200, "data": {}}', headers={"X-Request-Id": "req-1"}, times=1)
    fake.fail(headers={"CF-Ray": "ray-2"}, delay=0.02, times=1)
    async with client_of(fake, seen) as client:
        with pytest.raises(errors.DecodeError):
            await client.metrics.experience("exp-1")
        await client.metrics.user("user-1", experience_id="exp-1")

    bad, good = seen
    assert ("distinct", "metrics.experience", 1, 200, "req-1", "DecodeError", None) == (
        *(bad.vendor, bad.operation, bad.attempt, bad.status, bad.request_id, bad.error, bad.retry_in),
    )
    assert ("metrics.user", 200, "ray-2", None) == (good.operation, good.status, good.request_id, good.error)
    assert good.on_wire >= 0.02 > good.waited >= 0


async def test_each_attempt_of_a_call_is_reported_with_its_own_wait_and_what_follows(fake: FakeServer) -> None:
    seen = list[Attempt]()
    fake.fail(status=503, times=1)
    fake.fail(wire="cut", times=1)
    async with client_of(fake, seen, retry=RetryPolicy(attempts=3, base=0.05)) as client:
        await client.metrics.experience("exp-1")

    assert [(1, 503, "ServerError", False), (2, None, "TransportError", False), (3, 200, None, True)] == outcomes(seen)
    for before, after in pairwise(seen):
        assert after.waited == pytest.approx(before.retry_in, abs=0.3)


async def test_the_last_attempt_of_a_call_that_fails_has_the_name_of_the_raised_error(fake: FakeServer) -> None:
    seen = list[Attempt]()
    fake.fail(body='{"statusCode": 503, "message": "no"}')
    async with client_of(fake, seen) as client:
        with pytest.raises(errors.ServerError) as caught:
            await client.metrics.experience("exp-1")

    assert [(1, 503, "ServerError", False), (2, 503, "ServerError", False), (3, 503, "ServerError", True)] == outcomes(
        seen
    )
    assert caught.value.on_wire == pytest.approx(sum(each.on_wire for each in seen))
    assert caught.value.waited == pytest.approx(sum(each.waited for each in seen))


async def test_a_wait_that_ends_before_a_request_is_sent_is_no_attempt(fake: FakeServer) -> None:
    seen = list[Attempt]()
    fake.fail(status=429, headers={"Retry-After": "30"}, times=1)
    async with client_of(fake, seen, deadline=1.0) as client:
        for _ in range(2):
            with pytest.raises(errors.DistinctError):
                await client.metrics.experience("exp-1")

    assert [(1, 429, "RateLimitError", True)] == outcomes(seen)


async def test_a_cancelled_attempt_is_reported_and_stays_cancelled(fake: FakeServer) -> None:
    seen = list[Attempt]()
    fake.fail(wire="hang")
    async with client_of(fake, seen) as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.metrics.experience("exp-1"), 0.05)

    assert [(1, None, "CancelledError", True)] == outcomes(seen)
    assert seen[0].on_wire > 0


async def test_a_call_that_is_cancelled_between_attempts_reports_none_twice(fake: FakeServer) -> None:
    seen = list[Attempt]()
    fake.fail(status=503, headers={"Retry-After": "30"})
    async with client_of(fake, seen) as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.metrics.experience("exp-1"), 1)

    assert [(1, 503, "ServerError", False)] == outcomes(seen)


async def test_close_ends_an_attempt_that_is_reported_as_such(fake: FakeServer) -> None:
    seen = list[Attempt]()
    fake.fail(wire="hang")
    client = client_of(fake, seen)
    call = asyncio.create_task(client.metrics.experience("exp-1"))
    while not fake.requests:
        await asyncio.sleep(0.001)
    await client.close()
    with pytest.raises(errors.ClientStateError):
        await call

    assert [(1, None, "ClientStateError", True)] == outcomes(seen)


async def test_every_page_of_a_walk_and_only_what_is_not_cached_is_reported(fake: FakeServer) -> None:
    seen = list[Attempt]()
    async with client_of(fake, seen) as client:
        await client.metrics.total_visits("tp-1", page_size=20, limit=60).collect()
        await client.impressions.get("imp_000001")
        await client.impressions.get("imp_000001")

    assert ["metrics.total_visits"] * 3 + ["impressions.get"] == [each.operation for each in seen]
    assert "vantio" == seen[-1].vendor


async def test_no_attempt_shows_a_person_or_a_key_also_if_the_server_echoes_them(fake: FakeServer) -> None:
    seen = list[Attempt]()
    fake.fail(headers={"X-Request-Id": f"user-1 {fake.api_key} 7"}, times=1)
    fake.fail(status=404, body="user-1", headers={"X-Request-Id": "user-1"}, times=1)
    fake.fail(headers={"X-Request-Id": "x" * 5000}, times=1)
    async with client_of(fake, seen) as client:
        await client.metrics.user("user-1", experience_id="exp-1")
        with pytest.raises(errors.NotFoundError):
            await client.metrics.user("user-1", experience_id="exp-1")
        await client.metrics.user("user-1", experience_id="exp-1")

    assert ["<...> *** 7", "<...>", "x" * 200] == [each.request_id for each in seen]
    assert not {"user-1", fake.api_key, "exp-1"} & {word for each in seen for word in repr(each).split("'")}


async def test_an_exception_in_it_is_logged_once_and_ends_nothing(
    fake: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(attempt: Attempt) -> None:
        raise KeyError(attempt.operation)

    fake.fail(status=503, times=1)
    async with client_of(fake, [], on_attempt=broken) as client:
        for _ in range(3):
            await client.metrics.experience("exp-1")

    (logged,) = (record for record in caplog.records if record.levelno >= logging.ERROR)
    assert "on_attempt raised an exception; further ones are not logged" == logged.getMessage()
    assert logged.exc_info is not None
    assert KeyError is logged.exc_info[0]


async def test_a_keyboard_interrupt_in_it_is_nobody_elses(fake: FakeServer) -> None:
    def stopped(_: Attempt) -> None:
        raise asyncio.CancelledError

    async with client_of(fake, [], on_attempt=stopped) as client:
        with pytest.raises(asyncio.CancelledError):
            await client.metrics.experience("exp-1")


async def test_views_have_their_own_and_keep_their_clients(fake: FakeServer) -> None:
    seen, others = list[Attempt](), list[Attempt]()
    async with client_of(fake, seen) as client:
        await client.with_options(timeout=5).metrics.experience("exp-1")
        await client.with_options(on_attempt=others.append).metrics.experience("exp-1")
        await client.with_options(on_attempt=None).metrics.experience("exp-1")

    assert (1, 1) == (len(seen), len(others))


@pytest.mark.parametrize(
    ("given", "got"),
    [(7, "int"), ("print", "str"), (asyncio.sleep, "a coroutine function")],
    ids=["int", "str", "async"],
)
def test_what_cannot_be_called_with_an_attempt_is_refused_at_once(given: Any, got: str) -> None:
    expected = f"on_attempt must be a plain function, got {got}"
    for make in (DistinctClient, DistinctClient().with_options):
        with pytest.raises(errors.ConfigurationError) as caught:
            make(on_attempt=given)
        assert expected == str(caught.value)
        assert "on_attempt" == caught.value.setting


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
async def test_log_lines_have_status_attempt_duration_and_request_id(
    level: int, fake: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(level, "distinct_async")
    fake.fail(status=503, headers={"X-Request-Id": "req-1"}, times=1)
    fake.fail(wire="cut", times=1)
    fake.fail(headers={"X-Request-Id": "req-2"}, times=1)
    async with DistinctClient(**fake.settings, retry=AT_ONCE) as client:
        await client.metrics.user("user-1", experience_id="exp-1")

    records = [record for record in caplog.records if record.name == "distinct_async"]
    figures = [(record.status, record.attempts, record.request_id) for record in records]  # type: ignore[attr-defined]
    assert [(503, 1, "req-1"), (None, 2, None), (200, 3, "req-2")][: 3 if level == logging.DEBUG else 2] == figures
    assert all(record.duration > 0 for record in records)  # type: ignore[attr-defined]
    expected = (
        r"metrics\.user: attempt 1 failed \(ServerError\), retrying in 0 s: 503 in (\d+\.\d{3}) s, request id req-1",
        r"metrics\.user: attempt 2 failed \(TransportError\), retrying in 0 s: no response in (\d+\.\d{3}) s",
        r"metrics\.user: attempt 3 succeeded: 200 in (\d+\.\d{3}) s, request id req-2",
    )
    for pattern, record in zip(expected, records, strict=level == logging.DEBUG):
        match = re.fullmatch(pattern, record.getMessage())
        assert match is not None
        assert record.duration == pytest.approx(float(match[1]), abs=0.001)  # type: ignore[attr-defined]
