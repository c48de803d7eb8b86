"""The only user of aiohttp: it sends a `Request` and returns a `Response` or a `NoResponse`.

Every failure of aiohttp, the operating system and TLS becomes a value here, because the text, ``repr`` and traceback of
a foreign exception could show the API key. This module, and aiohttp with it, is imported with the first request.
"""

import asyncio
import os
import re
import ssl
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError, TransferEncodingError
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from distinct_async.config import Settings
from distinct_async.errors import ConfigurationError
from distinct_async.sansio.messages import NoResponse, Request, Response
from distinct_async.timers import AttemptTimers
from distinct_async.vendors import VENDORS, Vendor
from distinct_async.version import __version__

if TYPE_CHECKING:
    import zlib

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace
else:
    try:
        from isal import isal_zlib as zlib  # faster, if installed
    except ImportError:
        import zlib

AIOHTTP_VERSION: str = aiohttp.__version__
_USER_AGENT = f"distinct-async/{__version__} Python/{sys.version_info[0]}.{sys.version_info[1]}"

_CHUNK_BYTES = 2**16  # bytes read and decompressed in one step
_MIN_STATUS, _MAX_STATUS = 200, 599


# Matches the text of both parsers of aiohttp for a status that is a number, but not one of three digits
_INVALID_STATUS = re.compile(r"HTTP/\d\.\d (?!\d{3}\b)\d+\b", re.ASCII)
# A server that demands a client certificate sends one of these; with TLS 1.3, after the handshake (RFC 8446, 4.4.2.4)
_CLIENT_CERTIFICATE_ALERT = re.compile(r"alert (?:.*certificate|unknown ca|access denied|handshake failure)")
_OPENSSL_SOURCE = re.compile(r" \(_ssl\.c:\d+\)")  # a line of CPython's source in the text of an SSLError


class _UnusableBody(Exception):  # noqa: N818
    """The body cannot be used. It carries the `NoResponse` and does not leave this module."""

    def __init__(self, no_response: NoResponse) -> None:
        super().__init__(no_response.text)
        self.no_response = no_response


