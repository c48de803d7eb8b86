"""An hour in a minute: random faults under load, and nothing may grow. `python -m tests.soak [seconds] [seed]`."""

import asyncio
import random
import resource
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Literal

from distinct_async import DistinctClient, RetryPolicy, Timeouts, errors
from distinct_async.testing import FakeServer, Fault, World

WORKERS = 24
WIRES: tuple[Literal["close", "reset", "hang", "garbage", "cut", "drip"], ...] = (
    "close",
    "reset",
    "hang",
    "garbage",
    "cut",
    "drip",
)
STATUSES = (400, 401, 403, 404, 429, 500, 502, 503, 504)


def faults(seed: int) -> list[Fault]:
    """Each fault strikes about one request in a hundred."""
    wires = [Fault(wire=wire, probability=0.01, seed=seed + i, interval=0.2) for i, wire in enumerate(WIRES)]
    statuses = [Fault(status=status, probability=0.01, seed=seed + status) for status in STATUSES]
    bodies = [
        Fault(body=body, probability=0.01, seed=seed + 1000 + i)
        for i, body in enumerate((b"", b"[]", b'{"data":', b"<html>", b"\xff\xfe", b'{"statusCode":500}'))
    ]
    return [*wires, *statuses, *bodies]


async def one(client: DistinctClient, rng: random.Random) -> None:  # noqa: C901  # a list of calls
    """One call of any kind."""
    match rng.randrange(6):
        case 0:
            await client.metrics.experience("exp-1")
        case 1:
            await client.metrics.user(f"user-{rng.randrange(1, 50)}", experience_id="exp-1")
        case 2:
            await client.impressions.get(f"imp_{rng.randrange(1, 2000):06}")
        case 3:
            async for _ in client.metrics.total_visits("tp-1", page_size=50, limit=500, prefetch=rng.choice((1, 4, 8))):
                if rng.random() < 0.005:
                    break
        case 4:
            async with client.metrics.unique_visits("tp-2", page_size=20).run() as run:
                async for page in run.pages():
                    if rng.random() < 0.1 and page.offset:
                        break
        case _:
            ids = [f"imp_{rng.randrange(1, 2000):06}" for _ in range(20)]
            async for _ in client.impressions.get_many(ids, missing="skip"):
                pass


async def worker(client: DistinctClient, rng: random.Random, ends: float, ended: Counter[str]) -> None:
    """Call after call; now and then one is cancelled."""
    loop = asyncio.get_running_loop()
    while loop.time() < ends:
        try:
            async with asyncio.timeout(0.02 if rng.random() < 0.05 else None):
                await one(client, rng)
            ended["value"] += 1
        except errors.DistinctError as error:
            ended[type(error).__name__] += 1
        except TimeoutError:
            ended["cancelled"] += 1


def open_files() -> int:
    """File descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def soak(seconds: float, seed: int) -> list[str]:
    """What grew, or ended otherwise than it may; nothing is fine."""
    loop, rng, ended = asyncio.get_running_loop(), random.Random(seed), Counter[str]()
    world = World.sample(touchpoints=3, scans=2_000, users=60, seed=seed)
    problems: list[str] = []
    loop.set_exception_handler(lambda _, context: problems.append(str(context)))
    before = open_files(), len(asyncio.all_tasks())
    async with FakeServer(world, faults=faults(seed)) as fake:
        client = DistinctClient(
            **fake.settings,
            timeout=Timeouts(connect=1, attempt=0.5),
            deadline=3,
            retry=RetryPolicy(attempts=3, base=0.01, cap=0.1),
            impression_cache=100,
        )
        memory = now = 0
        for part in range(10):
            ends = loop.time() + seconds / 10
            async with asyncio.TaskGroup() as group:
                for _ in range(WORKERS):
                    group.create_task(worker(client, random.Random(rng.random()), ends, ended))
            fake.requests.clear()
            now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            memory = memory if part > 2 else now  # the first parts warm up
            if fake.max_in_flight > 2 * 16:
                problems.append(f"{fake.max_in_flight} requests in flight at two gates of 16")
        if now > memory * 1.1:
            problems.append(f"memory grew from {memory} to {now} kB")
        await client.close()
    await asyncio.sleep(0.1)
    after = open_files(), len(asyncio.all_tasks())
    if after != before:
        problems.append(f"open files and tasks: {before} before, {after} after")
    print(f"{sum(ended.values())} calls in {seconds:.0f} s: {dict(ended.most_common())}")  # noqa: T201
    return problems


if __name__ == "__main__":
    arguments = [float(text) for text in sys.argv[1:]] + [60.0, 7.0][len(sys.argv) - 1 :]
    with suppress(KeyboardInterrupt):
        sys.exit("\n".join(asyncio.run(soak(arguments[0], int(arguments[1])))) or 0)
