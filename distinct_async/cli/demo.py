"""``distinct-async demo``: the library's main job through its public API, over HTTP, on vendors that run right here."""

import asyncio
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from itertools import count as count_from
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from textwrap import indent
from urllib.parse import urlencode, urlsplit

from attrs import frozen
from msgspec import json
from rich.console import Console
from rich.padding import Padding
from rich.progress import Progress
from rich.table import Table

from distinct_async import DistinctClient, Report, etl
from distinct_async.cli.console import MIN_BAR_WIDTH, ProgressBars, make_table, plural, squeeze, wrap
from distinct_async.cli.exits import run
from distinct_async.errors import ConfigurationError
from distinct_async.models import TouchpointSummary, UserTouchpoint, Visit
from distinct_async.testing import FakeServer, Scan, World

_EXPERIENCE = "exp-1"
_PAGE_SIZE = 500  # the vendor's own 50 would make 2,000 requests of the walks
_ALL_VISITS = "All visits"
_NEW_SCANS = 100
_PROGRESS_TEXT = "{task.completed:>7,} visits  {task.fields[pages]:>3} pages"
_INDENT = 2
_PAGE_CAP = 200  # rows per page that the misbehaving server returns, whatever is requested
_FAULT_PROBABILITY = 0.02  # of its requests, twice: HTTP 503 and a reset connection
_ATTEMPTS = 8

VisitRow = tuple[str, str]

_NEXT_STEPS = """\
export DISTINCT_API_KEY=...     # metrics, from Distinct
export VANTIO_API_KEY=sk_...    # impressions, from Vantio

async with DistinctClient() as client:
    await client.metrics.experience("YOUR-EXPERIENCE")

Vantio is a second service, with a key of its own;
without that key everything but impressions works."""


@frozen
class Tally:
    """A walk compared with the truth.

    Attributes:
        rows: What the walk yielded.
        declared: The total that the vendor states elsewhere, with the experience.
        scans: What is in the world behind the fake vendors.
    """

    rows: Sequence[Visit]
    declared: int
    scans: Sequence[Scan]

    @property
    def counts(self) -> tuple[int, int, int]:
        """Rows walked, total declared, scans in the world."""
        return len(self.rows), self.declared, len(self.scans)

    @property
    def holds(self) -> bool:
        """Whether the counts are equal, and each row is the world's own, in its place."""
        pairs = zip(self.rows, self.scans, strict=False)
        rows_match = all((row.user_id, row.timestamp_utc) == (scan.user_id, scan.at) for row, scan in pairs)
        return rows_match and len(set(self.counts)) == 1


def show(console: Console) -> bool:
    """Show everything, and return whether the closing check holds."""
    console.print("The main job, on sample data: 3 touchpoints, 100,000 scans.")
    world = World.sample(touchpoints=3, scans=100_000, users=9_000, seed=7)
    touchpoints, visits, unique = run(_make_calls(console, world))
    pairs = zip(touchpoints, visits, strict=True)
    tallies = {_display_name(each): Tally(rows, each.total_visits, world.scans(each.id)) for each, rows in pairs}
    total_tally = Tally(
        [row for tally in tallies.values() for row in tally.rows],
        sum(tally.declared for tally in tallies.values()),
        [scan for tally in tallies.values() for scan in tally.scans],
    )
    busiest = _busiest(touchpoints)
    unique_tally = Tally(unique, busiest.unique_visits, world.unique_scans(busiest.id))
    quietest = min(touchpoints, key=lambda each: each.total_visits)
    lost_nothing = run(_show_comparison(console, world, quietest))
    report = run(_sync_twice(console, world))
    holds = _show_check(
        console, tallies | {_ALL_VISITS: total_tally, f"{_display_name(busiest)}, unique": unique_tally}
    )
    _print_heading(console, "The same with your own keys")
    _print_indented(console, _NEXT_STEPS)
    if report is not None:
        _print_heading(
            console, "A report of these scans, for a browser", f'etl.report(client, "{_EXPERIENCE}", "report.html")'
        )
        _print_indented(console, str(report))
    return holds and lost_nothing


async def _make_calls(
    console: Console, world: World
) -> tuple[Sequence[TouchpointSummary], Sequence[Sequence[Visit]], Sequence[Visit]]:
    """Make all requests; return the touchpoints, the visits of each, and the unique visits of the busiest."""
    async with (
        FakeServer(world) as fake,
        DistinctClient(
            fake.api_key, vantio_api_key=fake.vantio_api_key, base_url=fake.url, vantio_base_url=fake.url
        ) as client,
    ):
        console.print(f"Both vendors run in this process, at {fake.url}")
        touchpoints = await _show_experience(console, client)
        await _show_user(console, client, _busiest(touchpoints))
        visits = await _read_visits(console, client, touchpoints)
        unique = await _read_unique_visits(console, client, _busiest(touchpoints))
        await _show_impression(console, client)
    return touchpoints, visits, unique


