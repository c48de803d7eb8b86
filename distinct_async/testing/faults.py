"""Fault injection: which requests a fault applies to, and what it does to the response."""

import asyncio
import random
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final, Literal, get_args

import attrs
from attrs.validators import in_

from distinct_async.testing.vendors import VendorResponse, error_response, phrase

GARBAGE: Final = b"\x16\x03\x01 not HTTP at all\r\n\r\n"
WITHOUT_STATUS: Final = frozenset({"reset", "close", "hang", "garbage"})  # the client receives no status

Wire = Literal["close", "reset", "hang", "garbage", "cut", "drip"]


@attrs.frozen(eq=False, kw_only=True)
class Fault:
    """A rule that changes the response to every request it matches.

    `path`, `query`, `nth`, `times` and `probability` select requests, and all of them must match. The others say what
    happens.

    Args:
        path: The path, with ``*`` as a wildcard, for example ``/v3/*`` or ``*/imp_000007``; by default any path.
        query: Parameters and values that must be present, for example ``{"offset": "50"}``.
        nth: Only the n-th matching request, counted from 1.
        times: The maximum number of requests; by default unlimited.
        probability: The probability that a matching request is selected, from 0 to 1.
        seed: The seed of the random numbers for `probability`.
        delay: Seconds before the response, in addition to the server's `latency`.
        status: The HTTP status, with the vendor's error body unless `body` is given; by default unchanged.
        body: The body, or a function that takes the original body and returns the new one; by default unchanged.
        headers: Additional headers, as a mapping or pairs; they replace headers of the same name.
        wire: How the connection misbehaves. ``close`` and ``reset`` end it before the first byte; ``hang`` never
            responds; ``garbage`` sends the body (or some bytes that are not HTTP) without a head; ``cut`` closes it in
            the middle of the body; ``drip`` sends head and body byte by byte.
        interval: Seconds between the bytes of ``drip``.
    """

    path: str | None = None
    query: Mapping[str, str] = attrs.field(factory=dict)
    nth: int | None = None
    times: int | None = None
    probability: float = 1.0
    seed: int = 0
    delay: float = 0.0
    status: int | None = None
    body: bytes | str | Callable[[bytes], bytes] | None = None
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = ()
    wire: Wire | None = attrs.field(default=None, validator=in_((None, *get_args(Wire))))
    interval: float = 0.05


@attrs.define
class FaultState:
    """What a `Fault` counts."""

    random: random.Random
    matched: int = 0
    applied: int = 0

    def applies(self, fault: Fault, path: str, query: Mapping[str, str]) -> bool:
        """Return whether the fault applies to this request, and count it."""
        if fault.path is not None and not fnmatchcase(path, fault.path):
            return False
        if not fault.query.items() <= query.items():
            return False
        self.matched += 1
        if fault.nth not in (None, self.matched) or (fault.times is not None and self.applied >= fault.times):
            return False
        if self.random.random() >= fault.probability:
            return False
        self.applied += 1
        return True


def apply_fault(fault: Fault, path: str, response: VendorResponse) -> VendorResponse:
    """Return the response that is sent instead of the original one."""
    if fault.status is not None and fault.body is None:
        response = error_response(path, fault.status, phrase(fault.status))
    body = fault.body(response.body) if callable(fault.body) else fault.body
    if isinstance(body, str):
        body = body.encode()
    pairs = tuple(fault.headers.items() if isinstance(fault.headers, Mapping) else fault.headers)
    replaced = {name.lower() for name, _ in pairs}
    return VendorResponse(
        fault.status or response.status,
        response.body if body is None else body,
        tuple(pair for pair in response.headers if pair[0].lower() not in replaced) + pairs,
    )


async def break_connection(fault: Fault, transport: asyncio.Transport, response: VendorResponse) -> None:
    """Send the response as `fault.wire` says, bypassing the HTTP server, and close the connection."""
    if fault.wire == "hang":
        await asyncio.get_running_loop().create_future()  # until the client disconnects or the server stops
    elif fault.wire == "reset":
        # With a linger time of zero the kernel sends RST instead of FIN.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    elif fault.wire == "garbage":
        transport.write(GARBAGE if fault.body is None else response.body)
    elif fault.wire == "cut":
        transport.write(_head(response) + response.body[: len(response.body) // 2])
    elif fault.wire == "drip":
        for byte in _head(response) + response.body:
            transport.write(bytes((byte,)))
            await asyncio.sleep(fault.interval)
    transport.close()


def _head(response: VendorResponse) -> bytes:
    headers = (*response.headers, ("Content-Length", str(len(response.body))), ("Connection", "close"))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {response.status} {phrase(response.status)}\r\n{lines}\r\n".encode("latin-1")
