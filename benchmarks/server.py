"""Both vendors at the lowest cost, in a process of their own: pages made once, then written as they are.

What the work is stands in the URL, so that the server has no settings: ``/5/v3/...`` responses after 5 ms, ``/5-made/``
the same, but each page is made when it is requested, which takes 2 ms for 500 rows: then the client waits. A touchpoint
called ``1000``, or ``1000-7``, has a thousand visits, an experience called ``200x1000`` two hundred of the latter.
``/counters`` returns the requests since it was last asked, and the most at once.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from urllib.parse import parse_qs, urlsplit

import msgspec

_START = datetime(2024, 1, 1, 8, tzinfo=UTC)
_USERS = 9_000
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_END = b"\r\n\r\n"


def pin(place: int) -> None:
    """Keep this process on the first (0) or the last (-1) core that it may use; its children inherit that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[place]})


def _items(total: int, offset: int, size: int) -> msgspec.Raw:
    """The rows of a page, which all touchpoints with so many visits share."""
    items = [
        {
            "userId": f"user-{row * 7919 % _USERS}",
            "timestampUTC": f"{_START + timedelta(seconds=row):%Y-%m-%dT%H:%M:%SZ}",
        }
        for row in range(offset, min(total, offset + size))
    ]
    return msgspec.Raw(msgspec.json.encode(items))


_ready_items = lru_cache(1024)(_items)


def visits_page(
    total: int,
    offset: int,
    size: int,
    touchpoint_id: str = "tp-1",
    items: Callable[[int, int, int], msgspec.Raw] = _items,
) -> bytes:
    """One page of a touchpoint's total visits, as Distinct sends it."""
    details = {"items": items(total, offset, size), "pagination": {"offset": offset, "pageSize": size}}
    touchpoint = {"id": touchpoint_id, "name": "Entry Scan", "value": "entry_scan", "totalVisits": total}
    data = {"touchpoints": {**touchpoint, "totalVisitsDetails": details}}
    message = "Touchpoint scanner metrics fetched successfully"
    return msgspec.json.encode({"statusCode": 200, "message": message, "data": data})


def experience(touchpoints: int, total: int) -> bytes:
    """An experience of so many touchpoints with so many visits each, called ``1000-7``, say."""
    each = {"name": "Entry Scan", "value": "entry_scan", "totalVisits": total, "uniqueVisits": 0}
    listed = [{"id": f"{total}-{number}", **each} for number in range(touchpoints)]
    data = {"totalTouchpoints": touchpoints, "touchpoints": listed}
    return msgspec.json.encode({"statusCode": 200, "message": "Touchpoint scanner metrics fetched", "data": data})


def impression(impression_id: str) -> bytes:
    """One impression, as Vantio sends it."""
    return msgspec.json.encode(
        {
            "id": impression_id,
            "poster_id": "poster_123abc",
            "program_id": "prog_123abc",
            "student_id": "user_123abc",
            "scanned_at": "2024-01-15T10:30:00Z",
            "user_agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15",
            "ip_address": "192.168.1.1",
            "metadata": {"device_type": "mobile", "location": "campus_center", "referrer": "direct"},
        }
    )


def _make(target: str, items: Callable[[int, int, int], msgspec.Raw] = _items) -> bytes:
    url = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    if "touchpointId" in query:
        touchpoint_id = query["touchpointId"]
        total = int(touchpoint_id.partition("-")[0])
        body = visits_page(total, int(query.get("offset", 0)), int(query["pageSize"]), touchpoint_id, items)
    elif "experienceId" in query:
        body = experience(*map(int, query["experienceId"].split("x")))
    else:
        body = impression(url.path.rpartition("/")[2])
    return _HEAD % (len(body), body)


_ready = lru_cache(1024)(partial(_make, items=_ready_items))


class _Vendors(asyncio.Protocol):
    """One connection, and, on the class, what all of them count."""

    requests = in_flight = peak = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # of a TCP server
        self._transport, self._received = transport, b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while _END in self._received:
            head, _, self._received = self._received.partition(_END)
            target = head.split(b" ", 2)[1].decode()
            if target == "/counters":
                self._write(self._counters())
                continue
            way, slash, path = target[1:].partition("/")
            latency, _, made = way.partition("-")
            _Vendors.requests += 1
            _Vendors.in_flight += 1
            _Vendors.peak = max(_Vendors.peak, _Vendors.in_flight)
            response = (_make if made else _ready)(slash + path)
            if latency == "0":
                self._done(response)
            else:
                asyncio.get_running_loop().call_later(int(latency) / 1000, self._done, response)

    def _done(self, response: bytes) -> None:
        _Vendors.in_flight -= 1
        self._write(response)

    def _write(self, response: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(response)

    @staticmethod
    def _counters() -> bytes:
        body = msgspec.json.encode({"requests": _Vendors.requests, "at once": _Vendors.peak})
        _Vendors.requests = _Vendors.peak = 0
        return _HEAD % (len(body), body)


async def _serve() -> None:
    pin(-1)
    server = await asyncio.get_running_loop().create_server(_Vendors, "127.0.0.1")
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)  # ends with the process that started this one, however that ends


class Server:
    """The running server, as the measurements see it."""

    def __init__(self, port: int) -> None:
        self.port = port

    def url(self, latency: int, *, made: bool = False) -> str:
        """The base URL of both vendors, responding after `latency` milliseconds; its pages are ready, or `made`."""
        return f"http://127.0.0.1:{self.port}/{latency}{'-made' * made}"

    async def counters(self) -> Mapping[str, int]:
        """Requests since the last call, and how many were in flight at most."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET /counters HTTP/1.1" + _END)
        head = await reader.readuntil(_END)
        body = await reader.readexactly(int(head.split()[-1]))
        writer.close()
        return msgspec.json.decode(body, type=dict[str, int])


@asynccontextmanager
async def running() -> AsyncIterator[Server]:
    """The server, in its own process on the last core; from then on, this process is on the first one."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", __name__, stdin=pipe, stdout=pipe)
    assert process.stdin is not None and process.stdout is not None  # noqa: PT018, S101  # both asked for
    try:
        server = Server(int(await process.stdout.readline()))
        pin(0)  # only now: the server would have inherited it
        yield server
    finally:
        process.stdin.close()
        await process.wait()


if __name__ == "__main__":
    asyncio.run(_serve())
