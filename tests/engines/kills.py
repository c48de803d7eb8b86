"""Scripts that are killed at random moments, and started again."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Callable

import pytest

from distinct_async.testing import FakeServer

KILLS = int(os.environ.get("KILLS", "2"))

posix_only = pytest.mark.skipif(os.name != "posix", reason="kill -9 is a matter of POSIX")


async def run_with_kills(script: str, fake: FakeServer, finished: Callable[[], None], *, requests: int) -> None:
    """Run a script until it has been killed `KILLS` times and then has come to its end.

    Args:
        script: What Python runs, in a process of its own, with this process' environment.
        fake: Whom it asks.
        finished: Called each time when the script has come to its end.
        requests: How many the first run makes, about: a run is killed after some of them, or soon after the last.
    """
    numbers, kills = random.Random(KILLS), 0
    while True:
        fake.requests.clear()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        ending = asyncio.create_task(process.communicate())
        if kills < KILLS:
            awaited = numbers.randrange(1, requests)
            while len(fake.requests) < awaited and not ending.done():
                await asyncio.sleep(0.005)
            await asyncio.wait([ending], timeout=numbers.uniform(0, 2))  # storing
        if kills < KILLS and not ending.done():
            process.send_signal(signal.SIGKILL)
        _, errors = await ending
        if process.returncode == 0:
            finished()
            if kills >= KILLS:
                break
        else:
            assert -signal.SIGKILL == process.returncode, errors.decode()[-2000:]
            kills += 1
