"""One loop for all commands: signals end it as Ctrl-C does, so that what is under way can be cleaned up."""

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

T = TypeVar("T")

_SIGNALLED: Final = 128  # plus the number, as shells count


def run(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`.

    Raises:
        KeyboardInterrupt: Ctrl-C came, and `work` was cancelled and has ended.
        SystemExit: The same after SIGTERM, or after SIGHUP of a lost terminal.
    """
    received: list[int] = []

    async def watch() -> T:
        task, loop = asyncio.ensure_future(work), asyncio.get_running_loop()

        def stop(number: int) -> None:
            received.append(number)
            task.cancel()

        with suppress(NotImplementedError, RuntimeError):  # on Windows; outside of the main thread
            loop.add_signal_handler(signal.SIGTERM, stop, signal.SIGTERM)
            if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # ignored under nohup
                loop.add_signal_handler(signal.SIGHUP, stop, signal.SIGHUP)
        return await task

    try:
        return asyncio.run(watch())
    except asyncio.CancelledError:
        if received:
            raise SystemExit(_SIGNALLED + received[0]) from None
        raise