class Session:
    """An aiohttp session and how the client uses it. Created inside the event loop it belongs to.

    Attributes:
        owned: Whether the client closes the session: not if the user passed it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._plain_headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": _USER_AGENT,
        }
        self._timers = AttemptTimers()
        self._base_urls: dict[Vendor, URL] = {}
        self._auth_headers: dict[Vendor, Mapping[str, str]] = {}
        self.owned: bool = not isinstance(settings.session, aiohttp.ClientSession)
        self._http_session: aiohttp.ClientSession
        self._connector: _Connector | None = None
        if isinstance(settings.session, aiohttp.ClientSession):
            self._http_session = settings.session
        elif settings.session is not None:
            created: object = settings.session()
            if not isinstance(created, aiohttp.ClientSession):
                problem = f"must return an aiohttp.ClientSession, got {type(created).__name__}"
                raise ConfigurationError(f"session() {problem}", setting="session", problem=problem)
            self._http_session = created
        else:
            self._connector = _Connector()
            self._http_session = aiohttp.ClientSession(
                connector=self._connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self._plain_headers,
                trace_configs=list(settings.trace_configs),
            )
            self._plain_headers = {}  # set once instead of with each request

    @property
    def closed(self) -> bool:
        """Whether the aiohttp session is closed, by the client or by its owner."""
        return self._http_session.closed

    def discard_connection(self) -> None:
        """Close the connection of the current task's latest request, which returned another request's response.

        This is not possible for a session of the user: aiohttp takes a connection back when the body has arrived.
        """
        if self._connector is not None:
            self._connector.discard_latest()

    def interrupt(self) -> None:
        """End all attempts at once, as if their time limits expired."""
        self._timers.expire_all()

    async def close(self) -> None:
        """Close the session if it is owned. Calling it twice is fine."""
        if self.owned:
            await self._http_session.close()

    def abandon(self) -> None:
        """Release a session whose event loop is closed, so that nothing can be awaited, without a warning."""
        if self.owned and self._http_session.connector is not None:
            for _ in self._http_session.connector.close().__await__():
                pass  # on a closed loop, it only marks itself as closed

    async def send(self, request: Request[Any], seconds: float, connect: float) -> Response | NoResponse:
        """Make one attempt: from the connection to the last byte of the body within `seconds`."""
        timer = self._timers.start(seconds)
        try:
            return await self._exchange(request, _connection_timeout(connect))
        except _UnusableBody as unusable:
            return unusable.no_response
        except (aiohttp.ClientError, HttpProcessingError, OSError, UnicodeError) as error:  # OSError: TLS, sockets
            return _describe_failure(error, connect, https=self._base_urls[request.vendor].scheme == "https")
        except BaseException as error:  # noqa: BLE001  # raised again unless the limit caused it
            if isinstance(error, asyncio.CancelledError) and timer.cancelled_alone:
                return NoResponse(
                    "timeout", f"no complete response within {seconds:.3g} s (timeout per attempt)", "attempt"
                )
            if isinstance(error, ValueError) and _find_origin(error).startswith("aiohttp"):
                cause = "probably because your session or ~/.netrc adds its own credentials"
                return NoResponse("refused", f"aiohttp rejected the request, {cause}")
            if isinstance(error, RuntimeError) and self.closed:
                return NoResponse("broken", "the session is closed")
            # Cancelled, or raised by a trace hook of the user. Its frames hold the key, so they are removed.
            raise _remove_frames(error)  # noqa: B904
        finally:
            self._timers.stop(timer)

    async def _exchange(self, request: Request[Any], timeouts: aiohttp.ClientTimeout) -> Response | NoResponse:
        # These arguments override those of the user's session. No local variable holds the headers.
        async with self._http_session.request(
            "GET",
            self._url(request),
            headers=self._headers_for(request.vendor),
            allow_redirects=False,
            raise_for_status=False,
            timeout=timeouts,
            auto_decompress=False,
            proxy=self._settings.proxies[request.vendor] if self.owned else None,
        ) as response:
            if not _MIN_STATUS <= response.status <= _MAX_STATUS:
                response.close()
                return NoResponse("refused", f"unexpected HTTP status {response.status} for a GET")
            if response.content.is_eof() and "Content-Encoding" not in response.headers:
                body = response.content.read_nowait()  # it arrived with the head, as small bodies do
                if len(body) > self._settings.max_body:
                    response.close()
                    return _too_large_body(self._settings.max_body)
            else:
                with _end_with_connection(response):
                    body = await self._read(response)
            return Response(response.status, _join_repeated(response.headers), body)

    def _url(self, request: Request[Any]) -> URL:
        # Built from parts, which is faster than parsing it for each request
        if (base_url := self._base_urls.get(request.vendor)) is None:
            base_url = self._base_urls[request.vendor] = URL(self._settings.base_urls[request.vendor], encoded=True)
        path = base_url.raw_path.removesuffix("/") + request.path
        authority, query = base_url.raw_authority, request.query
        return URL.build(scheme=base_url.scheme, authority=authority, path=path, query_string=query, encoded=True)

    def _headers_for(self, vendor: Vendor) -> Mapping[str, str]:
        if vendor not in self._auth_headers:
            profile = VENDORS[vendor]
            authorization = f"{profile.auth_scheme}{self._settings.key(vendor).value}"
            self._auth_headers[vendor] = CIMultiDict({profile.auth_header: authorization, **self._plain_headers})
        return self._auth_headers[vendor]

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """Return the decompressed body, read in chunks up to `max_body`: a compression bomb costs a few megabytes."""
        codings = [
            coding.strip().lower() for coding in response.headers.getall("Content-Encoding", ()) if coding.strip()
        ]
        parts, size = [], 0
        chunks: AsyncIterator[bytes] = response.content.iter_chunked(_CHUNK_BYTES)
        if codings not in ([], ["identity"]):
            if codings not in (["gzip"], ["x-gzip"], ["deflate"]):
                response.close()
                problem = f"the server sent Content-Encoding {', '.join(codings)!r}, which was not requested"
                raise _UnusableBody(NoResponse("encoding", problem))
            chunks = _decompress(chunks, self._settings.max_body)
        async for part in chunks:
            size += len(part)
            if size > self._settings.max_body:
                response.close()
                raise _UnusableBody(_too_large_body(self._settings.max_body))
            parts.append(part)
        return b"".join(parts)


def _too_large_body(max_bytes: int) -> NoResponse:
    return NoResponse("refused", f"the body is larger than max_body={max_bytes} bytes")


class _Connector(aiohttp.TCPConnector):
    """A connection pool that does not reuse a connection on which an unsolicited response has arrived.

    aiohttp checks `should_close` when it takes a connection back, but not when it reuses it
    (https://github.com/aio-libs/aiohttp/issues/13656; 3.14.5 still does not).
    """

    def __init__(self) -> None:
        # limit=0: the gate limits concurrency, so that waiting for the pool does not count as time of an attempt
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
        """Close the connection that the current task received last."""
        task = asyncio.current_task()
        if task is not None and (protocol := self._latest.pop(task, None)) is not None:
            protocol.close()


@lru_cache(maxsize=8)
def _connection_timeout(connect: float) -> aiohttp.ClientTimeout:
    """Return the time limits that aiohttp checks: only that of the connection, since its total rounds up to seconds."""
    return aiohttp.ClientTimeout(total=None, sock_connect=connect)


def _retrieve_exception(closed: asyncio.Future[None]) -> None:
    """Retrieve the exception of a connection that was reset, or asyncio reports it as never retrieved."""
    if not closed.cancelled():
        closed.exception()


@contextmanager
def _end_with_connection(response: aiohttp.ClientResponse) -> Iterator[None]:
    """End the reading of a chunked body when its connection ends.

    If an invalid chunk follows a valid one, aiohttp closes the connection without notifying the reader of the body,
    which would wait until its time limit expires (3.14.5 still does; no upstream issue is known).
    """
    connection = response.connection if "Transfer-Encoding" in response.headers else None
    protocol = connection.protocol if connection is not None else None
    closed = protocol.closed if protocol is not None else None
    if closed is None:
        yield
        return

    def end(_: object) -> None:
        if not response.content.is_eof() and response.content.exception() is None:
            response.content.set_exception(TransferEncodingError("the connection is closed"))

    closed.remove_done_callback(_retrieve_exception)  # once for each connection, and for as long as it lives
    closed.add_done_callback(_retrieve_exception)
    closed.add_done_callback(end)
    try:
        yield
    finally:
        closed.remove_done_callback(end)


async def _decompress(chunks: AsyncIterator[bytes], max_bytes: int = 2**25) -> AsyncIterator[bytes]:
    """Yield the body, decompressed from gzip or deflate in bounded steps; aiohttp's decompression has no bound.

    gzip may have several members (RFC 1952, section 2.2). Anything after the last one is ignored, and so is a missing
    trailer, because the JSON is checked for completeness anyway. The compressed size is limited too, since members and
    blocks can be empty.
    """
    decompressor, size = None, 0
    try:
        async for compressed in chunks:
            size += len(compressed)
            if size > max_bytes:
                raise _UnusableBody(_too_large_body(max_bytes))
            while compressed:
                if decompressor is None:
                    # 47: zlib detects a gzip or zlib header; the deflate of some servers has none
                    has_header = compressed[0] & 0x0F == 8 or compressed[:1] == b"\x1f"
                    decompressor = zlib.decompressobj(wbits=47 if has_header else -15)
                elif decompressor.eof:
                    if compressed[:1] != b"\x1f":
                        break
                    decompressor = zlib.decompressobj(wbits=31)
                yield decompressor.decompress(compressed, _CHUNK_BYTES)
                compressed = decompressor.unused_data if decompressor.eof else decompressor.unconsumed_tail  # noqa: PLW2901
        if decompressor is not None:
            yield decompressor.flush()
    except zlib.error:
        raise _UnusableBody(NoResponse("broken", "the compressed body is damaged")) from None


def _join_repeated(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """Return the headers with repeated ones joined by a comma (RFC 9110, section 5.3)."""
    joined_headers = CIMultiDict(headers)
    if len(set(map(str.lower, joined_headers))) < len(joined_headers):
        joined_headers = CIMultiDict({name: ", ".join(headers.getall(name)) for name in headers})
    return joined_headers


def _describe_failure(error: Exception, connect: float, *, https: bool = False) -> NoResponse:  # a table, in order
    """Return an exception as a value, without any text of the server: aiohttp's errors quote raw messages."""
    reason = _OPENSSL_SOURCE.sub("", getattr(error, "strerror", None) or type(error).__name__)
    match error:
        case aiohttp.ConnectionTimeoutError():
            return NoResponse("timeout", f"no connection within {connect:.3g} s", "connect")
        case TimeoutError():
            return NoResponse("timeout", "the socket timed out", "attempt")
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ServerFingerprintMismatch():
            return NoResponse("tls", "the server's certificate is not trusted, or not for this host")
        case aiohttp.ClientOSError() | ssl.SSLError() if _CLIENT_CERTIFICATE_ALERT.search(reason):
            return NoResponse(
                "tls", f"the server refused the TLS connection ({reason}); does it need a client certificate?"
            )
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return NoResponse(
                "tls", f"the TLS handshake failed ({reason}): does the server speak http rather than https?"
            )
        case aiohttp.ClientHttpProxyError():
            return NoResponse("connect", f"the proxy refused to connect (HTTP {error.status})")
        case aiohttp.ClientConnectorDNSError():
            return NoResponse("connect", f"the host name {error.host} does not resolve ({reason})")
        case aiohttp.ClientConnectorError() if https and isinstance(error.os_error, ConnectionResetError):
            # A refused connection or an unreachable host has other errors: this connection was open
            return NoResponse("handshake", "the server closed the connection during the TLS handshake")
        case aiohttp.ClientConnectorError():
            reason_text = os.strerror(error.errno) if error.errno else reason  # the text of asyncio does not say why
            return NoResponse("connect", f"cannot connect to {error.host} port {error.port} ({reason_text})")
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError() | aiohttp.RedirectClientError():
            return NoResponse("refused", "invalid URL; check base_url and the proxy URL")
        case UnicodeError():
            return NoResponse("connect", "invalid host name in base_url")
        case aiohttp.ClientResponseError() if _INVALID_STATUS.search(error.message):
            return NoResponse("refused", "the HTTP status is out of range")
        case aiohttp.ClientResponseError() | HttpProcessingError():
            return NoResponse("protocol", "the response is not well-formed HTTP")
        case aiohttp.ClientPayloadError():
            return NoResponse("broken", "the connection closed before the whole body arrived")
        case aiohttp.ServerDisconnectedError():
            cause = "does it need a client certificate?" if https else "is the URL scheme right?"
            return NoResponse("broken", f"the server closed the connection without a response ({cause})")
    return NoResponse("broken", f"the connection broke ({reason})")


def _find_origin(error: BaseException) -> str:
    """Return where an exception was raised: module, function and line."""
    where = ""
    traceback = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        where = f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}, line {traceback.tb_lineno}"
        traceback = traceback.tb_next
    return where


def _remove_frames(error: BaseException) -> BaseException:
    """Return the error without traceback, cause and context, and with a note that says where it was raised."""
    if not isinstance(error, asyncio.CancelledError):
        error.add_note(f"raised in {_find_origin(error)}; the frames in between would show the API key")
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)
