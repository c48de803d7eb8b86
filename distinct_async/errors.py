"""Every exception that this library raises.

::

    DistinctError
    ├── ConfigurationError (ValueError)     bad or missing settings
    ├── InvalidRequestError (ValueError)    invalid arguments, noticed before any I/O
    ├── ClientStateError (RuntimeError)     closed, another event loop, another process
    ├── TransportError                      no usable response arrived
    │   ├── ConnectError                    refused, DNS
    │   │   └── TLSError                    certificate, handshake
    │   ├── RequestTimeoutError (TimeoutError)
    │   └── ProtocolError                   malformed HTTP, redirect, too large
    ├── APIError                            the server returned an error
    │   ├── BadRequestError                 400, 422
    │   ├── AuthenticationError             401
    │   ├── PermissionDeniedError           403
    │   ├── NotFoundError                   404
    │   ├── RateLimitError                  429
    │   └── ServerError                     5xx
    ├── DecodeError                         the response has an unexpected shape
    ├── PaginationError                     the walk cannot guarantee that no row is lost or repeated
    │   ├── PageLoopError                   the server ignores offset, or repeats a page
    │   ├── DriftError                      rows moved while they were read
    │   └── CheckpointError                 not a checkpoint, or one of another walk
    └── StorageError                        a job's own file or database cannot be read or written
    DriftWarning (UserWarning)              a DriftError with on_drift="warn"

``str()`` says what happened, to which request, after how many attempts, and what to do. It never shows a key, a body,
the user id that was asked for, or what looks like an e-mail address, an IP address, a phone number or a user agent;
``repr()`` does not either. The vendor's message is complete in `APIError.message`; ``str()`` repeats it with ``<...>``
instead of such words, in one line of at most 300 characters.
"""

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Literal, TypedDict, TypeVar, Unpack

from attrs import define, field

from distinct_async.redaction import redact

if TYPE_CHECKING:  # a protocol in their place would leave `walk.resume(error.checkpoint)` without a type
    from distinct_async.etl.results import Result
    from distinct_async.sansio.pages import Checkpoint

__all__ = [
    "APIError",
    "AuthenticationError",
    "BadRequestError",
    "CheckpointError",
    "ClientStateError",
    "ConfigurationError",
    "ConnectError",
    "DecodeError",
    "DistinctError",
    "DriftError",
    "DriftWarning",
    "InvalidRequestError",
    "NotFoundError",
    "PageLoopError",
    "PaginationError",
    "PermissionDeniedError",
    "ProtocolError",
    "RateLimitError",
    "RequestTimeoutError",
    "ServerError",
    "StorageError",
    "TLSError",
    "TransportError",
]

TimeLimit = Literal["connect", "attempt", "deadline"]


# Not auto_exc: attrs would put every field into `args`, bodies too. Not frozen: `annotate` completes errors.
@define(slots=False, eq=False, repr=False, auto_exc=False)
class DistinctError(Exception):
    """Base class of all errors of this library.

    Attributes:
        message: What happened; for an `APIError` in the vendor's own words.
        vendor: ``"distinct"`` or ``"vantio"``; None if no vendor was involved.
        operation: The call, with the ids that may be shown: ``metrics.experience(experience_id='exp-1')``.
        attempts: Requests sent for this call; 0 if none was.
        elapsed: Seconds from the call to this error.
        waited: Of these, seconds spent in the client's queues, in pauses and between attempts.
        on_wire: Of these, seconds spent on requests.
        checkpoint: The position of a walk, for `Walk.resume`; None outside walks, and if no row was yielded.
        result: What a job of `distinct_async.etl` did before this error ended it; None outside jobs.
        reason: Why a failure that may pass was not retried although attempts were left; ``str()`` appends it.
        remedy: What to do about it, in terms of this library; ``str()`` appends it.
        remedy_option: The argument that `remedy` names, for example ``"allow_http"`` or ``"on_drift"``; None if it
            names none. A front end translates it to its own options, instead of parsing a message.
    """

    message: str = ""
    vendor: str | None = field(default=None, kw_only=True)
    operation: str | None = field(default=None, kw_only=True)
    attempts: int = field(default=0, kw_only=True)
    elapsed: float = field(default=0.0, kw_only=True)
    waited: float = field(default=0.0, kw_only=True)
    on_wire: float = field(default=0.0, kw_only=True)
    checkpoint: "Checkpoint | None" = field(default=None, kw_only=True)
    result: "Result | None" = field(default=None, kw_only=True)
    reason: str = field(default="", kw_only=True)
    remedy: str = field(default="", kw_only=True)
    remedy_option: str | None = field(default=None, kw_only=True)

    def __str__(self) -> str:
        """Return one line: what happened, to which request, after how many attempts, and what to do."""
        where = [part for part in (self.operation, self.vendor and f"at {self.vendor}") if part]
        if self.attempts:
            waiting = f", {self.waited:.2f} s of it waiting" if self.waited > 1 else ""
            attempts = f"{self.attempts} attempt{'s' * (self.attempts != 1)}"
            where.append(f"after {attempts} in {self.elapsed:.2f} s{waiting}")
        text = "; ".join(filter(None, (self._headline(), self.reason, self.remedy))) or type(self).__name__
        return text + (f" [{' '.join(where)}]" if where else "")

    def _headline(self) -> str:
        return self.message

    def __repr__(self) -> str:
        """Return the class and ``str()``."""
        return f"{type(self).__name__}({str(self)!r})"

    # OSError (a base of TimeoutError) rewrites `args` in its constructor, so unpickling calls no constructor.
    def __reduce__(self) -> tuple[object, ...]:
        """Pickle and copy as the attributes."""
        return type(self).__new__, (type(self),), {**vars(self), "args": self.args}


