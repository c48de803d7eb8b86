"""A loop that signals end as Ctrl-C does: what is under way is cancelled, and can say where it stood."""

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

T = TypeVar("T")

_SIGNALLED: Final = 128  # and the number, as shells count


def run(work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; SystemExit, once all of it has ended, where SIGTERM came, or SIGHUP of a lost terminal."""
    came: list[int] = []

    async def watched() -> T:
        task, loop = asyncio.ensure_future(work), asyncio.get_running_loop()

        def stop(number: int) -> None:
            came.append(number)
            task.cancel()

        with suppress(NotImplementedError, RuntimeError):  # on Windows; outside of the main thread
            loop.add_signal_handler(signal.SIGTERM, stop, signal.SIGTERM)
            if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # so is it under nohup
                loop.add_signal_handler(signal.SIGHUP, stop, signal.SIGHUP)
        return await task

    try:
        return asyncio.run(watched())
    except asyncio.CancelledError:
        if came:
            raise SystemExit(_SIGNALLED + came[0]) from None
        raise
