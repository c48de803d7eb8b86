"""Jobs: their CPU beside that of bare requests, many short lists, memory, and rows to DuckDB beside dlt's RESTClient.

Each turn is a process of its own, in dlt's environment, which has our extras too; all write to a temporary folder. The
floor requests the same pages with aiohttp, eight at once, and throws the bodies away. It is measured twice: with a
server that makes each page, so that all wait for it (the targets are of such a floor), and with pages that are ready.
"""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from time import perf_counter, process_time

import aiohttp

from benchmarks.memory import peak
from benchmarks.peers import environment
from benchmarks.server import Server
from benchmarks.turns import Cost, Peer, Section, take_turns
from distinct_async import DistinctClient, etl

_TOUCHPOINTS, _SIZE, _LATENCY = 200, 500, 5


async def _gets(url: str, experience: str, folder: Path, size: int) -> int:  # noqa: ARG001  # nothing is written
    touchpoints, rows = map(int, experience.split("x"))
    offsets = iter([(number, offset) for number in range(touchpoints) for offset in range(0, rows, size)])
    base, query = f"{url}/v3/touchpoint/metrics", f"visitsType=TOTAL&pageSize={size}&experienceId={experience}"
    async with aiohttp.ClientSession() as session:

        async def read() -> None:
            for number, offset in offsets:
                listed = f"metricsType=TOUCHPOINT&touchpointId={rows}-{number}&offset={offset}&{query}"
                async with session.get(f"{base}?{listed}") as response:
                    await response.read()

        await asyncio.gather(*(read() for _ in range(8)))
    return touchpoints * rows


async def _batches(url: str, experience: str, folder: Path, size: int) -> int:  # noqa: ARG001  # nothing is written
    async with DistinctClient("bench", base_url=url) as client:
        return sum([len(batch) async for batch in etl.batches(client, experience, page_size=size)])


async def _sync(url: str, experience: str, folder: Path, size: int) -> int:
    async with DistinctClient("bench", base_url=url) as client:
        database = folder / "ours.duckdb"
        result = await etl.sync(client, experience, database, visits_type="TOTAL", page_size=size)
    return result.rows


async def _export(url: str, experience: str, folder: Path, size: int) -> int:
    async with DistinctClient("bench", base_url=url) as client:
        result = await etl.export(client, experience, folder / "ours.parquet", page_size=size)
    return result.rows


async def _dlt(url: str, experience: str, folder: Path, size: int) -> int:
    """As dlt's documentation has it: a client, a paginator, a resource that yields pages, a pipeline."""
    dlt = import_module("dlt")  # by name, since no type checker of ours has it
    rest = import_module("dlt.sources.helpers.rest_client")
    paginators = import_module("dlt.sources.helpers.rest_client.paginators")
    path, counted = "v3/touchpoint/metrics", 0
    client = rest.RESTClient(base_url=url, headers={"x-distinct-api-key": "bench"})

    def visits() -> object:
        nonlocal counted
        listed = client.get(path, params={"metricsType": "EXPERIENCE", "experienceId": experience}).json()
        for touchpoint in listed["data"]["touchpoints"]:
            for page in client.paginate(
                path,
                params={"metricsType": "TOUCHPOINT", "touchpointId": touchpoint["id"], "visitsType": "TOTAL"},
                data_selector="data.touchpoints.totalVisitsDetails.items",
                paginator=paginators.OffsetPaginator(
                    limit=size, limit_param="pageSize", total_path="data.touchpoints.totalVisits"
                ),
            ):
                counted += len(page)
                yield [{"touchpoint_id": touchpoint["id"], **row} for row in page]

    pipeline = dlt.pipeline(
        "visits", pipelines_dir=str(folder), destination=dlt.destinations.duckdb(str(folder / "dlt.duckdb"))
    )
    pipeline.run(dlt.resource(visits, name="visits"))
    return counted


