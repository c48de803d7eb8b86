"""Verdicts become action: the gate, the pause, the budget, the clock of a call, the log."""

import asyncio
import logging
from typing import Any

import pytest

from distinct_async import DistinctClient, RetryPolicy, Timeouts, errors
from distinct_async.core import Gate
from distinct_async.testing import FakeServer


def gate(rate: float | None = None) -> Gate:
    return Gate(asyncio.Semaphore(1), rate)


def client_of(fake: FakeServer, **settings: Any) -> DistinctClient:
    return DistinctClient(**fake.settings, **settings)


@pytest.mark.parametrize(
    ("sent", "then"),
    [
        (100.0, 100.25),
        (103.0, 103.25),  # later than it could have been: from then on
        (102.009, 102.25),  # a timer that was late by little does not lower the rate
    ],
)
def test_starts_are_a_rates_distance_apart(sent: float, then: float) -> None:
    door = gate(rate=4)
    door.next_start = 102.0 if sent > 100 else 0.0
    door.take_turn(sent)
    assert then == door.next_start


def test_without_a_rate_everybody_starts_at_once() -> None:
    door = gate()
    door.take_turn(100.0)
    assert 0.0 == door.next_start


def test_a_pause_begins_once_and_only_grows() -> None:
    door = gate()
    begun = [door.hold(100.0, 5.0), door.hold(101.0, 1.0), door.hold(102.0, 9.0), door.hold(111.0, 1.0)]
    assert ([True, False, False, True], 112.0) == (begun, door.pause_until)


async def test_requests_in_flight_never_exceed_max_concurrency(fake: FakeServer) -> None:
    fake.latency = 0.01
    async with client_of(fake, max_concurrency=3) as client:
        await asyncio.gather(*(client.metrics.experience("exp-1") for _ in range(20)))
    assert (3, 20) == (fake.max_in_flight, len(fake.requests))


async def test_each_vendor_has_a_gate_of_its_own(fake: FakeServer) -> None:
    fake.latency = 0.05
    async with client_of(fake, max_concurrency=1) as client:
        await asyncio.gather(client.metrics.experience("exp-1"), client.impressions.get("imp_000001"))
    assert 2 == fake.max_in_flight


async def test_waiting_in_the_queue_is_no_timeout_and_is_reported(fake: FakeServer) -> None:
    fake.latency = 0.25
    fake.fail(status=404, nth=3)
    async with client_of(fake, max_concurrency=1, timeout=0.7, deadline=0.7) as client:
        calls = (client.metrics.experience("exp-1") for _ in range(3))
        *fine, last = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(last, errors.NotFoundError)
    assert last.waited + last.on_wire > 0.7  # longer than the deadline, most of it in the queue
    assert (True, True) == (last.waited > 0.45, last.on_wire > 0.2)
    assert last.elapsed == pytest.approx(last.waited + last.on_wire, abs=0.02)
    assert not any(isinstance(each, BaseException) for each in fine)


async def test_waiting_for_the_rate_is_no_timeout(fake: FakeServer) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with client_of(fake, rate_limit=5, deadline=0.7, timeout=0.7) as client:
        await asyncio.gather(*(client.metrics.experience("exp-1") for _ in range(5)))
    assert 0.79 < loop.time() - began
    assert 5 == len(fake.requests)


