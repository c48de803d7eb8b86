"""``python -m benchmarks.peers PEER PORT [full]``, in the peer's environment: prints a section a line, as JSON."""

import asyncio
import sys
from functools import partial
from importlib import import_module
from importlib.metadata import version

import msgspec
from attrs import evolve

from benchmarks.peers import PEERS, WINDOWS, Ways
from benchmarks.server import Server
from benchmarks.turns import Peer, take_turns
from benchmarks.walks import Case, contenders, turn

_CASES = [
    Case(0, 50, 60, WINDOWS, {}),
    Case(0, 1000, 15, WINDOWS, {}),
    Case(5, 50, 120, WINDOWS, {}),
    Case(5, 1000, 30, WINDOWS, {}),
]
# Latency is waited for by everyone alike: there, each at its best.
_BESIDE = {0: ("ours, window 8, items", "~time >= 3.5"), 5: ("ours, window 32, items", "~time >= 4")}


async def _main(name: str, port: int, *, full: bool) -> None:
    ways: Ways = import_module(f"benchmarks.peers.{name}").ways
    server = Server(port)
    packages = ", ".join(f"{package} {version(package)}" for package in PEERS[name])
    for each in _CASES:
        case = evolve(each, pages=each.pages * 2) if full else each
        async with contenders(server, case) as (floor, all_ours), ways(server.url(case.latency)) as theirs:
            ours = [evolve(mine, beside=None) for mine in all_ours if mine.name.endswith("items")]
            peers = [
                Peer(name, turn(partial(way, case.rows, case.size), case.rows), *_BESIDE[case.latency])
                for name, way in theirs.items()
            ]
            title = f"{packages}, {case}"
            section = await take_turns(title, floor, [*ours, *peers], 7 if full else 3, facts=server.counters)
            sys.stdout.buffer.write(msgspec.json.encode(section) + b"\n")
            sys.stdout.flush()


asyncio.run(_main(sys.argv[1], int(sys.argv[2]), full="full" in sys.argv))
