"""Peers take turns in one process, the floor before and after each: what a shared machine does to one, it does to all.

A measure is reported as the median over the rounds of its ratio to the floor beside it; seconds mean little here.
"""

import gc
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from statistics import median
from time import perf_counter, process_time

from attrs import field, frozen

Cost = Mapping[str, float]
"""What one turn cost: ``time`` and ``cpu`` in seconds, or ``peak`` in megabytes."""

Turn = Callable[[], Awaitable[Cost]]


@frozen(eq=False)
class Peer:
    """One way to do the work.

    :ivar beside: another peer of the same section, which this one is held against too.
    :ivar target: what we want of it, in words.
    """

    name: str
    turn: Turn
    beside: str | None = None
    target: str = ""


@frozen
class Row:
    """A peer's medians.

    :ivar ratios: to the floor; lower is better.
    :ivar beside: to the peer named in `than`.
    :ivar facts: what the server counted in one turn.
    """

    peer: str
    ratios: Mapping[str, float]
    than: str | None = None
    beside: Mapping[str, float] = field(factory=dict)
    facts: Mapping[str, int] = field(factory=dict)
    target: str = ""


@frozen
class Section:
    """One piece of work: its floor, with what a turn of it costs, and its peers."""

    title: str
    floor: str
    costs: Cost
    rows: Sequence[Row]


async def clocked(work: Callable[[], Awaitable[object]]) -> Cost:
    """What `work` costs in this process."""
    gc.collect()  # nobody pays for the one before
    began, spent = perf_counter(), process_time()
    await work()
    return {"cpu": process_time() - spent, "time": perf_counter() - began}


async def _no_facts() -> Mapping[str, int]:
    return {}


async def take_turns(
    title: str,
    floor: Peer,
    peers: Sequence[Peer],
    rounds: int,
    *,
    warm_up: bool = True,
    facts: Callable[[], Awaitable[Mapping[str, int]]] = _no_facts,
) -> Section:
    """Let everyone work in turn, `rounds` times.

    :param warm_up: one turn each that does not count, for connections, caches and bytecode.
    :param facts: returns what was done since it was last asked.
    """
    did: dict[str, Mapping[str, int]] = {}
    await facts()
    for peer in (floor, *peers) if warm_up else ():
        await peer.turn()
        did[peer.name] = await facts()
    floors = [await floor.turn()]
    ratios: dict[str, list[Cost]] = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            cost = await peer.turn()
            before, after = floors[-1], await floor.turn()
            ratios[peer.name].append({what: 2 * cost[what] / (before[what] + after[what]) for what in cost})
            floors.append(after)
    rows = [
        Row(
            peer.name,
            _medians(ratios[peer.name]),
            peer.beside,
            _medians(map(_divided, ratios[peer.name], ratios.get(peer.beside or "", ()))),
            did.get(peer.name, {}),
            peer.target,
        )
        for peer in peers
    ]
    return Section(title, floor.name, _medians(floors), [Row(floor.name, {}, facts=did.get(floor.name, {})), *rows])


def _divided(cost: Cost, other: Cost) -> Cost:
    return {what: cost[what] / other[what] for what in cost}


def _medians(costs: Iterable[Cost]) -> dict[str, float]:
    rounds = list(costs)
    return {what: median(cost[what] for cost in rounds) for what in rounds[0]} if rounds else {}
