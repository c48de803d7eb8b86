"""The only user of aiohttp: a `Request` goes in, a `Response` or a `Failure` comes out.

Every failure of aiohttp, the operating system and TLS becomes a value here, so that no foreign exception - whose text,
``repr`` and traceback would show the key - gets any further. This module is imported with the first request, and
aiohttp with it.
"""

import asyncio
import os
import re
import ssl
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError, TransferEncodingError
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from distinct_async.config import Settings
from distinct_async.errors import ConfigurationError
from distinct_async.limits import TimeLimits
from distinct_async.sansio.messages import Failure, Request, Response
from distinct_async.vendors import VENDORS, Vendor
from distinct_async.version import __version__

if TYPE_CHECKING:
    import zlib

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace
else:
    try:
        from isal import isal_zlib as zlib  # the same, and quicker, where it is installed
    except ImportError:
        import zlib

AIOHTTP_VERSION: str = aiohttp.__version__
_USER_AGENT = f"distinct-async/{__version__} Python/{sys.version_info[0]}.{sys.version_info[1]}"

_PIECE = 2**16  # bytes read, and inflated, at once
_LEAST_STATUS, _TOP_STATUS = 200, 599


# In the text of either of aiohttp's parsers: a status that is a number, but not one of three digits
_NO_STATUS = re.compile(r"HTTP/\d\.\d (?!\d{3}\b)\d+\b", re.ASCII)


class _Unusable(Exception):  # noqa: N818
    """The body cannot be used; carries the `Failure`, and does not leave this module."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class Session:
    """An aiohttp session and how we use it. Made inside the loop it belongs to."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._plain_headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": _USER_AGENT,
        }
        self._limits = TimeLimits()
        self._bases: dict[Vendor, URL] = {}
        self._headers: dict[Vendor, Mapping[str, str]] = {}
        self._owned = not isinstance(settings.session, aiohttp.ClientSession)
        self._http: aiohttp.ClientSession
        self._connector: _Connector | None = None
        if isinstance(settings.session, aiohttp.ClientSession):
            self._http = settings.session
        elif settings.session is not None:
            made: object = settings.session()
            if not isinstance(made, aiohttp.ClientSession):
                problem = f"must return an aiohttp.ClientSession, got {type(made).__name__}"
                raise ConfigurationError(f"session() {problem}", setting="session", problem=problem)
            self._http = made
        else:
            self._connector = _Connector()
            self._http = aiohttp.ClientSession(
                connector=self._connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self._plain_headers,
                trace_configs=list(settings.trace_configs),
            )
            self._plain_headers = {}  # set once, rather than with each request

    @property
    def closed(self) -> bool:
        """Whether the session beneath is closed, by us or by its owner."""
        return self._http.closed

    @property
    def owned(self) -> bool:
        """Whether it is ours to close: not where it was lent."""
        return self._owned

    def discard_connection(self) -> None:
        """Close the connection of the current task's latest request, because it gave another request's response.

        A lent session's connections are out of reach: aiohttp takes them back when the body has arrived.
        """
        if self._connector is not None:
            self._connector.discard_latest()

    def interrupt(self) -> None:
        """End what is being sent at once, as if its time were up."""
        self._limits.end_all()

    async def close(self) -> None:
        """Close what is ours; twice is fine."""
        if self._owned:
            await self._http.close()

    def abandon(self) -> None:
        """Let go of a session whose loop is closed, where nothing can be awaited any more, without a warning."""
        if self._owned and self._http.connector is not None:
            for _ in self._http.connector.close().__await__():
                pass  # on a closed loop it only marks itself closed, and waits for nothing

    async def send(self, request: Request, seconds: float, connect: float) -> Response | Failure:
        """One attempt: everything from the connection to the body's last byte within `seconds`."""
        limit = self._limits.begin(seconds)
        try:
            return await self._exchange(request, _timeouts(connect))
        except _Unusable as unusable:
            return unusable.failure
        except (aiohttp.ClientError, HttpProcessingError, OSError, UnicodeError) as wrong:  # OSError: TLS, sockets
            return _failure(wrong, connect, https=self._bases[request.vendor].scheme == "https")
        except BaseException as error:  # noqa: BLE001  # raised again, unless it is of the limit's making
            if isinstance(error, asyncio.CancelledError) and limit.alone:
                return Failure("timeout", f"no complete answer within {seconds:.3g} s", "attempt")
            if isinstance(error, ValueError) and _origin(error).startswith("aiohttp"):
                hint = "does a lent session, or ~/.netrc, bring a login of its own?"
                return Failure("refused", f"aiohttp refuses to send this request: {hint}")
            if isinstance(error, RuntimeError) and self.closed:
                return Failure("broken", "the session is closed")
            # Cancelled, or raised by a trace hook of the user's. It passes on, but the frames behind it hold the key.
            raise _without_frames(error)  # noqa: B904
        finally:
            self._limits.end(limit)

    async def _exchange(self, request: Request, timeouts: aiohttp.ClientTimeout) -> Response | Failure:
        # Whatever a lent session carries is overridden here; the headers are never in a local of ours.
        async with self._http.request(
            "GET",
            self._url(request),
            headers=self._headers_for(request.vendor),
            allow_redirects=False,
            raise_for_status=False,
            timeout=timeouts,
            auto_decompress=False,
            proxy=self._settings.proxies[request.vendor] if self._owned else None,
        ) as answer:
            if not _LEAST_STATUS <= answer.status <= _TOP_STATUS:
                answer.close()
                return Failure("refused", f"HTTP status {answer.status} is no answer to a GET")
            if answer.content.is_eof() and "Content-Encoding" not in answer.headers:
                body = answer.content.read_nowait()  # it came with its head, as small answers do
                if len(body) > self._settings.max_body:
                    answer.close()
                    return _too_large(self._settings.max_body)
            else:
                with _no_longer_than_connection(answer):
                    body = await self._read(answer)
            return Response(answer.status, _joined(answer.headers), body)

    def _url(self, request: Request) -> URL:
        # Built from its parts: cheaper than reading it again for each request
        if (base := self._bases.get(request.vendor)) is None:
            base = self._bases[request.vendor] = URL(self._settings.base_urls[request.vendor], encoded=True)
        path = base.raw_path.removesuffix("/") + request.path
        authority, query = base.raw_authority, request.query
        return URL.build(scheme=base.scheme, authority=authority, path=path, query_string=query, encoded=True)

    def _headers_for(self, vendor: Vendor) -> Mapping[str, str]:
        if vendor not in self._headers:
            profile = VENDORS[vendor]
            authorization = f"{profile.auth_scheme}{self._settings.key(vendor).value}"
            self._headers[vendor] = CIMultiDict({profile.auth_header: authorization, **self._plain_headers})
        return self._headers[vendor]

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        """The body, decoded, in pieces and never more than `max_body`: a compressed bomb costs a few megabytes."""
        codings = [coding.strip().lower() for coding in answer.headers.getall("Content-Encoding", ()) if coding.strip()]
        pieces, size = [], 0
        source: AsyncIterator[bytes] = answer.content.iter_chunked(_PIECE)
        if codings not in ([], ["identity"]):
            if codings not in (["gzip"], ["x-gzip"], ["deflate"]):
                answer.close()
                raise _Unusable(Failure("encoding", f"Content-Encoding {', '.join(codings)!r} was not asked for"))
            source = _inflated(source, self._settings.max_body)
        async for piece in source:
            size += len(piece)
            if size > self._settings.max_body:
                answer.close()
                raise _Unusable(_too_large(self._settings.max_body))
            pieces.append(piece)
        return b"".join(pieces)


