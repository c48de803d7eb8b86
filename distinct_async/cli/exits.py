"""How the command ends: the one place that knows which error is which exit code, and what its line says."""

import re
from typing import Final

from cyclopts import CycloptsError

from distinct_async.errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    CheckpointError,
    ConfigurationError,
    DecodeError,
    DistinctError,
    DriftError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    StorageError,
    TransportError,
)

FINE: Final = 0
OURS: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
KEY: Final = 4
NETWORK: Final = 6
PARTIAL: Final = 8
INTERRUPTED: Final = 130  # these two as shells count: 128 and the signal
BROKEN_PIPE: Final = 141

_DOCTOR: Final = "distinct-async doctor tells more"
_SECRET: Final = re.compile(r"""(?<=\w=)[^"]+(?=")|(?<=\bsk_)\w+""")  # in words that cyclopts repeats: --api-key=...


class PartialError(Exception):
    """Some was done, and is kept; then an error ended it, which is the `__cause__`. The text says what is kept."""


class MissingError(Exception):
    """Some of what was asked for does not exist; the rest was given."""


def code(error: BaseException) -> int:
    """The exit code of what ended the command; 1 is a bug of ours, or an answer that no promise covers."""
    match error:
        case PartialError():
            # Where the key is refused, going on is of no use: that is what a script must see
            return KEY if error.__cause__ is not None and code(error.__cause__) == KEY else PARTIAL
        case KeyboardInterrupt():
            return INTERRUPTED
        case BrokenPipeError():
            return BROKEN_PIPE
        case CycloptsError() | ConfigurationError() | InvalidRequestError() | BadRequestError():
            return USAGE
        case CheckpointError() | StorageError():
            return USAGE  # the file that was named is not one to be used
        case NotFoundError() | MissingError():
            return NOT_FOUND
        case AuthenticationError() | PermissionDeniedError():
            return KEY
        case APIError() | TransportError():
            return NETWORK
    return OURS


def line(error: BaseException) -> str:
    """What happened and what to do, in one line."""
    match error:
        case PartialError(__cause__=BaseException() as cause):
            parts = [line(cause), str(error)]
        case ConfigurationError(variable=str(variable), problem="is not set"):  # its remedy is the library's
            parts = [f"no API key for {error.vendor}: set {variable}, or name a --key-file"]
        case PartialError() | MissingError() | CycloptsError() | DistinctError():
            parts = [str(error), hint(error), *getattr(error, "__notes__", ())]
        case OSError():  # of the output, mostly, where no option names it
            parts = [str(error)]
        case _:
            parts = [f"this is a bug: {type(error).__name__}", str(error), "--debug shows where; please report it"]
    told = "; ".join(" ".join(part.split()) for part in parts if part)
    return _SECRET.sub("...", told) if isinstance(error, CycloptsError) else told


def hint(error: BaseException) -> str:
    """What to do, at this command line."""
    match error:
        case NotFoundError():
            return "check the id" if error.message else f"check the id and the URL; {_DOCTOR}"
        case DriftError(remedy_option="on_drift"):
            return "here that is --rebuild"
        case CheckpointError():
            return "is it the --checkpoint of this very question?"
        case RateLimitError():
            asked = "" if error.retry_after is None else f" (the server asks for {error.retry_after:.0f} s)"
            return f"try again later{asked}, or with a smaller --prefetch"
        case ServerError():
            return "try again later"
        case ConfigurationError(remedy_option="allow_http"):
            return "here that is --allow-http"
        case ConfigurationError(variable=str(variable)):
            return f"correct {variable}, in the environment or the --key-file"
        case ConfigurationError() | AuthenticationError() | PermissionDeniedError() | TransportError() | DecodeError():
            return _DOCTOR
    return ""