async def test_one_callers_429_holds_everybody_back(fake: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    fake.fail(status=429, headers={"Retry-After": "1"}, nth=1)
    async with client_of(fake) as client:
        first = asyncio.create_task(client.metrics.experience("exp-1"))
        while not fake.requests:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        await asyncio.gather(first, *(client.metrics.experience("exp-1") for _ in range(5)))
    refused, *others = sorted(each.at for each in fake.requests)
    assert all(at - refused > 0.95 for at in others)
    warned = [record for record in caplog.records if (record.name, record.levelname) == ("distinct_async", "WARNING")]
    assert ["distinct asks for a pause of 1 s: all requests to it wait"] == [record.getMessage() for record in warned]


async def test_a_pause_that_would_outlast_the_deadline_is_not_waited_for(fake: FakeServer) -> None:
    fake.fail(status=503, headers={"Retry-After": "30"})
    async with client_of(fake, deadline=5) as client:
        with pytest.raises(errors.ServerError) as refused:
            await client.metrics.experience("exp-1")
        with pytest.raises(errors.RequestTimeoutError) as late:
            await client.metrics.experience("exp-1")
    assert (1, 30.0) == (refused.value.attempts, refused.value.retry_after)
    assert ("deadline", 0, 1) == (late.value.limit, late.value.attempts, len(fake.requests))


async def test_a_retry_after_above_the_maximum_holds_nobody_else(fake: FakeServer) -> None:
    fake.fail(status=429, headers={"Retry-After": "86400"}, nth=1)
    async with client_of(fake) as client:
        with pytest.raises(errors.RateLimitError) as refused:
            await client.metrics.experience("exp-1")
        await client.metrics.experience("exp-1")
    assert 86400.0 == refused.value.retry_after


@pytest.mark.parametrize(
    ("fault", "settings", "expected"),
    [
        (
            {"status": 429, "headers": {"Retry-After": "3600"}},
            {},
            "429 Too Many Requests; not retried: the server asks for 3600 s, and this client waits at most 60 s; lower",
        ),
        (
            {"status": 503, "headers": {"Retry-After": "30"}},
            {"deadline": 5},
            "503 Service Unavailable; not retried: the next attempt is due in 30 s, with ",
        ),
        ({"status": 404}, {}, "404 Not Found"),
    ],
    ids=["too long", "deadline", "not worth it"],
)
async def test_an_error_says_why_it_was_not_retried(
    fake: FakeServer, fault: dict[str, Any], settings: dict[str, Any], expected: str
) -> None:
    fake.fail(**fault, body="{}")
    async with client_of(fake, **settings) as client:
        with pytest.raises(errors.APIError) as refused:
            await client.metrics.experience("exp-1")
    assert str(refused.value).startswith(expected)
    assert refused.value.reason in expected + str(refused.value)
    assert bool(refused.value.reason) == ("not retried" in expected)


async def test_an_empty_budget_is_the_reason_that_is_given(fake: FakeServer) -> None:
    fake.fail(status=503)
    async with client_of(fake, retry=RetryPolicy(base=0)) as client:
        client._engine.core.budgets["distinct"].tokens = 13
        with pytest.raises(errors.ServerError, match="the retry budget is used up") as refused:
            await client.metrics.experience("exp-1")
    assert (1, 13) == (refused.value.attempts, client._engine.core.budgets["distinct"].tokens)


async def test_the_arguments_of_an_error_are_what_its_message_became(fake: FakeServer) -> None:
    fake.fail(status=400, body=f'{{"message": "bad key {fake.api_key}"}}', times=1)
    fake.fail(body="<", times=1)
    async with client_of(fake) as client:
        for kind in (errors.BadRequestError, errors.DecodeError):
            with pytest.raises(kind) as caught:
                await client.metrics.experience("exp-1")
            assert (caught.value.message,) == caught.value.args
            assert (1, "distinct") == (caught.value.attempts, caught.value.vendor)


async def test_the_attempts_limit_becomes_the_deadline_where_that_is_nearer(fake: FakeServer) -> None:
    fake.fail(wire="hang")
    async with client_of(fake, deadline=0.1, retry=RetryPolicy(attempts=3, base=0)) as client:
        with pytest.raises(errors.RequestTimeoutError, match=r"deadline of 0\.1 s") as late:
            await client.metrics.experience("exp-1")
    assert ("deadline", 1) == (late.value.limit, late.value.attempts)


async def test_a_retry_leaves_one_line_with_figures_and_the_operation_only(
    fake: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "distinct_async")
    fake.fail(status=503, times=2)
    async with client_of(fake, retry=RetryPolicy(base=0.001)) as client:
        await client.metrics.user("user-1", experience_id="exp-1")
    records = [record for record in caplog.records if record.name == "distinct_async"]
    lines = [record.getMessage().partition(", retrying")[0] for record in records]
    expected = "metrics.user: attempt {} failed (ServerError)"
    assert [expected.format(1), expected.format(2)] == lines
    assert {"metrics.user"} == {record.operation for record in records}  # type: ignore[attr-defined]


async def test_every_call_reports_its_times_at_debug_level(fake: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "distinct_async")
    async with client_of(fake) as client:
        await client.metrics.experience("exp-1")
    (record,) = (record for record in caplog.records if record.name == "distinct_async")
    assert record.on_wire > 0 <= record.waited  # type: ignore[attr-defined]


async def test_with_sleep_off_a_suite_waits_for_nothing(fake: FakeServer) -> None:
    fake.fail(status=429, headers={"Retry-After": "30"}, times=3)
    async with client_of(fake, retry=RetryPolicy(sleep=False)) as client, asyncio.timeout(5):
        await client.metrics.experience("exp-1")
    assert 4 == len(fake.requests)


async def test_a_slow_answer_is_tried_again_and_then_a_timeout_with_its_limit(fake: FakeServer) -> None:
    fake.fail(wire="hang")
    limits = {"timeout": Timeouts(attempt=0.05), "retry": RetryPolicy(attempts=2, base=0)}
    async with client_of(fake, **limits) as client:
        with pytest.raises(errors.RequestTimeoutError) as late:
            await client.metrics.experience("exp-1")
    assert ("attempt", 2, 2) == (late.value.limit, late.value.attempts, len(fake.requests))


async def test_an_answers_echo_of_the_key_is_blanked(fake: FakeServer) -> None:
    fake.fail(status=400, body=f'{{"message": "bad key {fake.api_key}"}}', headers={"X-Echo": fake.api_key})
    async with client_of(fake) as client:
        with pytest.raises(errors.BadRequestError) as refused:
            await client.metrics.experience("exp-1")
    error = refused.value
    assert ("bad key ***", "***") == (error.message, error.headers["x-echo"])
    assert fake.api_key not in f"{error} {error!r} {error.body} {error.args} {vars(error)}"


async def test_a_body_is_kept_up_to_4096_characters_and_an_excerpt_up_to_1024(fake: FakeServer) -> None:
    fake.fail(status=404, body="x" * 9000, times=1)
    fake.fail(body="<" * 9000, times=1)
    async with client_of(fake) as client:
        with pytest.raises(errors.NotFoundError) as refused:
            await client.metrics.experience("exp-1")
        with pytest.raises(errors.DecodeError) as undecodable:
            await client.metrics.experience("exp-1")
    assert (4096, 1024) == (len(refused.value.body), len(refused.value.message))
    assert 1024 == len(undecodable.value.excerpt)


async def test_a_key_is_missing_only_when_its_vendor_is_used(fake: FakeServer) -> None:
    async with DistinctClient(fake.api_key, base_url=fake.url, vantio_base_url=fake.url) as client:
        await client.metrics.experience("exp-1")
        with pytest.raises(errors.ConfigurationError, match="VANTIO_API_KEY") as missing:
            await client.impressions.get("imp_000001")
    assert ("vantio", 1) == (missing.value.vendor, len(fake.requests))
