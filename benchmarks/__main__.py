"""``python -m benchmarks [full] [SUBJECT ...] [--json FILE] [--readme]``, or ``python -m benchmarks plot``."""

import argparse
import asyncio
import json
import os
import platform
import textwrap
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path

from attrs import asdict

from benchmarks import etl, gets, importing, memory, peers, plot, profiled, reports, structuring, walks
from benchmarks.server import running
from benchmarks.turns import Section

_SUBJECTS = {
    "structuring": structuring.measure,
    "gets": gets.measure,
    "walks": walks.measure,
    "import": importing.measure,
    "memory": memory.measure,
    "profile": profiled.measure,
    "peers": peers.measure,
    "etl": etl.measure,
    "reports": reports.measure,
}
_SHORT = [name for name in _SUBJECTS if name not in {"memory", "profile", "peers", "etl", "reports"}]
_README = Path(__file__).parent / "README.md"
_INGREDIENTS = ("distinct-async", "aiohttp", "attrs", "cattrs", "msgspec", "orjson", "pydantic")


def _circumstances() -> dict[str, str]:
    cores = f"{os.cpu_count()} cores, {platform.machine()}"
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    versions = {found.name: found.version for name in _INGREDIENTS for found in distributions(name=name)}
    date = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return {"date": date, "machine": cores, "load before": load, "Python": platform.python_version(), **versions}


def _shown(ratios: Mapping[str, float], mark: str = "") -> dict[str, float]:
    """The ratios under their column's heads, with the throughput beside the time: higher is better there."""
    arguments = {f"{mark}{what}": ratio for what, ratio in ratios.items()}
    return {**arguments, **({f"{mark}speed": 1 / ratios["time"]} if "time" in ratios else {})}


def _judged(target: str, shown: Mapping[str, float]) -> Iterable[str]:
    """Each part of the target, ``~speed >= 2.2`` say, with a mark before it where it is missed."""
    for part in filter(None, target.split(", ")):
        what, sign, limit = part.split()
        met = shown[what] <= float(limit) if sign == "<=" else shown[what] >= float(limit)
        yield part if met else f"!{part}"


def _lines(section: Section) -> Iterable[str]:
    """The section, at most 100 columns wide."""
    floor = ", ".join(
        f"{what} {arguments:.3g} {'MB' if what == 'peak' else 's'}" for what, arguments in section.costs.items()
    )
    than = {row.than for row in section.rows if row.than and row.beside}
    than = than if len(than) < 2 else {each.partition(",")[0] for each in than}
    whole = "floor" if section.rows[0].peer == section.floor else section.floor
    yield textwrap.fill(f"{section.title} ({whole}: {'; ~: beside '.join([floor, *than])})", 100)
    rows = [
        {**_shown(row.ratios or dict.fromkeys(section.costs, 1.0)), **_shown(row.beside, "~")} for row in section.rows
    ]
    heads = list(dict.fromkeys(head for row in rows for head in row))
    counted = any("at once" in row.facts for row in section.rows)
    yield f"  {'':29}{''.join(f'{head:>7}' for head in heads)}{' at once' if counted else ''}  target"
    for row, shown in zip(section.rows, rows, strict=True):
        cells = [f"{shown[head]:7.{2 if shown[head] < 100 else 0}f}" if head in shown else " " * 7 for head in heads]
        cells += [f"{row.facts['at once']:8}"] if counted else []
        yield f"  {row.peer:29}{''.join(cells)}  {', '.join(_judged(row.target, shown))}".rstrip()
    yield ""


async def _main(subjects: Iterable[str], tell: Callable[[str], None], *, full: bool) -> list[Section]:
    sections = []
    async with running() as server:
        for name in subjects:
            async for section in _SUBJECTS[name](server, full=full):
                tell("\n".join(_lines(section)))
                sections.append(section)
    return sections


def _into_readme(text: str) -> None:
    before, table, rest = _README.read_text(encoding="utf-8").partition("<!-- the last table -->\n")
    _, end, after = rest.partition("<!-- its end -->\n")
    _README.write_text(f"{before}{table}```text\n{text.strip()}\n```\n{end}{after}", encoding="utf-8")


def main() -> None:
    """Measure what was asked for; print the table, and write it where that was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ratios to the floor; see README.md.")
    words = ("full", *_SUBJECTS)
    alone = "; or `plot`, alone: draws docs/benchmarks.svg from README.md"
    parser.add_argument("what", nargs="*", help=f"{', '.join(words)}; the quick ones, if you name none{alone}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the same figures there")
    parser.add_argument("--readme", action="store_true", help="put the table into benchmarks/README.md")
    arguments = parser.parse_args()
    if arguments.what == ["plot"]:
        print(plot.draw(_README.read_text(encoding="utf-8")))
        return
    if unknown := set(arguments.what).difference(words):
        parser.error(f"no such subject: {', '.join(sorted(unknown))}; there are {', '.join(words)}")
    full, named = "full" in arguments.what, [name for name in arguments.what if name != "full"]
    printed: list[str] = []

    def tell(text: str) -> None:
        print(text, flush=True)
        printed.append(text)

    circumstances = _circumstances()
    tell(textwrap.fill(", ".join(f"{name} {what}" for name, what in circumstances.items()), 100) + "\n")
    subjects = named or (_SUBJECTS if full else _SHORT)
    sections = asyncio.run(_main(subjects, tell, full=full))
    if arguments.readme:
        _into_readme("\n".join(printed))
        if "peers" in subjects:
            plot.draw(_README.read_text(encoding="utf-8"))
    if arguments.json:
        arguments.json.write_text(
            json.dumps({**circumstances, "sections": [asdict(each) for each in sections]}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
