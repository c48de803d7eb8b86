"""The fake vendors on a loopback socket, with recorded requests and fault injection."""

import asyncio
import os
import random
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from itertools import count
from types import TracebackType
from typing import Final, ParamSpec, Self, TypedDict
from urllib.parse import parse_qsl

import attrs
from aiohttp import web

from distinct_async.testing.faults import WITHOUT_STATUS, Fault, FaultState, Wire, apply_fault, break_connection
from distinct_async.testing.vendors import FakeVendors

SECRETS: Final = ("x-distinct-api-key", "Authorization")
TURNS: Final = 5  # iterations of the event loop until an accepted connection is known

P = ParamSpec("P")


@attrs.frozen
class RequestRecord:
    """One request that arrived.

    Attributes:
        method: The HTTP method.
        path: The path as it was sent, percent-encoded.
        query: The decoded parameters.
        status: The status of the response; None if the connection broke before it.
        at: The time of arrival, in seconds of the event loop's clock.
        headers: The headers, case-insensitive, with ``***`` in place of API keys.
    """

    method: str
    path: str
    query: Mapping[str, str]
    status: int | None
    at: float
    headers: Mapping[str, str] = attrs.field(repr=False)


class ClientSettings(TypedDict):
    """The keys and URLs of both vendors, by the names of the client's arguments."""

    api_key: str
    vantio_api_key: str
    base_url: str
    vantio_base_url: str


