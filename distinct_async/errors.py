"""Every exception this library raises; the ground floor, nothing stands below it.

::

    DistinctError
    ├── ConfigurationError (ValueError)     bad or missing settings
    ├── InvalidRequestError (ValueError)    the caller's mistake, before any I/O
    ├── ClientStateError (RuntimeError)     closed, another loop, another process
    ├── TransportError                      no usable answer came
    │   ├── ConnectError                    refused, DNS
    │   │   └── TLSError                    certificate, handshake
    │   ├── RequestTimeoutError (TimeoutError)
    │   └── ProtocolError                   malformed HTTP, redirect, too large
    ├── APIError                            an answer came and it is no
    │   ├── BadRequestError                 400, 422
    │   ├── AuthenticationError             401
    │   ├── PermissionDeniedError           403
    │   ├── NotFoundError                   404
    │   ├── RateLimitError                  429
    │   └── ServerError                     5xx
    ├── DecodeError                         the answer has another shape
    ├── PaginationError                     the walk cannot go on honestly
    │   ├── PageLoopError                   the server ignores offset, or repeats a page
    │   ├── DriftError                      rows moved under the walk
    │   └── CheckpointError                 not a checkpoint, or of another question
    └── StorageError                        a job's own file or database cannot be read or written
    DriftWarning (UserWarning)              a DriftError with on_drift="warn"

``str()`` says what happened, to which request, after how many attempts, and what to do. It never shows a key, a body,
the user id that was asked for, or what looks like an e-mail address, an IP address, a phone number or a user agent;
``repr()`` does not either. The vendor's message is complete in `APIError.message`; ``str()`` repeats it with ``<...>``
instead of such words, in one line of at most 300 characters.
"""

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Literal

from attrs import define, field

from distinct_async.redaction import redact

if TYPE_CHECKING:
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


