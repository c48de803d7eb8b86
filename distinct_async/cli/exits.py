"""How a command runs and ends: one loop, which signals end as Ctrl-C does, and exit codes with their lines."""

import asyncio
import re
import signal
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from copy import copy
from typing import Any, Final, TypeVar

from cyclopts import CycloptsError

from distinct_async import errors
from distinct_async.cli.console import printable

OK: Final = 0
BUG: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
KEY: Final = 4
UNEXPECTED: Final = 5
NETWORK: Final = 6
DRIFT: Final = 7
PARTIAL: Final = 8
INTERRUPTED: Final = 130  # these two as shells count: 128 and the signal
BROKEN_PIPE: Final = 141
_SIGNAL_BASE: Final = 128

_DOCTOR_HINT: Final = "run 'distinct-async doctor' for details"
_SECRET: Final = re.compile(r"""(?<=\w=)[^"]+(?=")|(?<=\bsk_)\w+""")  # in words that cyclopts repeats: --api-key=...

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of `coroutine`.

    Raises:
        KeyboardInterrupt: Ctrl-C came, and `coroutine` was cancelled and has ended.
        SystemExit: The same after SIGTERM, or after SIGHUP of a lost terminal.
    """
    received: list[int] = []

    async def run_until_signal() -> T:
        task, loop = asyncio.ensure_future(coroutine), asyncio.get_running_loop()

        def stop(signal_number: int) -> None:
            received.append(signal_number)
            task.cancel()

        with suppress(NotImplementedError, RuntimeError):  # on Windows; outside of the main thread
            loop.add_signal_handler(signal.SIGTERM, stop, signal.SIGTERM)
            if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # ignored under nohup
                loop.add_signal_handler(signal.SIGHUP, stop, signal.SIGHUP)
        return await task

    try:
        return asyncio.run(run_until_signal())
    except asyncio.CancelledError:
        if received:
            raise SystemExit(_SIGNAL_BASE + received[0]) from None
        raise


class PartialError(Exception):
    """Something was done, then an error ended it: the `__cause__`.

    Args:
        text: What is kept, and how to continue.
        kept: Whether anything is.
        reported: Whether the cause was reported already.
    """

    def __init__(self, text: str, *, kept: bool = True, reported: bool = False) -> None:
        super().__init__(text)
        self.kept: bool = kept
        self.reported: bool = reported


class MissingError(Exception):
    """Some of what was requested does not exist; the rest was written."""


# The first that fits counts.
_EXIT_CODES: Final[Sequence[tuple[int, tuple[type[BaseException], ...]]]] = (
    (INTERRUPTED, (KeyboardInterrupt,)),
    (BROKEN_PIPE, (BrokenPipeError,)),
    (USAGE, (CycloptsError, errors.ConfigurationError, errors.InvalidRequestError, errors.BadRequestError)),
    (USAGE, (errors.CheckpointError, errors.StorageError)),  # the file that was named cannot be used
    (NOT_FOUND, (errors.NotFoundError, MissingError)),
    (KEY, (errors.AuthenticationError, errors.PermissionDeniedError)),
    (DRIFT, (errors.DriftError,)),
    (UNEXPECTED, (errors.DecodeError, errors.PaginationError)),
    (NETWORK, (errors.APIError, errors.TransportError)),
    (BUG, (BaseException,)),
)


def exit_code(error: BaseException) -> int:
    """Return the exit code of what ended the command."""
    if isinstance(error, PartialError):
        cause = PARTIAL if error.__cause__ is None else exit_code(error.__cause__)
        # A script that runs the command again on PARTIAL must see errors that this cannot fix
        return PARTIAL if error.kept and cause not in {KEY, UNEXPECTED, DRIFT} else cause
    return next(value for value, classes in _EXIT_CODES if isinstance(error, classes))


def error_line(error: BaseException) -> str:
    """Return what happened and what to do, in one line."""
    match error:
        case PartialError(__cause__=BaseException() as cause):
            parts = [str(error)] if error.reported else [error_line(cause), str(error)]
        case errors.ConfigurationError(problem=str(problem)) if problem:
            parts = [_setting_line(error)]
        case errors.DistinctError():
            copied = copy(error)
            copied.remedy = ""  # the library's; `error_hint` has the command's
            parts = [str(copied), error_hint(error), *getattr(error, "__notes__", ())]
        case MissingError() | CycloptsError() | OSError():  # the last of an output that no option names
            parts = [str(error)]
        case _:
            parts = [f"this is a bug: {type(error).__name__}", str(error), "--debug shows where; please report it"]
    joined = printable("; ".join(" ".join(part.split()) for part in parts if part))
    return _SECRET.sub("...", joined) if isinstance(error, CycloptsError) else joined


def error_summary(error: errors.DistinctError) -> str:
    """Return what happened, without the request and what to do."""
    copied = copy(error)
    copied.remedy, copied.operation, copied.vendor, copied.attempts = "", None, None, 0
    return printable(" ".join(str(copied).split()))


_ERROR_HINTS: Final[Sequence[tuple[type[errors.DistinctError] | tuple[type[errors.DistinctError], ...], str]]] = (
    (errors.NotFoundError, "check the id"),
    (errors.DriftError, "start over, without the --checkpoint file"),
    (errors.CheckpointError, "was the --checkpoint made by another command?"),
    (errors.RateLimitError, "try again later, or with --rate-limit"),
    (errors.ServerError, "try again later"),
    (errors.AuthenticationError, f"check the API key; {_DOCTOR_HINT}"),
    (errors.PermissionDeniedError, f"is this machine's IP address on the key's allowlist? {_DOCTOR_HINT}"),
    ((errors.TransportError, errors.DecodeError, errors.PaginationError), _DOCTOR_HINT),
)


def error_hint(error: BaseException) -> str:
    """Return what to do, at this command line."""
    match error:
        case errors.NotFoundError(message=""):
            return f"check the id and the URL; {_DOCTOR_HINT}"
        case errors.DriftError(remedy_option="on_drift"):
            return "--rebuild reloads what has changed"
        case errors.ProtocolError(remedy_option=str(option), vendor=str(vendor)) if option.endswith("base_url"):
            return f"if that is the right place, set {vendor.upper()}_BASE_URL to it"
        case errors.RequestTimeoutError(limit="attempt" | "deadline" as limit):
            return f"allow more with --{'timeout' if limit == 'attempt' else limit}; {_DOCTOR_HINT}"
    return next((text for each, text in _ERROR_HINTS if isinstance(error, each)), "")


def _setting_line(error: errors.ConfigurationError) -> str:
    name = error.variable or f"--{(error.setting or 'setting').replace('_', '-')}"
    if error.problem == "is not set":
        return f"no API key for {error.vendor}: set {name}, or name a --key-file"
    if error.remedy_option == "allow_http":
        return f"{name} {error.problem}; use https, or --allow-http"
    where_to_set = ", in the environment or the --key-file" if error.variable else ""
    return f"{name} {error.problem}; correct {name}{where_to_set}"
