"""`rate_limit` takes a limiter of the user's own: an async context manager that each attempt enters."""

import asyncio
import sys
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from distinct_async import Attempt, DistinctClient, RetryPolicy, errors
from distinct_async.testing import FakeServer

from .documents import BLOCK, SITE


class Limiter:
    """Counts who is inside, and lets so many in."""

    def __init__(self, slots: int = 100, wait: float = 0.0) -> None:
        self.slots, self.wait = asyncio.Semaphore(slots), wait
        self.entered = self.left = self.most = 0

    async def __aenter__(self) -> Self:
        await self.slots.acquire()
        self.entered += 1
        self.most = max(self.most, self.entered - self.left)
        await asyncio.sleep(self.wait)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.left += 1
        self.slots.release()


def client_of(fake: FakeServer, limiter: Any, **settings: Any) -> DistinctClient:
    return DistinctClient(**fake.settings, rate_limit=limiter, retry=RetryPolicy(attempts=3, base=0), **settings)


async def test_each_attempt_is_made_within_the_limiter_and_clients_can_share_one(fake: FakeServer) -> None:
    fake.latency = 0.01
    fake.fail(status=503, times=2)
    limiter = Limiter(2)
    async with client_of(fake, limiter) as one, client_of(fake, limiter) as other:
        calls = [client.metrics.experience("exp-1") for client in (one, other) for _ in range(4)]
        await asyncio.gather(*calls, one.impressions.get("imp_000001"))

    assert (11, 11, 2) == (limiter.entered, limiter.left, limiter.most)
    assert 2 == fake.max_in_flight


async def test_waiting_for_a_limiter_is_no_timeout_and_counts_as_waiting(fake: FakeServer) -> None:
    seen = list[Attempt]()
    async with client_of(fake, Limiter(1, wait=0.4), deadline=0.7, timeout=0.7, on_attempt=seen.append) as client:
        await asyncio.gather(*(client.metrics.experience("exp-1") for _ in range(3)))

    assert [0.4, 0.8, 1.2] == pytest.approx(sorted(each.waited for each in seen), abs=0.35)


async def test_a_cancelled_wait_for_a_limiter_leaves_it(fake: FakeServer) -> None:
    limiter = Limiter(1)
    async with client_of(fake, limiter) as client:
        await limiter.slots.acquire()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.metrics.experience("exp-1"), 0.05)
        limiter.slots.release()
        await client.metrics.experience("exp-1")

    assert (1, 1) == (limiter.entered, limiter.left)


async def test_a_cancelled_attempt_leaves_its_limiter(fake: FakeServer) -> None:
    limiter = Limiter(1)
    fake.fail(wire="hang", times=1)
    async with client_of(fake, limiter) as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.metrics.experience("exp-1"), 0.05)
        await client.metrics.experience("exp-1")

    assert (2, 2) == (limiter.entered, limiter.left)


async def test_close_ends_the_wait_for_a_limiter(fake: FakeServer) -> None:
    limiter = Limiter(1)
    await limiter.slots.acquire()
    client = client_of(fake, limiter)
    call = asyncio.create_task(client.metrics.experience("exp-1"))
    await asyncio.sleep(0.02)
    async with asyncio.timeout(5):
        await client.close()
    with pytest.raises(errors.ClientStateError, match="closed during this call"):
        await call


async def test_no_attempt_is_sent_during_a_pause_that_began_while_it_waited_for_the_limiter(fake: FakeServer) -> None:
    seen = list[Attempt]()
    fake.fail(status=429, headers={"Retry-After": "1"}, times=1)
    async with client_of(fake, Limiter(1), on_attempt=seen.append) as client:
        await asyncio.gather(client.metrics.experience("exp-1"), client.metrics.experience("exp-1"))

    assert [429, 200, 200] == [each.status for each in seen]
    assert all(each.waited > 0.9 for each in seen[1:])


async def test_a_pause_is_over_before_the_limiter_is_entered(fake: FakeServer) -> None:
    limiter = Limiter(2)
    fake.fail(status=429, headers={"Retry-After": "1"}, times=1)
    async with client_of(fake, limiter) as client:
        first = asyncio.create_task(client.metrics.experience("exp-1"))
        while not limiter.left:
            await asyncio.sleep(0.001)
        second = asyncio.create_task(client.metrics.experience("exp-1"))
        await asyncio.sleep(0.1)
        assert 1 == limiter.entered
        await asyncio.gather(first, second)


@asynccontextmanager
async def once() -> Any:
    yield


class Broken:
    def __init__(self, *, enters: bool) -> None:
        self.enters = enters

    async def __aenter__(self) -> None:
        if not self.enters:
            raise ConnectionError("redis://:password@host")

    async def __aexit__(self, *_: object) -> None:
        raise KeyError


@pytest.mark.parametrize(
    ("kind", "limiter"),
    [("ConnectionError", Broken(enters=False)), ("KeyError", Broken(enters=True)), ("AttributeError", once())],
    ids=["entering", "leaving", "used up"],
)
async def test_what_a_limiter_raises_is_the_cause_of_our_error(
    kind: str, limiter: AbstractAsyncContextManager[object], fake: FakeServer
) -> None:
    async with client_of(fake, limiter) as client:
        if kind == "AttributeError":
            await client.metrics.experience("exp-1")
        with pytest.raises(errors.TransportError, match=f"the limiter .* raised {kind}") as caught:
            await client.metrics.experience("exp-1")
        assert client._engine.core._loop_state is not None
        assert 0 == client._engine.core._loop_state.calls

    assert kind == type(caught.value.__cause__).__name__
    assert "password" not in str(caught.value)
    assert ("distinct", "metrics.experience(experience_id='exp-1')") == (caught.value.vendor, caught.value.operation)


@pytest.mark.parametrize(
    "given", ["5", 0, -1, float("nan"), True, asyncio.sleep], ids=["str", "0", "-1", "nan", "bool", "function"]
)
def test_what_is_neither_a_rate_nor_a_limiter_is_refused_at_once(given: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match="rate_limit must be"):
        DistinctClient(rate_limit=given)


@pytest.mark.skipif(sys.platform == "win32", reason="fcntl is POSIX")
@pytest.mark.timeout(120)  # two processes
async def test_the_limiter_of_the_how_to_spaces_the_requests_of_two_processes(
    distinct_env: FakeServer, tmp_path: Path
) -> None:
    page = (SITE / "how-to" / "retries.md").read_text(encoding="utf-8")
    (block,) = (each for each in BLOCK.findall(page) if "class SharedRate" in each)
    use = """
async def main():
    async with DistinctClient(rate_limit=SharedRate(Path("rate"), per_second=20)) as client:
        await asyncio.gather(*(client.metrics.experience("exp-1") for _ in range(8)))

asyncio.run(main())
"""
    (tmp_path / "use.py").write_text(block.partition("\nshared = ")[0] + use)
    start = asyncio.create_subprocess_exec
    both = [await start(sys.executable, "use.py", cwd=tmp_path) for _ in range(2)]

    assert [0, 0] == [await each.wait() for each in both]
    times = sorted(request.at for request in distinct_env.requests)
    assert 16 == len(times)
    assert times[-1] - times[0] > 0.5  # 15 / 20 s; two limits of their own would need 7 / 20 s
