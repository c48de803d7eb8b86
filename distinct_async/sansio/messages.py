"""The values that the layers exchange: requests, responses, and what they mean."""

import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from operator import index
from typing import Generic, Literal, TypeVar, cast
from urllib.parse import quote

import msgspec
from attrs import field, frozen

from distinct_async.errors import Annotations, DistinctError, InvalidRequestError, TimeLimit
from distinct_async.sansio.matching import Check
from distinct_async.vendors import Vendor

Text = TypeVar("Text", bound=str)

NoResponseKind = Literal["connect", "tls", "handshake", "timeout", "broken", "protocol", "refused", "encoding"]
"""Why no response arrived; `dialect` maps each to an error.

connect: no connection. tls: no trusted connection. handshake: the TLS handshake was cut. timeout: a time limit expired.
broken: the connection was cut or reset. protocol: malformed HTTP. refused: well-formed, but unusable (too large, an
unknown status). encoding: a Content-Encoding that was not requested.
"""


_INT64_LIMIT = 2**63  # the range of a signed 64-bit integer
_UNSENDABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, lone surrogates

_UNRESERVED = re.compile("[A-Za-z0-9_.~-]*")  # RFC 3986, section 2.3


T_co = TypeVar("T_co", covariant=True)


@frozen(eq=False)
class Decoder(Generic[T_co]):
    """How a good response becomes a value, in two ways that agree on every response.

    Attributes:
        fast: Takes the whole body, envelope included, and returns None on any mismatch.
        strict: Takes the payload as JSON text, after `fast` has returned None; raises a `DecodeError` that says where
            the payload is wrong.
    """

    fast: Callable[[bytes], T_co | None]
    strict: Callable[[msgspec.Raw], T_co]


UNDECODED: Decoder[msgspec.Raw] = Decoder(lambda _: None, lambda payload: payload)
"""Leaves the payload as JSON text."""


@frozen
class Request(Generic[T_co]):
    """One GET, ready to be sent: path and query are quoted already.

    Attributes:
        vendor: Where to.
        operation: The call and its ids, without a user's, as errors show it.
        path: The path.
        query: The query string.
        private: Values that no text may show.
        decoder: How a good response becomes a value.
        check: Whether a good response belongs to this request.
    """

    vendor: Vendor
    operation: str
    path: str
    query: str = field(default="", repr=False)
    private: tuple[str, ...] = field(default=(), repr=False)
    decoder: Decoder[T_co] = field(default=cast("Decoder[T_co]", UNDECODED), repr=False, eq=False)
    check: Check | None = field(default=None, repr=False, eq=False)

    @property
    def name(self) -> str:
        """The operation without its ids."""
        return self.operation.partition("(")[0]


@frozen
class Response:
    """A complete HTTP response. Repeated headers are joined by a comma."""

    status: int
    headers: MutableMapping[str, str]
    body: bytes = field(repr=False)


@frozen
class NoResponse:
    """No response. `text` is safe to show: it contains nothing that the server sent."""

    kind: NoResponseKind
    text: str
    limit: TimeLimit | None = None


@frozen
class Reading(Generic[T_co]):
    """What one attempt's outcome means: a value, or an error.

    Attributes:
        value: What the request's decoder made of the response; None if there is an error.
        error: What went wrong.
        again: Whether another attempt may help.
        throttled: Whether the server asked everybody to slow down.
        retry_after: The header, verbatim.
        date: The header, verbatim.
        foreign: Whether this was another request's response, so that the connection is out of step.
    """

    value: T_co | None = field(default=None, repr=False)
    error: DistinctError | None = None
    again: bool = False
    throttled: bool = False
    retry_after: str | None = field(default=None, repr=False)
    date: str | None = field(default=None, repr=False)
    foreign: bool = False


