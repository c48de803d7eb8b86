"""The fake vendors on a loopback socket, with a journal, and with faults to order."""

import asyncio
import random
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from itertools import count
from types import TracebackType
from typing import Final, ParamSpec, Self
from urllib.parse import parse_qsl

import attrs
from aiohttp import web

from distinct_async.testing.faults import SILENT, Fault, Tally, Wire, break_wire, spoil
from distinct_async.testing.vendors import FakeVendors

SECRETS: Final = ("x-distinct-api-key", "Authorization")
TURNS: Final = 5

P = ParamSpec("P")


@attrs.frozen
class RequestRecord:
    """One request that arrived.

    `path` is as it was sent, percent signs and all; `headers` (any case) hold no key: its value reads `***`.
    `status` is what was answered, None where the wire broke before any. `at` is the loop's clock, in seconds.
    """

    method: str
    path: str
    query: Mapping[str, str]
    status: int | None
    at: float
    headers: Mapping[str, str] = attrs.field(repr=False)


@attrs.define(eq=False)
class FakeServer(FakeVendors):
    """Both vendors on one real socket, as an async context manager; beside these, all that `FakeVendors` takes.

    `requests` is the journal, in the order of arrival; `in_flight` and `max_in_flight` count requests that are being
    answered; `connections` counts all that were ever accepted. All may be set back at any time.
    Leaving the context drops what is in flight, and leaves no task and no socket.

    Args:
        host: the address to listen on.
        port: the port to listen on; 0 takes a free one.
        tls: a server's context, to speak https.
        latency: seconds before each answer, 0 or more.
        faults: rules, of which the first that strikes is applied; see `Fault`, and `fail`.
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
    _tallies: dict[Fault, Tally] = attrs.field(factory=dict, init=False, repr=False)

    def fail(  # the parameters of `Fault` once more, for type checkers and editors
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
        """Add a rule: `fake.fail(status=503, times=2)` is `fake.faults.append(Fault(status=503, times=2))`."""
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
    def url(self) -> str:
        """Where both vendors are; `RuntimeError` while the server is not running."""
        if self._listener is None:
            raise RuntimeError("the server is not running: use `async with FakeServer(world) as fake`")
        host, port = self._listener.sockets[0].getsockname()[:2]
        return f"{'https' if self.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._server.connections) if self._server is not None else 0

    @classmethod
    @contextmanager
    def run_in_thread(cls: Callable[P, "FakeServer"], *args: P.args, **kwargs: P.kwargs) -> Iterator["FakeServer"]:
        """A running server for synchronous code, on a loop in a thread of its own; takes what `FakeServer` takes."""
        fake, loop, stop = cls(*args, **kwargs), asyncio.new_event_loop(), asyncio.Event()
        started: Future[None] = Future()

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
                running.result()  # it could not start: its error is the caller's
            try:
                yield fake
            finally:
                loop.call_soon_threadsafe(stop.set)
                running.result()

    async def __aenter__(self) -> Self:
        """Listen."""
        # Cancelled with its connection, a request that nobody waits for any more does not count as in flight.
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
        """Drop everything, and wait until it is gone."""
        if self._server is None or self._listener is None:
            return
        # Closed while asyncio is accepting, a listener would drop that socket unclosed. So it stops listening first
        # (where the loop can do that); what was accepted just now shows, and what is aborted goes, after some turns.
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
        fault = self._strike(path, query)
        reply = self.answer(request.method, path, query, request.headers)
        if fault is not None:
            reply = spoil(fault, path, reply)
        self._note(request, path, query, None if fault is not None and fault.wire in SILENT else int(reply.status))
        seconds = self.latency + (fault.delay if fault is not None else 0)
        if seconds:
            await asyncio.sleep(seconds)
        if fault is not None and fault.wire and request.transport is not None:
            await break_wire(fault, request.transport, reply)
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)

    def _strike(self, path: str, query: Mapping[str, str]) -> Fault | None:
        for fault in self.faults:
            tally = self._tallies.setdefault(fault, Tally(random.Random(fault.seed)))
            if tally.strikes(fault, path, query):
                return fault
        return None

    def _note(self, request: web.BaseRequest, path: str, query: Mapping[str, str], status: int | None) -> None:
        headers = request.headers.copy()
        for name in SECRETS:
            if name in headers:
                headers[name] = "***"
        at = asyncio.get_running_loop().time()
        self.requests.append(RequestRecord(request.method, path, query, status, at, headers))