class Annotations(TypedDict, total=False):
    """The fields that `annotate` sets, each as `DistinctError` describes it."""

    vendor: str | None
    operation: str | None
    attempts: int
    elapsed: float
    waited: float
    on_wire: float
    checkpoint: "Checkpoint | None"
    result: "Result"


E = TypeVar("E", bound=DistinctError)


def annotate(error: E, **fields: Unpack[Annotations]) -> E:
    """Complete an error with what only a caller further up knows, and return it.

    Args:
        error: The error, changed in place.
        **fields: The attributes to set.
    """
    for name, value in fields.items():
        setattr(error, name, value)
    error.args = (error.message,)
    return error


@define(slots=False, eq=False, repr=False, auto_exc=False)
class ConfigurationError(DistinctError, ValueError):
    """A setting is bad or missing: a key, a base URL, a limit. Nothing was sent.

    Attributes:
        setting: The argument that sets it, for example ``"base_url"``; None if no single one does.
        variable: The environment variable that sets it, for example ``"DISTINCT_BASE_URL"``; None if there is none.
        problem: What is wrong with it, without its name: ``"must be at least 1, got 0"``. A front end puts in front the
            name that its user knows.
    """

    setting: str | None = field(default=None, kw_only=True)
    variable: str | None = field(default=None, kw_only=True)
    problem: str = field(default="", kw_only=True)


class InvalidRequestError(DistinctError, ValueError):
    """An argument of the call is invalid: an empty id, a page size of 0. Nothing was sent."""


class ClientStateError(DistinctError, RuntimeError):
    """The client (or run) is closed, belongs to another event loop or process, or was used twice."""


class TransportError(DistinctError):
    """No usable response arrived: the connection was refused, cut or too slow, or the response is not HTTP."""


class ConnectError(TransportError):
    """No connection: refused, unreachable, or the host name does not resolve."""


class TLSError(ConnectError):
    """No trusted connection: a certificate or the handshake failed. Retried only if the handshake was cut short."""


@define(slots=False, eq=False, repr=False, auto_exc=False)
class RequestTimeoutError(TransportError, TimeoutError):
    """A time limit passed.

    Attributes:
        limit: Which one: ``"connect"``, ``"attempt"`` (both of `Timeouts`) or ``"deadline"``.
    """

    limit: TimeLimit = field(default="attempt", kw_only=True)


class ProtocolError(TransportError):
    """The response cannot be used: malformed HTTP, a redirect, a body over ``max_body``."""


@define(slots=False, eq=False, repr=False, auto_exc=False)
class APIError(DistinctError):
    """The server returned an error; `message` has the vendor's own words.

    Attributes:
        status: The HTTP status, or the envelope's ``statusCode`` if that overrules a 200.
        headers: The response's headers; look-ups ignore case, repeated ones are joined by a comma.
        body: The beginning of the response's body, at most 4096 characters.
        request_id: The id that the vendor or its proxy gave this request, if any.
        retry_after: Seconds that the server asked to wait; None if it did not, or not legibly.
        phrase: What the status means, for example ``"Not Found"``.
        stated: Whether `message` is a message that the body states. If not, it is the beginning of the body itself,
            which ``str()`` does not show.
        private: What ``str()`` must not show: the user id that was asked for.
    """

    status: int = field(default=0, kw_only=True)
    headers: MutableMapping[str, str] = field(factory=dict, kw_only=True)
    body: str = field(default="", kw_only=True)
    request_id: str | None = field(default=None, kw_only=True)
    retry_after: float | None = field(default=None, kw_only=True)
    phrase: str = field(default="", kw_only=True)
    stated: bool = field(default=True, kw_only=True)
    private: tuple[str, ...] = field(default=(), kw_only=True)

    def _headline(self) -> str:
        status = " ".join(filter(None, (str(self.status or ""), self.phrase)))
        said = redact(self.message, self.private) if self.stated and self.message != self.phrase else ""
        return ": ".join(filter(None, (status, said)))


class BadRequestError(APIError):
    """400 or 422: the server refuses the parameters."""


class AuthenticationError(APIError):
    """401: the server did not accept the key: it is missing, wrong, revoked, or of another kind."""


class PermissionDeniedError(APIError):
    """403: the key may not do this, or not from this IP address."""


class NotFoundError(APIError):
    """404: no such experience, user, touchpoint or impression."""


class RateLimitError(APIError):
    """429: too many requests; `retry_after` says how long to wait, if the server did."""


class ServerError(APIError):
    """5xx: the server failed."""


@define(slots=False, eq=False, repr=False, auto_exc=False)
class DecodeError(DistinctError):
    """The response has another shape than the vendor documents.

    Attributes:
        paths: Where, as JSON paths: ``("$.data.touchpoints[3].totalVisits",)``.
        excerpt: The beginning of the body, at most 1024 characters.
    """

    paths: tuple[str, ...] = field(default=(), kw_only=True)
    excerpt: str = field(default="", kw_only=True)


class PaginationError(DistinctError):
    """The walk cannot guarantee that no row is lost or repeated; resume from `checkpoint`, or start over."""


class PageLoopError(PaginationError):
    """The server ignores ``offset``, or repeats a page."""


class DriftError(PaginationError):
    """Rows were inserted or removed before the walk's position."""


class CheckpointError(PaginationError):
    """Not a checkpoint, or one of another walk."""


class StorageError(DistinctError):
    """A job's own file or database cannot be read or written; what was written before is kept."""


class DriftWarning(UserWarning):
    """What would be a `DriftError`, in a walk with ``on_drift="warn"``."""
