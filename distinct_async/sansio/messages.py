"""The values that travel between the floors: what is asked, what came back, and how it reads."""

import re
from collections.abc import Callable, Mapping, MutableMapping
from typing import Literal
from urllib.parse import quote

import msgspec
from attrs import field, frozen

from distinct_async.errors import DistinctError, InvalidRequestError, TimeLimit

Vendor = Literal["distinct", "vantio"]

FailureKind = Literal["connect", "tls", "timeout", "broken", "protocol", "refused", "encoding"]
"""Why no response came; `dialect` says what each means for the caller.

connect: no connection. tls: no trusted one. timeout: a limit was hit. broken: cut or reset on the way.
protocol: malformed HTTP. refused: well-formed, but not to be used (too large, no such status). encoding: a
Content-Encoding that was not asked for.
"""


_TOP = 2**63  # no server counts further
_UNSENDABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, lone surrogates

_UNRESERVED = re.compile("[A-Za-z0-9_.~-]*")  # RFC 3986, section 2.3


@frozen
class Request:
    """One GET, ready to be sent: path and query are quoted already."""

    vendor: Vendor
    operation: str  # shown in errors: the call and its ids, without a user's
    path: str
    query: str = field(default="", repr=False)
    private: tuple[str, ...] = field(default=(), repr=False)  # values that no text may show
    quick: Callable[[bytes], object] | None = field(default=None, repr=False, eq=False)  # reads a good answer in one go


@frozen
class Response:
    """An HTTP response, read to its end. Repeated headers are joined by a comma."""

    status: int
    headers: MutableMapping[str, str]
    body: bytes = field(repr=False)


@frozen
class Failure:
    """No response. `text` is safe to show: nothing the server sent is in it."""

    kind: FailureKind
    text: str
    limit: TimeLimit | None = None


@frozen
class Reading:
    """What one attempt's outcome means, as `dialect.read` has it: a payload, or an error."""

    payload: object = field(default=msgspec.Raw(b"null"), repr=False)
    error: DistinctError | None = None
    again: bool = False  # worth another attempt
    throttled: bool = False  # the server asked everyone to slow down
    retry_after: str | None = field(default=None, repr=False)  # the header, verbatim


@frozen
class Reply:
    """The answer to one call and what it cost; the payload is JSON text, or what the request's `quick` made of it."""

    payload: object = field(repr=False)
    request: Request
    attempts: int = 1
    waited: float = 0.0  # seconds in the queue, in pauses and between attempts
    on_wire: float = 0.0  # seconds of the attempts themselves


def query(params: Mapping[str, str]) -> str:
    """The parameters as they go on the wire. Their names are ours, and need no quoting."""
    return "&".join([f"{name}={_quoted(text)}" for name, text in params.items()])


def _quoted(text: str) -> str:
    # Most ids need none, and quote() takes longer to find that out
    return text if _UNRESERVED.fullmatch(text) else quote(text, safe="")


def segment(value: str, name: str) -> str:
    """`value` quoted into exactly one path segment.

    An empty one would turn the URL into the list's, and dot segments are resolved away by proxies and servers:
    :exc:`InvalidRequestError` for these and for control characters.
    """
    if (checked := identifier(value, name)) in {".", ".."}:
        raise InvalidRequestError(f"{name} is {checked!r}: dot segments cannot be sent in a path")
    return _quoted(checked)


def identifier(value: str, name: str) -> str:
    """`value`, if it can be an id at all: a str, not empty, no control characters, encodable."""
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} must be a str, got {type(value).__name__}")
    if not value.strip():
        raise InvalidRequestError(f"{name} is empty")
    if _UNSENDABLE.search(value):
        raise InvalidRequestError(f"{name} contains a control character or a lone surrogate")
    return value


def whole_number(value: int, name: str, least: int) -> int:
    """`value`, if it is an int of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequestError(f"{name} must be an int, got {type(value).__name__}")
    if not least <= value < _TOP:
        raise InvalidRequestError(f"{name} must be from {least} to 2**63 - 1, got {value if value < _TOP else 'more'}")
    return value
