"""``python -m benchmarks [full] [structuring] [gets] [walks] [import] [memory] [--json FILE]``."""

import argparse
import asyncio
import json
import os
import platform
import textwrap
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path

from attrs import asdict

from benchmarks import gets, importing, memory, structuring, walks
from benchmarks.server import running
from benchmarks.turns import Section

_SUBJECTS = {
    "structuring": structuring.measure,
    "gets": gets.measure,
    "walks": walks.measure,
    "import": importing.measure,
    "memory": memory.measure,
}
_SHORT = [name for name in _SUBJECTS if name != "memory"]
_INGREDIENTS = ("distinct-async", "aiohttp", "attrs", "cattrs", "msgspec", "orjson", "pydantic")


def _circumstances() -> dict[str, str]:
    cores = f"{os.cpu_count()} cores, {platform.machine()}"
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    versions = {found.name: found.version for name in _INGREDIENTS for found in distributions(name=name)}
    date = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return {"date": date, "machine": cores, "load before": load, "Python": platform.python_version(), **versions}


def _shown(ratios: Mapping[str, float], mark: str = "") -> dict[str, float]:
    """The ratios under their column's heads, with the throughput beside the time: higher is better there."""
    told = {f"{mark}{what}": ratio for what, ratio in ratios.items()}
    return {**told, **({f"{mark}speed": 1 / ratios["time"]} if "time" in ratios else {})}


def _lines(section: Section) -> Iterable[str]:
    """The section, at most 100 columns wide."""
    floor = ", ".join(f"{what} {told:.3g} {'MB' if what == 'peak' else 's'}" for what, told in section.costs.items())
    than = {row.than.partition(",")[0] for row in section.rows if row.than and row.beside}
    yield f"{section.title} (floor: {'; ~: beside '.join([floor, *than])})"
    rows = [
        {**_shown(row.ratios or dict.fromkeys(section.costs, 1.0)), **_shown(row.beside, "~")} for row in section.rows
    ]
    heads = list(dict.fromkeys(head for row in rows for head in row))
    counted = any("at once" in row.facts for row in section.rows)
    yield f"  {'':29}{''.join(f'{head:>7}' for head in heads)}{' at once' if counted else ''}  target"
    for row, shown in zip(section.rows, rows, strict=True):
        cells = [f"{shown[head]:7.2f}" if head in shown else " " * 7 for head in heads]
        cells += [f"{row.facts['at once']:8}"] if counted else []
        yield f"  {row.peer:29}{''.join(cells)}  {row.target}".rstrip()
    yield ""


async def _main(subjects: Iterable[str], *, full: bool) -> list[Section]:
    sections = []
    async with running() as server:
        for name in subjects:
            async for section in _SUBJECTS[name](server, full=full):
                print(*_lines(section), sep="\n", flush=True)
                sections.append(section)
    return sections


def main() -> None:
    """Measure what was asked for; print the table, and write it as JSON where that was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ratios to the floor; see README.md.")
    words = ("full", *_SUBJECTS)
    parser.add_argument("what", nargs="*", help=f"{', '.join(words)}; all subjects but memory, if you name none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the same figures there")
    told = parser.parse_args()
    if unknown := set(told.what).difference(words):
        parser.error(f"no such subject: {', '.join(sorted(unknown))}; there are {', '.join(words)}")
    full, named = "full" in told.what, [name for name in told.what if name != "full"]
    circumstances = _circumstances()
    print(textwrap.fill(", ".join(f"{name} {what}" for name, what in circumstances.items()), 100), end="\n\n")
    sections = asyncio.run(_main(named or (_SUBJECTS if full else _SHORT), full=full))
    if told.json:
        told.json.write_text(
            json.dumps({**circumstances, "sections": [asdict(each) for each in sections]}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
