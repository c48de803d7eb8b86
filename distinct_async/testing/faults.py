"""What may go wrong, as rules: which requests a fault strikes, and what it does to the answer."""

import asyncio
import random
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final, Literal, get_args

import attrs
from attrs.validators import in_

from distinct_async.testing.vendors import Reply, phrase, refused

GARBAGE: Final = b"\x16\x03\x01 not HTTP at all\r\n\r\n"
# With these the client sees no status.
SILENT: Final = frozenset({"reset", "close", "hang", "garbage"})


Wire = Literal["close", "reset", "hang", "garbage", "cut", "drip"]


@attrs.frozen(eq=False, kw_only=True)
class Fault:
    """A rule: it strikes every request that fits, and changes the answer that would have gone out.

    Which requests (all that is given must fit):

    Args:
        path: the path, where `*` stands for anything: `/v3/*`, `*/imp_000007`. None: any.
        query: parameters and values that must all be there: `{"offset": "50"}`.
        nth: only the n-th request that fits, counted from 1.
        times: not more often than this. None: for ever.
        probability: from 0 to 1, thrown with dice of its own.
        seed: for those dice.

        delay: seconds before the answer goes out, beside the server's `latency`.
        status: the status; without a body the vendor's way of saying it. None: as it was.
        body: the body, or a function that makes it from the honest one. None: as it was.
        headers: further headers, a mapping or pairs; they replace those of the same name.
        wire: `close`, `reset`: the connection goes down before a byte; `hang`: nothing ever comes; `garbage`: the
            body (or some bytes that are not HTTP) goes out as it is, without a head; `cut`: the connection goes down
            in the middle of the body; `drip`: head and body come byte by byte.
        interval: seconds between the bytes of a drip.
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
class Tally:
    """How a rule fared so far."""

    dice: random.Random
    fitting: int = 0
    struck: int = 0

    def strikes(self, fault: Fault, path: str, query: Mapping[str, str]) -> bool:
        """Whether the rule strikes this request; counts it if it fits."""
        if fault.path is not None and not fnmatchcase(path, fault.path):
            return False
        if not fault.query.items() <= query.items():
            return False
        self.fitting += 1
        if fault.nth not in (None, self.fitting) or (fault.times is not None and self.struck >= fault.times):
            return False
        if self.dice.random() >= fault.probability:
            return False
        self.struck += 1
        return True


def spoil(fault: Fault, path: str, reply: Reply) -> Reply:
    """The answer that goes out instead of the honest one."""
    if fault.status is not None and fault.body is None:
        reply = refused(path, fault.status, phrase(fault.status))
    body = fault.body(reply.body) if callable(fault.body) else fault.body
    if isinstance(body, str):
        body = body.encode()
    pairs = tuple(fault.headers.items() if isinstance(fault.headers, Mapping) else fault.headers)
    replaced = {name.lower() for name, _ in pairs}
    return Reply(
        fault.status or reply.status,
        reply.body if body is None else body,
        tuple(pair for pair in reply.headers if pair[0].lower() not in replaced) + pairs,
    )


async def break_wire(fault: Fault, transport: asyncio.Transport, reply: Reply) -> None:
    """Send an answer as the fault has it, past the server, and leave the connection closed."""
    if fault.wire == "hang":
        await asyncio.get_running_loop().create_future()  # until the client goes, or the server stops
    elif fault.wire == "reset":
        # A linger time of zero makes the kernel send RST, where a plain close would send FIN.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    elif fault.wire == "garbage":
        transport.write(GARBAGE if fault.body is None else reply.body)
    elif fault.wire == "cut":
        transport.write(_head(reply) + reply.body[: len(reply.body) // 2])
    elif fault.wire == "drip":
        for byte in _head(reply) + reply.body:
            transport.write(bytes((byte,)))
            await asyncio.sleep(fault.interval)
    transport.close()


def _head(reply: Reply) -> bytes:
    headers = (*reply.headers, ("Content-Length", str(len(reply.body))), ("Connection", "close"))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {reply.status} {phrase(reply.status)}\r\n{lines}\r\n".encode("latin-1")