async def _show_experience(console: Console, client: DistinctClient) -> Sequence[TouchpointSummary]:
    _print_heading(console, "An experience", f'client.metrics.experience("{_EXPERIENCE}")')
    metrics = await client.metrics.experience(_EXPERIENCE)
    total = sum(each.total_visits for each in metrics.touchpoints)
    table = _make_table("Touchpoint", "Id", numbers=("Visits", "Share", "Visitors"))
    for each in metrics.touchpoints:
        share = f"{each.total_visits / total:.1%}"
        table.add_row(_display_name(each), each.id, f"{each.total_visits:,}", share, f"{each.unique_visits:,}")
    _print_indented(console, table)
    return metrics.touchpoints


async def _show_user(console: Console, client: DistinctClient, touchpoint: TouchpointSummary) -> None:
    first = await client.metrics.total_visits(touchpoint.id)  # one page, one request
    user_id = first.items[0].user_id
    _print_heading(console, "A user", f'client.metrics.user("{user_id}", experience_id="{_EXPERIENCE}")')
    metrics = await client.metrics.user(user_id, experience_id=_EXPERIENCE)
    table = _make_table("Touchpoint", numbers=("Visits", "First (UTC)", "Last (UTC)"))
    for each in metrics.touchpoints:
        times = each.timestamps_utc
        table.add_row(
            _display_name(each), f"{each.total_visits:,}", _format_minute(min(times)), _format_minute(max(times))
        )
    _print_indented(console, table)


async def _read_visits(
    console: Console, client: DistinctClient, touchpoints: Sequence[TouchpointSummary]
) -> list[list[Visit]]:
    _print_heading(console, "Every visit", "client.metrics.total_visits(...).run(on_progress=...)")
    with ProgressBars(console, _PROGRESS_TEXT, labels=True) as bars:
        return [await _walk_with_bar(client, each, bars) for each in touchpoints]


async def _walk_with_bar(client: DistinctClient, touchpoint: TouchpointSummary, bars: Progress) -> list[Visit]:
    task = bars.add_task(_display_name(touchpoint), total=touchpoint.total_visits, pages=0, retries="")

    def update_bar(report: Report) -> None:
        retries = plural(report.retries, "retry", "retries")
        bars.update(task, completed=report.rows, pages=report.pages, retries=retries)

    walk = client.metrics.total_visits(touchpoint.id, page_size=_PAGE_SIZE)
    async with walk.run(on_progress=update_bar) as run:
        return [visit async for visit in run]


async def _read_unique_visits(console: Console, client: DistinctClient, touchpoint: TouchpointSummary) -> list[Visit]:
    _print_heading(console, "Unique visitors", f'client.metrics.unique_visits("{touchpoint.id}").collect()')
    visits = await client.metrics.unique_visits(touchpoint.id, page_size=_PAGE_SIZE).collect()
    visits_each = touchpoint.total_visits / len(visits)
    _print_indented(console, f"{len(visits):,} visitors at {_display_name(touchpoint)}, {visits_each:.1f} visits each")
    return visits


async def _show_impression(console: Console, client: DistinctClient) -> None:
    page = await client.impressions.list(page_size=1)
    impression = await client.impressions.get(page.items[0].id)
    _print_heading(console, "An impression", f'client.impressions.get("{impression.id}")')
    table = Table.grid(padding=(0, 3))
    table.add_column(style="dim")
    table.add_row("Scanned", f"{_format_minute(impression.scanned_at)} UTC")
    table.add_row("Poster", impression.poster_id)
    table.add_row("Program", impression.program_id)
    table.add_row("Student", impression.student_id)
    table.add_row("Device", str(impression.metadata["device_type"]))
    _print_indented(console, table)