@attrs.define(eq=False)
class FakeServer(FakeVendors):
    """Both vendors on one real socket, as an async context manager.

    It also takes the arguments of `FakeVendors`. Leaving the context closes all connections and leaves no task.

    Args:
        host: The address to listen on.
        port: The port to listen on; 0 selects a free one.
        tls: The TLS context of the server, for https.
        latency: Seconds before each response, 0 or more.
        faults: The faults to inject; the first one that matches a request applies. See `Fault` and `fail`.

    Attributes:
        requests: The requests so far, in the order of arrival; it can be cleared.
        in_flight: The number of requests without a response yet.
        max_in_flight: The maximum of `in_flight`; it can be reset.
        connections: The number of connections accepted so far; it can be reset.
    """

    host: str = attrs.field(default="127.0.0.1", kw_only=True)
    port: int = attrs.field(default=0, kw_only=True)
    tls: ssl.SSLContext | None = attrs.field(default=None, kw_only=True, repr=False)
    latency: float = attrs.field(default=0.0, kw_only=True)
    faults: list[Fault] = attrs.field(factory=list, kw_only=True)
    requests: list[RequestRecord] = attrs.field(factory=list, init=False, repr=False)
    in_flight: int = attrs.field(default=0, init=False, repr=False)
    max_in_flight: int = attrs.field(default=0, init=False, repr=False)
    connections: int = attrs.field(default=0, init=False, repr=False)
    _server: web.Server | None = attrs.field(default=None, init=False, repr=False)
    _listener: asyncio.Server | None = attrs.field(default=None, init=False, repr=False)
    _fault_states: dict[Fault, FaultState] = attrs.field(factory=dict, init=False, repr=False)

    def fail(  # repeats the parameters of `Fault` for type checkers and editors
        self,
        *,
        path: str | None = None,
        query: Mapping[str, str] | None = None,
        nth: int | None = None,
        times: int | None = None,
        probability: float = 1.0,
        seed: int = 0,
        delay: float = 0.0,
        status: int | None = None,
        body: bytes | str | Callable[[bytes], bytes] | None = None,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        wire: Wire | None = None,
        interval: float = 0.05,
    ) -> Fault:
        """Inject a fault, by default into every request.

        ``fake.fail(status=503, times=2)`` is ``fake.faults.append(Fault(status=503, times=2))``.

        Args:
            path: The path, with ``*`` as a wildcard; by default any path.
            query: Parameters and values that must be present.
            nth: Only the n-th matching request, counted from 1.
            times: The maximum number of requests; by default unlimited.
            probability: The probability that a matching request is selected, from 0 to 1.
            seed: The seed of the random numbers for `probability`.
            delay: Seconds before the response, in addition to `latency`.
            status: The HTTP status, with the vendor's error body unless `body` is given.
            body: The body, or a function that takes the original body and returns the new one.
            headers: Additional headers, as a mapping or pairs.
            wire: How the connection misbehaves; see `Fault`.
            interval: Seconds between the bytes of ``wire="drip"``.

        Returns:
            The fault, which can be removed from `faults`.
        """
        fault = Fault(
            path=path,
            query=query or {},
            nth=nth,
            times=times,
            probability=probability,
            seed=seed,
            delay=delay,
            status=status,
            body=body,
            headers=headers,
            wire=wire,
            interval=interval,
        )
        self.faults.append(fault)
        return fault

    @property
    def settings(self) -> "ClientSettings":
        """The arguments of a client of this server: ``DistinctClient(**fake.settings)``."""
        return {
            "api_key": self.api_key,
            "vantio_api_key": self.vantio_api_key,
            "base_url": self.url,
            "vantio_base_url": self.url,
        }

    @property
    def url(self) -> str:
        """The base URL of both vendors.

        Raises:
            RuntimeError: If the server is not running.
        """
        if self._listener is None:
            raise RuntimeError("the server is not running: use `async with FakeServer(world) as fake`")
        host, port = self._listener.sockets[0].getsockname()[:2]
        return f"{'https' if self.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def open_connections(self) -> int:
        """The number of open connections."""
        return len(self._server.connections) if self._server is not None else 0

    @classmethod
    @contextmanager
    def run_in_thread(cls: Callable[P, "FakeServer"], *args: P.args, **kwargs: P.kwargs) -> Iterator["FakeServer"]:
        """Run a server in another thread, for synchronous code.

        Args:
            *args: The arguments of `FakeServer`.
            **kwargs: The keyword arguments of `FakeServer`.

        Yields:
            The running server.
        """
        fake, loop, stop = cls(*args, **kwargs), asyncio.new_event_loop(), asyncio.Event()
        started: Future[None] = Future()
        process = os.getpid()

        async def serve() -> None:
            async with fake:
                started.set_result(None)
                await stop.wait()

        def run() -> None:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(serve())

        with ThreadPoolExecutor(1, thread_name_prefix="fake-vendors") as pool:
            running = pool.submit(run)
            wait((started, running), return_when=FIRST_COMPLETED)
            if not started.done():
                running.result()  # raises the error of a failed start
            try:
                yield fake
            finally:
                if os.getpid() == process:  # a forked one has no such thread to wait for
                    loop.call_soon_threadsafe(stop.set)
                    running.result()

    async def __aenter__(self) -> Self:
        """Start listening."""
        # handler_cancellation: a request whose client disconnected is cancelled, and no longer counts as in flight
        server = self._server = web.Server(self._serve, handler_cancellation=True, access_log=None)

        def accept() -> asyncio.BaseProtocol:
            self.connections += 1
            return server()

        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(accept, self.host, self.port, ssl=self.tls, backlog=1024)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections and wait until they are closed."""
        if self._server is None or self._listener is None:
            return
        # If a listener is closed while asyncio is accepting a connection, that socket stays open. So stop accepting
        # first (if the loop supports it), and give connections that were just accepted a few iterations to appear.
        for listening in self._listener.sockets:
            with suppress(NotImplementedError):
                asyncio.get_running_loop().remove_reader(listening.fileno())
        for turn in count():
            if turn >= TURNS and not self._server.connections:
                break
            for connection in self._server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
            await asyncio.sleep(0)
        self._listener.close()
        self._server = self._listener = None

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            return await self._respond(request)
        finally:
            self.in_flight -= 1

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, text = request.raw_path.partition("?")
        query = dict(parse_qsl(text, keep_blank_values=True))
        fault = self._matching_fault(path, query)
        response = self.respond(request.method, path, query, request.headers)
        if fault is not None:
            response = apply_fault(fault, path, response)
        silent = fault is not None and fault.wire in WITHOUT_STATUS
        self._record(request, path, query, None if silent else int(response.status))
        seconds = self.latency + (fault.delay if fault is not None else 0)
        if seconds:
            await asyncio.sleep(seconds)
        if fault is not None and fault.wire and request.transport is not None:
            await break_connection(fault, request.transport, response)
        return web.Response(status=response.status, body=response.body, headers=response.headers)

    def _matching_fault(self, path: str, query: Mapping[str, str]) -> Fault | None:
        for fault in self.faults:
            state = self._fault_states.setdefault(fault, FaultState(random.Random(fault.seed)))
            if state.applies(fault, path, query):
                return fault
        return None

    def _record(self, request: web.BaseRequest, path: str, query: Mapping[str, str], status: int | None) -> None:
        headers = request.headers.copy()
        for name in SECRETS:
            if name in headers:
                headers[name] = "***"
        at = asyncio.get_running_loop().time()
        self.requests.append(RequestRecord(request.method, path, query, status, at, headers))
