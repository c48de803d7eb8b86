"""The demo's comparison: one misbehaving server, read by two hand-written loops and by this library, killed once."""

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlencode, urlsplit

from attrs import frozen
from msgspec import json

from distinct_async.testing import FakeServer, World

PAGE_SIZE = 500
CAP = 200  # rows per page that the server returns, whatever is requested
_FAILING = 0.02  # of the requests, twice: HTTP 503 and a reset connection
_TRIES = 8

VisitRow = tuple[str, str]


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


@frozen
class Comparison:
    """The outcomes.

    Attributes:
        until_short: A loop that ends at a page shorter than requested.
        until_empty: A loop that advances by the page size until a page is empty.
        library: ``distinct-async visits``, killed once and run again.
        killed_at: Rows in its file when it was killed.
    """

    until_short: Outcome
    until_empty: Outcome
    library: Outcome
    killed_at: int


async def compare(world: World, touchpoint_id: str) -> Comparison:
    """Read one list in three ways from a server that caps pages and fails now and then."""
    expected = [(scan.user_id, f"{scan.at:%Y-%m-%dT%H:%M:%SZ}") for scan in world.scans(touchpoint_id)]
    async with FakeServer(world, max_page_size=CAP, latency=0.002) as fake:
        fake.fail(status=503, probability=_FAILING, seed=1)
        fake.fail(wire="reset", probability=_FAILING, seed=2)

        def outcome(rows: Sequence[VisitRow]) -> Outcome:
            found, truth = Counter(rows), Counter(expected)
            fake.requests.clear()
            return Outcome(len(rows), (truth - found).total(), (found - truth).total())

        short = outcome(await asyncio.to_thread(_loop, fake, touchpoint_id, until_short=True))
        empty = outcome(await asyncio.to_thread(_loop, fake, touchpoint_id, until_short=False))
        with TemporaryDirectory() as folder:
            killed_at, rows = await _kill_and_resume(fake, touchpoint_id, Path(folder), len(expected) // CAP // 2)
        return Comparison(short, empty, outcome(rows), killed_at)


def _loop(fake: FakeServer, touchpoint_id: str, *, until_short: bool) -> list[VisitRow]:
    """The loop that one writes by hand. It retries, which not every such loop does."""
    rows: list[VisitRow] = []
    for offset in count(0, PAGE_SIZE):
        items = _page(fake, touchpoint_id, offset)
        rows += [(item["userId"], item["timestampUTC"]) for item in items]
        if not items or (until_short and len(items) < PAGE_SIZE):
            break
    return rows


def _page(fake: FakeServer, touchpoint_id: str, offset: int) -> list[dict[str, str]]:
    query = {"metricsType": "TOUCHPOINT", "visitsType": "TOTAL", "touchpointId": touchpoint_id}
    path = f"/v3/touchpoint/metrics?{urlencode(query | {'pageSize': PAGE_SIZE, 'offset': offset})}"
    for _ in range(_TRIES):
        with suppress(OSError, HTTPException), closing(HTTPConnection(urlsplit(fake.url).netloc, timeout=30)) as server:
            server.request("GET", path, headers={"x-distinct-api-key": fake.api_key})
            response = server.getresponse()
            body = response.read()
            if response.status == HTTPStatus.OK:
                items: list[dict[str, str]] = json.decode(body)["data"]["touchpoints"]["totalVisitsDetails"]["items"]
                return items
    raise RuntimeError(f"{path} failed {_TRIES} times")


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
    words = ["visits", touchpoint_id, "--page-size", str(PAGE_SIZE), "--key-file", str(keys), "--quiet"]
    words += ["--checkpoint", str(folder / "position"), "--output", str(output)]

    async def start() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(sys.executable, "-m", "distinct_async", *words)

    process = await start()
    ended = asyncio.ensure_future(process.wait())
    try:
        while len(fake.requests) < requests and not ended.done():
            await asyncio.wait([ended], timeout=0.005)
    finally:
        if not ended.done():
            process.kill()
    await ended
    killed_at = len(_rows_in(output))
    process = await start()
    try:
        await process.wait()
    finally:
        if process.returncode is None:  # cancelled
            process.kill()
    return killed_at, _rows_in(output)


def _rows_in(file: Path) -> Sequence[VisitRow]:
    """The complete lines of a file, which may not exist yet."""
    if not file.exists():
        return []
    rows = []
    for line in file.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            row = json.decode(line)
            rows.append((row["user_id"], row["timestamp_utc"]))
    return rows