@frozen
class Reply(Generic[T_co]):
    """The value of one call and what it cost.

    Attributes:
        value: What the request's decoder made of the response.
        request: The request.
        attempts: Requests sent.
        waited: Seconds in the queue, in pauses and between attempts.
        on_wire: Seconds of the attempts.
    """

    value: T_co = field(repr=False)
    request: Request[T_co]
    attempts: int = 1
    waited: float = 0.0
    on_wire: float = 0.0

    @property
    def annotations(self) -> Annotations:
        """What an error that is found in the value says about its call."""
        return {
            "vendor": self.request.vendor,
            "operation": self.request.operation,
            "attempts": self.attempts,
            "elapsed": self.waited + self.on_wire,
            "waited": self.waited,
            "on_wire": self.on_wire,
        }


@frozen
class Attempt:
    """One attempt of a call, as `on_attempt` gets it: figures and names, no id of a person, no key.

    Attributes:
        vendor: ``"distinct"`` or ``"vantio"``.
        operation: The call without its ids, for example ``"metrics.user"``.
        attempt: Which attempt of the call this was, from 1.
        status: The response's status, or the one that its envelope states instead; None if no response arrived.
        request_id: The server's id of the request, for its support; None if it sent none.
        waited: Seconds between the call, or its previous attempt, and this one: in queues, in pauses, before a retry.
        on_wire: Seconds of this attempt, from opening the connection to the last byte of the body.
        error: The name of the error's class; ``"CancelledError"`` if the caller was cancelled; None if it succeeded.
        retry_in: Seconds until the next attempt; None if this was the last.
    """

    vendor: Vendor
    operation: str
    attempt: int
    status: int | None
    request_id: str | None
    waited: float
    on_wire: float
    error: str | None
    retry_in: float | None


AttemptCallback = Callable[[Attempt], object]


def query(params: Mapping[str, str]) -> str:
    """Return the query string of the parameters. Their names are constants that need no encoding."""
    return "&".join([f"{name}={_quote(text)}" for name, text in params.items()])


def _quote(text: str) -> str:
    # Most texts need no encoding, and quote() takes longer to find that out
    return text if _UNRESERVED.fullmatch(text) else quote(text, safe="")


def segment(value: str, name: str) -> tuple[str, str]:
    """Return `value` as an exact str, and percent-encoded as one path segment.

    Raises:
        InvalidRequestError: If it is empty, which is the URL of the list, a dot segment, which proxies and servers
            resolve, or contains control characters.
    """
    if (exact := identifier(value, name)) in {".", ".."}:
        raise InvalidRequestError(f"{name} is {exact!r}: dot segments cannot be sent in a path")
    return exact, _quote(exact)


def identifier(value: str, name: str) -> str:
    """Return `value` as an exact str: a member of a ``class X(str, Enum)`` becomes its value, not ``X.MEMBER``.

    Raises:
        InvalidRequestError: If it is no str, is empty, or contains control characters or lone surrogates.
    """
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} must be a str, got {type(value).__name__}")
    exact = str.__str__(value)
    if not exact.strip():
        raise InvalidRequestError(f"{name} is empty")
    if _UNSENDABLE.search(exact):
        raise InvalidRequestError(f"{name} contains a control character or a lone surrogate")
    return exact


def choice(value: Text, name: str, options: Sequence[str]) -> Text:
    """The option that `value` equals, as an exact str."""
    for option in options:
        if option == value:
            return option
    *first, last = map(repr, options)
    raise InvalidRequestError(f"{name} must be {', '.join(first)} or {last}, got {value!r}")


def exact_int(value: object) -> int | None:
    """Return `value` as an exact int, also NumPy's integers; None for anything else, including a bool."""
    try:
        return None if isinstance(value, bool) else index(value)  # type: ignore[arg-type]  # that is the question
    except TypeError:
        return None


def whole_number(value: int, name: str, least: int) -> int:
    """Return `value` as an exact int of at least `least`, or raise `InvalidRequestError`."""
    if (exact := exact_int(value)) is None:
        raise InvalidRequestError(f"{name} must be an int, got {type(value).__name__}")
    if exact < least:
        raise InvalidRequestError(f"{name} must be at least {least}, got {exact}")
    if exact >= _INT64_LIMIT:
        raise InvalidRequestError(f"{name} must be below 2**63")
    return exact