async def _show_comparison(console: Console, world: World, touchpoint: TouchpointSummary) -> bool:
    """Show what is lost from a misbehaving server; return whether this library lost and repeated nothing."""
    command = f"distinct-async visits {touchpoint.id} \\\n  --checkpoint position.json --output visits.jsonl"
    _print_heading(console, "A server that misbehaves, and a kill", command)
    _print_indented(console, f"It returns {_PAGE_CAP} rows per page instead of {_PAGE_SIZE}.")
    _print_indented(console, "4 % of the requests fail: HTTP 503 or a reset connection.\nAll three retry.\n")
    until_short, until_empty, library, killed_at = await compare(world, touchpoint.id)
    table = _make_table(f"Visits at {_display_name(touchpoint)}", numbers=("Rows", "Lost", "Repeated"))
    for name, each in (
        ("loop until a short page", until_short),
        ("loop until an empty page", until_empty),
        ("distinct-async, killed", library),
    ):
        table.add_row(name, *(f"{number:,}" for number in (each.rows, each.lost, each.repeated)))
    _print_indented(console, table)
    console.print()
    _print_indented(console, f"SIGKILL ended it with {killed_at:,} rows in the file.\nRun again, it continued.")
    _print_indented(console, f"A naive loop lost {until_empty.lost:,} rows; this one lost {library.lost:,}.")
    return (library.lost, library.repeated) == (0, 0)


async def _sync_twice(console: Console, world: World) -> Path | None:
    """Sync, and again when there is more; return the file of a report, if one can be made."""
    _print_heading(
        console, "A database that stays up to date", f'etl.sync(client, "{_EXPERIENCE}", "warehouse.duckdb")'
    )
    table = _make_table("Visits and unique visits", numbers=("Rows", "Requests", "Seconds"))
    report, missing = Path(mkdtemp(prefix="distinct-async-")) / "report.html", ""
    with TemporaryDirectory() as folder:
        database = Path(folder) / "demo.duckdb"
        try:
            async with FakeServer(world) as fake, DistinctClient(fake.api_key, base_url=fake.url) as client:
                for name in ("The first time", f"{_NEW_SCANS} scans later"):
                    result = await etl.sync(client, _EXPERIENCE, database, page_size=_PAGE_SIZE)
                    table.add_row(name, f"{result.rows:,}", f"{len(fake.requests):,}", f"{result.elapsed:.1f}")
                    world.grow(_NEW_SCANS, world.touchpoints[0])
                    fake.requests.clear()
            await etl.report(None, _EXPERIENCE, report, warehouse=database, offline=True)
        except ConfigurationError as error:
            report.parent.rmdir()
            missing = f"Not shown: {error}".replace(": python", ":\npython")  # a line to copy
    if table.row_count:
        _print_indented(console, table)
    if missing:
        _print_indented(console, missing)
    return None if missing else report


def _show_check(console: Console, tallies: Mapping[str, Tally]) -> bool:
    _print_heading(console, "Check: rows walked = total declared = scans in the world")
    table = _make_table("", numbers=("Walked", "Declared", "World", " "))
    for name, tally in tallies.items():
        counts = (f"{count:,}" for count in tally.counts)
        table.add_row(name, *counts, "[green]equal[/]" if tally.holds else "[red]differ[/]")
    _print_indented(console, table)
    holds = all(tally.holds for tally in tallies.values())
    console.print()
    if holds:
        _print_indented(console, f"It holds: {len(tallies[_ALL_VISITS].rows):,} rows, none lost, none repeated.")
    else:
        _print_indented(console, "It does not hold: rows were lost, repeated or changed.")
    return holds


def _print_heading(console: Console, title: str, call: str = "") -> None:
    """Begin a section; `call` is the code that it is about."""
    console.print()
    console.print(title, style="bold")
    if call:
        console.print(indent(call, " " * _INDENT), style="dim", markup=False, soft_wrap=True)  # to be copied
    console.print()


def _print_indented(console: Console, printed: str | Table) -> None:
    """Print below a heading."""
    if isinstance(printed, str):
        console.print(wrap(console, indent(printed, " " * _INDENT), _INDENT), markup=False, soft_wrap=True)
    elif console.width < MIN_BAR_WIDTH:
        squeeze(printed)
        console.print(printed)
    else:
        console.print(Padding(printed, (0, 0, 0, _INDENT), expand=False))


def _make_table(*names: str, numbers: Sequence[str] = ()) -> Table:
    return make_table([*names, *numbers], numbers)


def _format_minute(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M}"


def _busiest(touchpoints: Sequence[TouchpointSummary]) -> TouchpointSummary:
    return max(touchpoints, key=lambda each: each.total_visits)


def _display_name(touchpoint: TouchpointSummary | UserTouchpoint) -> str:
    return touchpoint.name or touchpoint.id


# The comparison: one misbehaving server, read by two hand-written loops and by this library, killed once.


@frozen
class Outcome:
    """What one way of reading a list came to.

    Attributes:
        rows: The rows it returned.
        lost: Rows of the list that it does not have.
        repeated: Rows that it has more often than the list.
    """

    rows: int
    lost: int
    repeated: int


