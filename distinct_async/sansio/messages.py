"""The values that travel between the floors: what is asked, what came back, and how it reads."""

import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from operator import index
from typing import Literal, TypeVar
from urllib.parse import quote

import msgspec
from attrs import field, frozen

from distinct_async.errors import Annotations, DistinctError, InvalidRequestError, TimeLimit
from distinct_async.sansio.matching import Check
from distinct_async.vendors import Vendor

T = TypeVar("T", bound=str)

FailureKind = Literal["connect", "tls", "handshake", "timeout", "broken", "protocol", "refused", "encoding"]
"""Why no response came; `dialect` says what each means for the caller.

connect: no connection. tls: no trusted one. handshake: TLS cut short. timeout: a limit was hit. broken: cut or
reset on the way.
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
    check: Check | None = field(default=None, repr=False, eq=False)  # whether a good response belongs to this request

    @property
    def name(self) -> str:
        """The operation without its ids."""
        return self.operation.partition("(")[0]


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
    date: str | None = field(default=None, repr=False)  # likewise
    foreign: bool = False  # another request's response: the connection is out of step


@frozen
class Reply:
    """The answer to one call and what it cost; the payload is JSON text, or what the request's `quick` made of it."""

    payload: object = field(repr=False)
    request: Request
    attempts: int = 1
    waited: float = 0.0  # seconds in the queue, in pauses and between attempts
    on_wire: float = 0.0  # seconds of the attempts themselves

    @property
    def annotations(self) -> Annotations:
        """What an error that is found in the payload has to say about its call."""
        return {
            "vendor": self.request.vendor,
            "operation": self.request.operation,
            "attempts": self.attempts,
            "elapsed": self.waited + self.on_wire,
            "waited": self.waited,
            "on_wire": self.on_wire,
        }


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
    """`value` as an exact str, if it can be an id: not empty, no control characters, encodable.

    A member of a ``class X(str, Enum)`` is its value, not ``X.MEMBER``.
    """
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} must be a str, got {type(value).__name__}")
    exact = str.__str__(value)
    if not exact.strip():
        raise InvalidRequestError(f"{name} is empty")
    if _UNSENDABLE.search(exact):
        raise InvalidRequestError(f"{name} contains a control character or a lone surrogate")
    return exact


def choice(value: T, name: str, options: Sequence[str]) -> T:
    """The option that `value` equals, as an exact str."""
    for option in options:
        if option == value:
            return option
    *first, last = map(repr, options)
    raise InvalidRequestError(f"{name} must be {', '.join(first)} or {last}, got {value!r}")


def exact_int(value: object) -> int | None:
    """`value` as an exact int, NumPy's integers included; None for anything else, a bool too."""
    try:
        return None if isinstance(value, bool) else index(value)  # type: ignore[arg-type]  # that is the question
    except TypeError:
        return None


def whole_number(value: int, name: str, least: int) -> int:
    """`value` as an exact int of at least `least`."""
    if (exact := exact_int(value)) is None:
        raise InvalidRequestError(f"{name} must be an int, got {type(value).__name__}")
    if exact < least:
        raise InvalidRequestError(f"{name} must be at least {least}, got {exact}")
    if exact >= _TOP:
        raise InvalidRequestError(f"{name} must be below 2**63")
    return exact