# Not auto_exc: attrs would put every field into `args`, bodies too. Not frozen: the engine fills in what only it knows.
@define(slots=False, eq=False, repr=False, auto_exc=False)
class DistinctError(Exception):
    """Anything that went wrong in this library; catch it to catch all.

    :ivar message: what happened, in the vendor's own words where it is an `APIError`.
    :ivar vendor: ``"distinct"`` or ``"vantio"``; None where no vendor was involved.
    :ivar operation: the call, with the ids that may be shown: ``metrics.experience(experience_id='exp-1')``.
    :ivar attempts: requests sent for this call; 0 when none was.
    :ivar elapsed: seconds from the call to this error.
    :ivar waited: of these, seconds spent in our own queue, pauses and between attempts.
    :ivar on_wire: of these, seconds spent on requests.
    :ivar checkpoint: where a walk stood; None outside walks, and where nothing was ever given.
    :ivar result: what a job of `distinct_async.etl` did before this error ended it; None outside of jobs.
    :ivar remedy: what to do about it, in the library's own terms; `str` appends it to `message`.
    :ivar remedy_option: the argument that `remedy` names, for example ``"allow_http"`` or ``"on_drift"``; None if it
        names none. A front end with options of its own translates it.
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
    remedy: str = field(default="", kw_only=True)
    remedy_option: str | None = field(default=None, kw_only=True)
    private: tuple[str, ...] = field(default=(), kw_only=True)  # what `str` must not show: a user's id, say

    def __str__(self) -> str:
        """One line: what happened, to which request, after how many attempts, and what to do."""
        where = [part for part in (self.operation, self.vendor and f"at {self.vendor}") if part]
        if self.attempts:
            times = (
                f"{self.elapsed:.2f} s, {self.waited:.2f} s of it waiting"
                if self.waited > 1
                else f"{self.elapsed:.2f} s"
            )
            where.append(f"after {self.attempts} attempt{'s' * (self.attempts != 1)} in {times}")
        text = "; ".join(filter(None, (self._headline(), self.remedy))) or type(self).__name__
        return text + (f" [{' '.join(where)}]" if where else "")

    def _headline(self) -> str:
        return self.message

    def __repr__(self) -> str:
        """The class and what `str` says, nothing more."""
        return f"{type(self).__name__}({str(self)!r})"

    # OSError (below TimeoutError) rewrites `args` in its constructor, so no constructor is called on the way back.
    def __reduce__(self) -> tuple[object, ...]:
        """Pickle and copy as the attributes."""
        return type(self).__new__, (type(self),), {**vars(self), "args": self.args}


@define(slots=False, eq=False, repr=False, auto_exc=False)
class ConfigurationError(DistinctError, ValueError):
    """A setting is bad or missing: a key, a base URL, a limit. Nothing was sent.

    :ivar setting: the argument that sets it, for example ``"base_url"``; None if no single one does.
    :ivar variable: the environment variable that sets it, for example ``"DISTINCT_BASE_URL"``; None if there is none.
    :ivar problem: what is wrong with it, without its name: ``"must be at least 1, got 0"``. A front end puts the name
        in front that its user knows.
    """

    setting: str | None = field(default=None, kw_only=True)
    variable: str | None = field(default=None, kw_only=True)
    problem: str = field(default="", kw_only=True)


class InvalidRequestError(DistinctError, ValueError):
    """The call itself cannot be right: an empty id, a page size of 0. Nothing was sent."""


class ClientStateError(DistinctError, RuntimeError):
    """The client (or run) is closed, belongs to another event loop or process, or was used twice."""


class TransportError(DistinctError):
    """No usable answer came: the connection was refused, cut, too slow, or spoke something else."""


class ConnectError(TransportError):
    """No connection: refused, unreachable, or the name does not resolve."""


class TLSError(ConnectError):
    """No trusted connection: a certificate or the handshake failed. Never tried again."""


@define(slots=False, eq=False, repr=False, auto_exc=False)
class RequestTimeoutError(TransportError, TimeoutError):
    """A time limit was hit.

    :ivar limit: which one: ``"connect"``, ``"attempt"`` (both of `Timeouts`) or ``"deadline"``.
    """

    limit: TimeLimit = field(default="attempt", kw_only=True)


class ProtocolError(TransportError):
    """The answer is not one we may use: malformed HTTP, a redirect, a body over ``max_body``."""


@define(slots=False, eq=False, repr=False, auto_exc=False)
class APIError(DistinctError):
    """An answer came and it is no. `message` has the vendor's own words.

    :ivar status: the HTTP status, or the envelope's ``statusCode`` where that overrules a 200.
    :ivar headers: the answer's headers; look-ups ignore case, repeated ones are joined by a comma.
    :ivar body: the beginning of the answer's body, at most 4096 characters.
    :ivar request_id: the id that the vendor or its proxy gave this request, if any.
    :ivar retry_after: seconds the server asked us to wait, if it did so legibly.
    """

    status: int = field(default=0, kw_only=True)
    headers: MutableMapping[str, str] = field(factory=dict, kw_only=True)
    body: str = field(default="", kw_only=True)
    request_id: str | None = field(default=None, kw_only=True)
    retry_after: float | None = field(default=None, kw_only=True)
    phrase: str = field(default="", kw_only=True)  # what the status means
    stated: bool = field(default=True, kw_only=True)  # False: `message` is the bare body, which `str` never shows

    def _headline(self) -> str:
        status = " ".join(filter(None, (str(self.status or ""), self.phrase)))
        said = redact(self.message, self.private) if self.stated and self.message != self.phrase else ""
        return ": ".join(filter(None, (status, said)))


class BadRequestError(APIError):
    """400 or 422: the server refuses the parameters."""


class AuthenticationError(APIError):
    """401: the key is missing at the server, wrong, revoked, or of another kind."""


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
    """The answer has another shape than the vendor documents.

    :ivar paths: where, as JSON paths: ``("$.data.touchpoints[3].totalVisits",)``.
    :ivar excerpt: the beginning of the body, at most 1024 characters.
    """

    paths: tuple[str, ...] = field(default=(), kw_only=True)
    excerpt: str = field(default="", kw_only=True)


class PaginationError(DistinctError):
    """The walk cannot go on honestly; resume from `checkpoint`, or begin anew."""


class PageLoopError(PaginationError):
    """The server ignores ``offset``, or repeats a page."""


class DriftError(PaginationError):
    """Rows were inserted before, or removed behind, the walk's position."""


class CheckpointError(PaginationError):
    """Not a checkpoint, or one of another question."""


class StorageError(DistinctError):
    """A job's own file or database cannot be read or written; what was written before stands."""


class DriftWarning(UserWarning):
    """What would be a `DriftError`, in a walk with ``on_drift="warn"``."""
