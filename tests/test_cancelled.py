"""A call that is cancelled while it waits leaves no trace: no slot, no turn of the rate, no timer, no retry tokens."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from distinct_async import DistinctClient, RetryPolicy, errors
from distinct_async.sansio.messages import Response
from distinct_async.session import Session
from distinct_async.testing import FakeServer

from .rig import KEY
from .test_engine import client_of
from .virtual import run

GOOD = Response(200, {}, b'{"statusCode": 200, "data": {"totalTouchpoints": 0, "touchpoints": []}}')


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When each request was sent, by a session that responses at once."""
    times: list[float] = []

    async def send(*_: object) -> Response:
        times.append(asyncio.get_running_loop().time())
        return GOOD

    monkeypatch.setattr(Session, "send", send)
    return times


async def impatient(client: DistinctClient, seconds: float) -> bool:
    """Whether a call ended within so many seconds; it is cancelled otherwise."""
    try:
        async with asyncio.timeout(seconds):
            await client.metrics.experience("exp-1")
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("concurrency", [4, 16, 100])
@pytest.mark.parametrize(("rate", "waves"), [(10, 1), (10, 5), (2, 3), (25, 3)])
def test_a_wave_of_impatient_callers_costs_only_the_turns_that_it_used(
    sent: list[float], rate: float, waves: int, concurrency: int
) -> None:
    async def main() -> tuple[list[int], float]:
        loop = asyncio.get_running_loop()
        async with DistinctClient(KEY, rate_limit=rate, max_concurrency=concurrency) as client:
            served = [sum(await asyncio.gather(*(impatient(client, 0.5) for _ in range(40)))) for _ in range(waves)]
            began = loop.time()
            await client.metrics.experience("exp-1")
            return served, loop.time() - began

    served, patient = run(main)
    assert patient <= 1 / rate + 0.001
    assert all(0.5 * rate - 1 <= each <= 0.5 * rate + 1 for each in served), served
    assert all(later - sooner >= 1 / rate - 0.001 for sooner, later in itertools.pairwise(sent))


async def test_on_a_real_socket_a_patient_call_waits_for_one_turn_only(fake: FakeServer) -> None:
    loop = asyncio.get_running_loop()
    async with client_of(fake, rate_limit=10) as client:
        await client.metrics.experience("exp-1")
        waves = [await asyncio.gather(*(impatient(client, 0.3) for _ in range(40))) for _ in range(3)]
        began = loop.time()
        await client.metrics.experience("exp-1")
        assert loop.time() - began < 2.0  # it was 4 s, the turns of those that had gone
    assert 2 + sum(map(sum, waves)) <= len(fake.requests) <= 16


def state_of(client: DistinctClient) -> dict[str, Any]:
    core = client._engine.core
    state = core.state()
    gate = state.gates["distinct"]
    return {
        "slots": gate.slots._value,
        "queue": gate.queue.locked(),
        "turn": gate.next_start,
        "calls": state.calls,
        "tokens": core.budgets["distinct"].tokens,
    }


Waiting = Callable[[DistinctClient], None]


def for_a_pause(client: DistinctClient) -> None:
    loop = asyncio.get_running_loop()
    client._engine.core.state().gates["distinct"].hold(loop.time(), 30.0)


def for_the_rate(client: DistinctClient) -> None:
    client._engine.core.state().gates["distinct"].next_start = asyncio.get_running_loop().time() + 30.0


@pytest.mark.parametrize("waiting", [for_a_pause, for_the_rate])
@pytest.mark.parametrize("callers", [1, 3, 7])
@pytest.mark.parametrize("order", [1, -1], ids=["first come", "last come"])
def test_whoever_is_cancelled_while_waiting_leaves_no_trace(
    sent: list[float], waiting: Waiting, callers: int, order: int
) -> None:
    async def main() -> None:
        async with DistinctClient(KEY, rate_limit=1, max_concurrency=4) as client:
            waiting(client)
            before = state_of(client)
            calls = [asyncio.create_task(client.metrics.experience("exp-1")) for _ in range(callers)]
            await asyncio.sleep(0.5)
            assert before != state_of(client)
            for call in calls[::order]:
                call.cancel()
            await asyncio.wait(calls)
            assert before == state_of(client)

    run(main)
    assert [] == sent


def test_of_those_that_wait_for_the_rate_only_the_first_sleeps(sent: list[float]) -> None:
    async def main() -> tuple[int, list[int]]:
        loop: Any = asyncio.get_running_loop()
        async with DistinctClient(KEY, rate_limit=1, max_concurrency=100) as client:
            for_the_rate(client)
            order: list[int] = []

            async def call(number: int) -> None:
                await client.metrics.experience("exp-1")
                order.append(number)

            calls = [asyncio.create_task(call(number)) for number in range(20)]
            await asyncio.sleep(0.5)
            timers = sum(not timer.cancelled() for timer in loop._scheduled)
            for gone in (0, 1, 5):
                calls[gone].cancel()
            await asyncio.wait(calls)
            return timers, order

    timers, order = run(main)
    assert 1 == timers
    assert [number for number in range(20) if number not in {0, 1, 5}] == order
    assert [30.0 + number for number in range(17)] == [pytest.approx(at - 1000.0, abs=0.5) for at in sent]


def test_a_pause_that_begins_while_others_wait_for_the_rate_reaches_all_of_them(sent: list[float]) -> None:
    async def main() -> list[object]:
        async with DistinctClient(KEY, rate_limit=1, deadline=10) as client:
            for_the_rate(client)
            calls = [asyncio.create_task(client.metrics.experience("exp-1")) for _ in range(3)]
            await asyncio.sleep(25.0)
            for_a_pause(client)
            return list(await asyncio.gather(*calls, return_exceptions=True))

    late = run(main)
    assert [errors.RequestTimeoutError] * 3 == [type(each) for each in late]
    assert [] == sent


def test_a_retry_that_is_cancelled_before_it_is_sent_gives_its_tokens_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def send(*_: object) -> Response:
        return Response(503, {}, b"")

    monkeypatch.setattr(Session, "send", send)

    async def main() -> tuple[int, int]:
        async with DistinctClient(KEY, retry=RetryPolicy(base=50, cap=50)) as client:
            calls = [asyncio.create_task(client.metrics.experience("exp-1")) for _ in range(5)]
            await asyncio.sleep(0.001)
            during = state_of(client)["tokens"]
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
            return during, state_of(client)["tokens"]

    during, after = run(main)
    assert (500 - 5 * 14, 500) == (during, after)
