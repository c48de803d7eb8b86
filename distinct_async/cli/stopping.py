"""A loop that SIGTERM ends as Ctrl-C does: what is under way is cancelled, and can say where it stood."""

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from distinct_async.cli.exits import TERMINATED

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; SystemExit, once all of it has ended, where SIGTERM came."""
    stopped = asyncio.Event()

    async def watched() -> T:
        task, loop = asyncio.ensure_future(work), asyncio.get_running_loop()

        def stop() -> None:
            stopped.set()
            task.cancel()

        with suppress(NotImplementedError, RuntimeError):  # on Windows; outside of the main thread
            loop.add_signal_handler(signal.SIGTERM, stop)
        return await task

    try:
        return asyncio.run(watched())
    except asyncio.CancelledError:
        if stopped.is_set():
            raise SystemExit(TERMINATED) from None
        raise