JOBS: Mapping[str, Callable[[str, str, Path, int], Awaitable[int]]] = {
    "gets": _gets,
    "batches": _batches,
    "sync": _sync,
    "export": _export,
    "dlt": _dlt,
}


async def _work(job: str, url: str, touchpoints: int, rows: int, size: int) -> None:
    for each in ("duckdb", "files"):  # what a job imports is no cost of its rows
        import_module(f"distinct_async.etl.destinations.{each}")
    with tempfile.TemporaryDirectory() as folder:
        began, spent = perf_counter(), process_time()
        if await JOBS[job](url, f"{touchpoints}x{rows}", Path(folder), size) != touchpoints * rows:
            raise AssertionError("rows are missing")
        print(process_time() - spent, perf_counter() - began, peak())


async def _child(python: Path, url: str, job: str, touchpoints: int, rows: int, size: int = _SIZE) -> Cost:
    words = (str(python), "-m", __name__, job, url, *map(str, (touchpoints, rows, size)))
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return dict(zip(("cpu", "time", "peak"), map(float, output.split()[-3:]), strict=True))


async def sections(python: Path, server: Server, *, full: bool) -> AsyncIterator[Section]:
    """Yield the sections that need no peer."""
    rows, rounds = 10_000 if full else 2000, 3 if full else 1
    for size, made, targets in (
        (500, True, {"batches": "cpu <= 3.2", "export": "cpu <= 5", "sync": "cpu <= 6"}),
        (50, True, {"batches": "cpu <= 1.7"}),
        (500, False, {"batches": "", "export": "", "sync": ""}),
    ):
        child, count = partial(_child, python, server.url(0, made=made)), rows * size // 500
        floor = Peer("GETs, bodies thrown away", partial(child, "gets", _TOUCHPOINTS, count, size))
        ours = [
            Peer(job, partial(child, job, _TOUCHPOINTS, count, size), target=target) for job, target in targets.items()
        ]
        title = f"jobs, 0 ms, {size} a page, {_TOUCHPOINTS * count:,} rows, pages {'made' if made else 'ready'}"
        yield await take_turns(title, floor, ours, rounds)
    child = partial(_child, python, server.url(0))
    lists = 5000 if full else 1000
    for job in ("sync", "export"):
        few, many = (
            Peer(f"{count:,} lists of 100 rows", partial(child, job, count, 100), target=target)
            for count, target in ((lists, ""), (4 * lists, "cpu <= 4.4"))
        )
        yield await take_turns(f"many lists: {job}", few, [many], rounds, warm_up=False)


async def measure(server: Server, *, full: bool) -> AsyncIterator[Section]:
    """Yield a section for each question: CPU, many lists, rows a second beside dlt, memory."""
    if (python := await environment("etl", "dlt[duckdb]")) is None:
        return
    async for section in sections(python, server, full=full):
        yield section
    child, rows = partial(_child, python, server.url(_LATENCY)), 5000 if full else 500
    jobs = {"ours, to DuckDB": "sync", "ours, to Parquet": "export"}
    floor = Peer("dlt, to DuckDB", partial(child, "dlt", _TOUCHPOINTS, rows))
    ours = [Peer(name, partial(child, job, _TOUCHPOINTS, rows), target="speed >= 30") for name, job in jobs.items()]
    title = f"jobs, {_LATENCY} ms, {_SIZE} a page, {_TOUCHPOINTS} touchpoints, {_TOUCHPOINTS * rows:,} rows"
    yield await take_turns(title, floor, ours, 1, warm_up=False)  # a turn takes minutes
    for name, job in jobs.items():
        few = Peer(f"{_TOUCHPOINTS * rows:,} rows", partial(child, job, _TOUCHPOINTS, rows))
        many = Peer(
            f"{_TOUCHPOINTS * rows * 10:,} rows", partial(child, job, _TOUCHPOINTS, rows * 10), target="peak <= 1.1"
        )
        yield await take_turns(f"memory of a job: {name}", few, [many], 1, warm_up=False)


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