def _too_large(most: int) -> Failure:
    return Failure("refused", f"the body is larger than max_body={most} bytes")


class _Connector(aiohttp.TCPConnector):
    """A connection pool that does not reuse a connection on which an unsolicited response has arrived.

    aiohttp (3.14) looks at `should_close` when it takes a connection back, but not when it hands it out again.
    """

    def __init__(self) -> None:
        # limit=0: the gate bounds what is in flight, so that nobody's time limit runs while queueing for the pool
        super().__init__(limit=0)
        self._used: WeakSet[ResponseHandler] = WeakSet()
        self._latest: WeakKeyDictionary[asyncio.Task[Any], ResponseHandler] = WeakKeyDictionary()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list["Trace"], timeout: aiohttp.ClientTimeout
    ) -> "Connection":
        """Return a connection from the pool, or a new one."""
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol, task = connection.protocol, asyncio.current_task()
            if protocol is None or protocol not in self._used or not protocol.should_close:
                break
            connection.close()
        if protocol is not None and task is not None:
            self._used.add(protocol)
            self._latest[task] = protocol
        return connection

    def discard_latest(self) -> None:
        """Close the connection that the current task was given last."""
        task = asyncio.current_task()
        if task is not None and (protocol := self._latest.pop(task, None)) is not None:
            protocol.close()


@lru_cache(maxsize=8)
def _timeouts(connect: float) -> aiohttp.ClientTimeout:
    """The limits that are left to aiohttp: only the connection's. Its total rounds up to seconds."""
    return aiohttp.ClientTimeout(total=None, sock_connect=connect)


_LOOKED_AT: WeakSet[object] = WeakSet()


