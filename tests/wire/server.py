"""A server on raw sockets that does to a client what networks and broken servers do.

Every request is met by a behaviour: the next of the script, or the steady one, which responses as the documents say.
The server parses no more of HTTP than where a request ends, so it may say anything at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from . import responses

if TYPE_CHECKING:
    import ssl

PATIENCE = 5.0  # seconds that a test waits for a socket to close, when something is wrong
BIGGEST_HEAD = 2**18


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it came over the wire. Its headers hold the key, so they are in no repr."""

    target: str
    headers: dict[str, str] = field(repr=False)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


class Exchange:
    """What a behaviour can do to the connection that a request came on."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
        self.seen = seen
        self._reader = reader
        self._writer = writer

    @property
    def left(self) -> bool:
        """Whether the client has gone."""
        return self._reader.at_eof() or self._writer.is_closing()

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        """End the connection with a RST: what was sent and not yet read may be lost, as on a real reset."""
        raw: socket.socket = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def hold(self) -> None:
        """Say nothing more, and keep the connection until the client lets go of it."""
        while await self._reader.read(2**16):
            pass
        self.close()


Behaviour = Callable[[Exchange], Awaitable[None]]


def say(data: bytes) -> Behaviour:
    """Send this, and keep the connection for the next request."""

    async def behave(exchange: Exchange) -> None:
        await exchange.send(data)

    return behave


def say_and_close(data: bytes = b"") -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        await exchange.send(data)
        exchange.close()

    return behave


def say_and_reset(data: bytes = b"") -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        if data:
            await exchange.send(data)
            await asyncio.sleep(0.02)  # a reset overtakes what the client has not read yet
        exchange.reset()

    return behave


def say_in_two(first: bytes, second: bytes) -> Behaviour:
    """Send the second part when the client has read the first; then close."""

    async def behave(exchange: Exchange) -> None:
        await exchange.send(first)
        await asyncio.sleep(0.02)
        await exchange.send(second)
        exchange.close()

    return behave


def say_and_hang(data: bytes = b"") -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        await exchange.send(data)
        await exchange.hold()

    return behave


def drip(prefix: bytes, data: bytes, *, pause: float = 0.02) -> Behaviour:
    """Send the prefix at once, then the data one byte at a time."""

    async def behave(exchange: Exchange) -> None:
        await exchange.send(prefix)
        for byte in data:
            if exchange.left:
                break
            await exchange.send(bytes([byte]))
            await asyncio.sleep(pause)
        exchange.close()

    return behave


def pour(prefix: bytes, piece: bytes) -> Behaviour:
    """Send the piece again and again, until the client goes."""

    async def behave(exchange: Exchange) -> None:
        await exchange.send(prefix)
        while not exchange.left:
            await exchange.send(piece)
            await asyncio.sleep(0)
        exchange.close()

    return behave


async def serve_correctly(exchange: Exchange) -> None:
    """Answer as the vendors' documents say."""
    await exchange.send(responses.whole(responses.correct(exchange.seen.target)))


class FaultServer:
    """Counts what comes, and meets it with a script. Use it as an async context manager."""

    def __init__(self, *, port: int = 0, tls: Sequence[ssl.SSLContext | None] = (), host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = port
        self.tls = deque(tls)  # of each connection to come; the last one stays
        self.steady: Behaviour = serve_correctly
        self.greeting = b""  # said to each new connection, before any request
        self.requests: list[Seen] = []
        self.connections = 0
        self.in_flight = 0
        self.peak_in_flight = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self._script: deque[Behaviour] = deque()
        self._writers: set[asyncio.StreamWriter] = set()

    def script(self, *behaviours: Behaviour) -> None:
        """Meet the next requests with these, one each; after them the steady behaviour comes back."""
        self._script = deque(behaviours)

    def calm(self) -> None:
        """Be a healthy vendor from now on."""
        self.script()
        self.steady = serve_correctly
        self.greeting = b""

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def open_connections(self) -> int:
        return len(self._writers)

    async def settles(self, *, at_most: int = 0) -> bool:
        """Wait until no more connections than these are open; False where that does not come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while self.open_connections > at_most:
                    await asyncio.sleep(0.002)
        return self.open_connections <= at_most

    async def sees(self, requests: int) -> None:
        """Wait for so many requests."""
        async with asyncio.timeout(PATIENCE):
            while len(self.requests) < requests:
                await asyncio.sleep(0.002)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._accept, self.host, self.port, limit=BIGGEST_HEAD, backlog=512, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await self._converse(reader, writer)
        finally:
            self.tasks.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = self.tls.popleft() if len(self.tls) > 1 else next(iter(self.tls), None)
        if tls is not None:
            await writer.start_tls(tls, ssl_handshake_timeout=20.0)
        if self.greeting:
            writer.write(self.greeting)
        while not writer.is_closing():
            first = await reader.readexactly(1)
            if not first.isalpha():  # a TLS hello: what web servers say to it
                writer.write(responses.whole(b"", 400))
                writer.close()
                return
            text = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            await self._meet(Exchange(reader, writer, _parsed(text)))

    async def _meet(self, exchange: Exchange) -> None:
        self.requests.append(exchange.seen)
        behaviour = self._script.popleft() if self._script else self.steady
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        try:
            await behaviour(exchange)
        finally:
            self.in_flight -= 1


def _parsed(text: str) -> Seen:
    request, *lines = text.removesuffix("\r\n\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return Seen(request.split(" ")[1], {name.lower(): value.strip() for name, _, value in pairs})


@contextlib.contextmanager
def in_a_thread(server: FaultServer) -> Iterator[FaultServer]:
    """Run the server on a loop of its own, for tests that start and end loops themselves."""
    ready = threading.Event()
    box: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        async with server:
            done = asyncio.Event()
            box.append((asyncio.get_running_loop(), done))
            ready.set()
            await done.wait()

    def run() -> None:
        with asyncio.Runner(debug=False) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        yield server
    finally:
        loop, done = box[0]
        loop.call_soon_threadsafe(done.set)
        thread.join()


@contextlib.contextmanager
def black_hole(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A port whose connections are never completed: its queue is full, and nobody accepts."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(0)
        address = listener.getsockname()[:2]
        for _ in range(4):
            filler = stack.enter_context(socket.socket(family))
            filler.setblocking(False)  # noqa: FBT003
            filler.connect_ex(address)
        yield address[1]


def free_port() -> int:
    """A port that refuses connections, until a server is put on it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