async def compare(world: World, touchpoint_id: str) -> tuple[Outcome, Outcome, Outcome, int]:
    """Read one list in three ways from a server that caps pages and fails now and then.

    Returns:
        The outcomes of a loop that ends at a page shorter than requested, of one that advances by the page size until a
        page is empty, and of ``distinct-async visits``, killed once and run again; and the rows in its file when it was
        killed.
    """
    expected = [(scan.user_id, f"{scan.at:%Y-%m-%dT%H:%M:%SZ}") for scan in world.scans(touchpoint_id)]
    async with FakeServer(world, max_page_size=_PAGE_CAP, latency=0.002) as fake:
        fake.fail(status=503, probability=_FAULT_PROBABILITY, seed=1)
        fake.fail(wire="reset", probability=_FAULT_PROBABILITY, seed=2)

        def make_outcome(rows: Sequence[VisitRow]) -> Outcome:
            actual_counts, expected_counts = Counter(rows), Counter(expected)
            fake.requests.clear()
            return Outcome(
                len(rows), (expected_counts - actual_counts).total(), (actual_counts - expected_counts).total()
            )

        until_short = make_outcome(await asyncio.to_thread(_read_by_hand, fake, touchpoint_id, until_short=True))
        until_empty = make_outcome(await asyncio.to_thread(_read_by_hand, fake, touchpoint_id, until_short=False))
        with TemporaryDirectory() as folder:
            killed_at, rows = await _kill_and_resume(fake, touchpoint_id, Path(folder), len(expected) // _PAGE_CAP // 2)
        return until_short, until_empty, make_outcome(rows), killed_at


def _read_by_hand(fake: FakeServer, touchpoint_id: str, *, until_short: bool) -> list[VisitRow]:
    """The loop that one writes by hand. It retries, which not every such loop does."""
    rows: list[VisitRow] = []
    for offset in count_from(0, _PAGE_SIZE):
        items = _request_page(fake, touchpoint_id, offset)
        rows += [(item["userId"], item["timestampUTC"]) for item in items]
        if not items or (until_short and len(items) < _PAGE_SIZE):
            break
    return rows


def _request_page(fake: FakeServer, touchpoint_id: str, offset: int) -> list[dict[str, str]]:
    query = {"metricsType": "TOUCHPOINT", "visitsType": "TOTAL", "touchpointId": touchpoint_id}
    path = f"/v3/touchpoint/metrics?{urlencode(query | {'pageSize': _PAGE_SIZE, 'offset': offset})}"
    for _ in range(_ATTEMPTS):
        with suppress(OSError, HTTPException), closing(HTTPConnection(urlsplit(fake.url).netloc, timeout=30)) as server:
            server.request("GET", path, headers={"x-distinct-api-key": fake.api_key})
            response = server.getresponse()
            body = response.read()
            if response.status == HTTPStatus.OK:
                items: list[dict[str, str]] = json.decode(body)["data"]["touchpoints"]["totalVisitsDetails"]["items"]
                return items
    raise RuntimeError(f"{path} failed {_ATTEMPTS} times")


async def _kill_and_resume(
    fake: FakeServer, touchpoint_id: str, folder: Path, requests: int
) -> tuple[int, Sequence[VisitRow]]:
    """Kill ``distinct-async visits`` after so many requests, and run it again to the end.

    Returns:
        The rows in its file when it was killed, and those at the end.
    """
    keys, output = folder / "keys", folder / "visits.jsonl"
    keys.touch(0o600)
    keys.write_text(f"DISTINCT_API_KEY={fake.api_key}\nDISTINCT_BASE_URL={fake.url}\n", encoding="utf-8")
    arguments = ["visits", touchpoint_id, "--page-size", str(_PAGE_SIZE), "--key-file", str(keys), "--quiet"]
    arguments += ["--checkpoint", str(folder / "position"), "--output", str(output)]

    async def start() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(sys.executable, "-m", "distinct_async", *arguments)

    process = await start()
    ended = asyncio.ensure_future(process.wait())
    try:
        while len(fake.requests) < requests and not ended.done():
            await asyncio.wait([ended], timeout=0.005)
    finally:
        if not ended.done():
            process.kill()
    await ended
    killed_at = len(_read_rows(output))
    process = await start()
    try:
        await process.wait()
    finally:
        if process.returncode is None:  # cancelled
            process.kill()
    return killed_at, _read_rows(output)


def _read_rows(file: Path) -> Sequence[VisitRow]:
    """The complete lines of a file, which may not exist yet."""
    if not file.exists():
        return []
    rows = []
    for line in file.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            row = json.decode(line)
            rows.append((row["user_id"], row["timestamp_utc"]))
    return rows