@contextmanager
def _no_longer_than_connection(answer: aiohttp.ClientResponse) -> Iterator[None]:
    """Let a reader of a chunked body not outlast its connection.

    Where a bad chunk follows a good one, aiohttp 3.14 closes the connection without telling the body's reader, who
    would wait until its time is up.
    """
    connection = answer.connection if "Transfer-Encoding" in answer.headers else None
    protocol = connection.protocol if connection is not None else None
    closed = protocol.closed if protocol is not None else None
    if closed is None:
        yield
        return

    def end(_: object) -> None:
        if not answer.content.is_eof() and answer.content.exception() is None:
            answer.content.set_exception(TransferEncodingError("the connection is closed"))

    if protocol not in _LOOKED_AT:
        _LOOKED_AT.add(protocol)  # for as long as the connection lives, or asyncio complains of a reset nobody looks at
        closed.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    closed.add_done_callback(end)
    try:
        yield
    finally:
        closed.remove_done_callback(end)


async def _inflated(pieces: AsyncIterator[bytes], most: int = 2**25) -> AsyncIterator[bytes]:
    """Yield the body with gzip or deflate undone in bounded steps; aiohttp's own way has no bound.

    gzip may have several members (RFC 1952, section 2.2); what follows the last one is ignored, and a missing
    trailer passes: whether the JSON is complete is checked anyway. What comes in is bounded too, since members and
    blocks can be empty.
    """
    inflater, size = None, 0
    try:
        async for piece in pieces:
            size += len(piece)
            if size > most:
                raise _Unusable(_too_large(most))
            while piece:
                if inflater is None:
                    # 47: a gzip or zlib header, told apart by zlib; some servers' deflate has none
                    headed = piece[0] & 0x0F == 8 or piece[:1] == b"\x1f"
                    inflater = zlib.decompressobj(wbits=47 if headed else -15)
                elif inflater.eof:
                    if piece[:1] != b"\x1f":
                        break
                    inflater = zlib.decompressobj(wbits=31)
                yield inflater.decompress(piece, _PIECE)
                piece = inflater.unused_data if inflater.eof else inflater.unconsumed_tail  # noqa: PLW2901
        if inflater is not None:
            yield inflater.flush()
    except zlib.error:
        raise _Unusable(Failure("broken", "the compressed body is damaged")) from None


def _joined(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """The headers, each name once: repeated ones are joined by a comma (RFC 9110, section 5.3)."""
    joined = CIMultiDict(headers)
    if len(set(map(str.lower, joined))) < len(joined):
        joined = CIMultiDict({name: ", ".join(headers.getall(name)) for name in headers})
    return joined


def _failure(wrong: Exception, connect: float, *, https: bool = False) -> Failure:  # a table, in order
    """What went wrong, as a value. No text of the server's is repeated: aiohttp's errors quote raw messages."""
    reason = getattr(wrong, "strerror", None) or type(wrong).__name__
    match wrong:
        case aiohttp.ConnectionTimeoutError():
            return Failure("timeout", f"no connection within {connect:.3g} s", "connect")
        case TimeoutError():
            return Failure("timeout", "the socket gave no answer in time", "attempt")
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ServerFingerprintMismatch():
            return Failure("tls", "the server's certificate is not trusted, or not for this host")
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return Failure("tls", f"the TLS handshake failed ({reason}): does the server speak http rather than https?")
        case aiohttp.ClientHttpProxyError():
            return Failure("connect", f"the proxy refused to connect (HTTP {wrong.status})")
        case aiohttp.ClientConnectorDNSError():
            return Failure("connect", f"the host name {wrong.host} does not resolve ({reason})")
        case aiohttp.ClientConnectorError() if https and isinstance(wrong.os_error, ConnectionResetError):
            # A connection that is refused or unreachable has other errors: this one was open
            return Failure("handshake", "the server closed the connection during the TLS handshake")
        case aiohttp.ClientConnectorError():
            why = os.strerror(wrong.errno) if wrong.errno else reason  # asyncio's words do not say why
            return Failure("connect", f"cannot connect to {wrong.host} port {wrong.port} ({why})")
        case aiohttp.InvalidURL():
            return Failure("refused", "aiohttp does not take this URL: check the base URL, and the proxy's")
        case UnicodeError():
            return Failure("connect", "this is no host name: check the base URL")
        case aiohttp.ClientResponseError() if _NO_STATUS.search(wrong.message):
            return Failure("refused", "the HTTP status is out of range")
        case aiohttp.ClientResponseError() | HttpProcessingError():
            return Failure("protocol", "the answer is not well-formed HTTP")
        case aiohttp.ClientPayloadError():
            return Failure("broken", "the connection was cut within the body")
        case aiohttp.ServerDisconnectedError():
            return Failure("broken", "the server closed the connection without an answer: http or https?")
    return Failure("broken", f"the connection broke ({reason})")


_Error = TypeVar("_Error", bound=BaseException)


def _origin(error: BaseException) -> str:
    """Where it was raised: module, function and line."""
    where = ""
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        where = f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return where


def _without_frames(error: _Error) -> _Error:
    """`error` without its traceback, and without what led to it; a note tells where it came from."""
    if not isinstance(error, asyncio.CancelledError):
        error.add_note(f"raised in {_origin(error)}; the frames in between would show the API key")
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)
