"""A warehouse's nightly job: 1 000 000 rows of 200 touchpoints to DuckDB and to Parquet, beside dlt's RESTClient.

Each turn is a process of its own, in dlt's environment, which has our extras too; all write to a temporary folder.
"""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from time import perf_counter, process_time

from benchmarks.memory import peak
from benchmarks.peers import environment
from benchmarks.server import Server
from benchmarks.turns import Cost, Peer, Section, take_turns
from distinct_async import DistinctClient, etl

_TOUCHPOINTS, _SIZE, _LATENCY = 200, 500, 5


async def _sync(url: str, experience: str, folder: Path) -> int:
    async with DistinctClient("bench", base_url=url) as client:
        result = await etl.sync(client, experience, folder / "ours.duckdb", visits_type="TOTAL", page_size=_SIZE)
    return result.rows


async def _export(url: str, experience: str, folder: Path) -> int:
    async with DistinctClient("bench", base_url=url) as client:
        result = await etl.export(client, experience, folder / "ours.parquet", page_size=_SIZE)
    return result.rows


async def _dlt(url: str, experience: str, folder: Path) -> int:
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
                    limit=_SIZE, limit_param="pageSize", total_path="data.touchpoints.totalVisits"
                ),
            ):
                counted += len(page)
                yield [{"touchpoint_id": touchpoint["id"], **row} for row in page]

    pipeline = dlt.pipeline(
        "visits", pipelines_dir=str(folder), destination=dlt.destinations.duckdb(str(folder / "dlt.duckdb"))
    )
    pipeline.run(dlt.resource(visits, name="visits"))
    return counted


_JOBS: Mapping[str, Callable[[str, str, Path], Awaitable[int]]] = {"sync": _sync, "export": _export, "dlt": _dlt}


async def _work(job: str, url: str, touchpoints: int, rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        began, spent = perf_counter(), process_time()
        if await _JOBS[job](url, f"{touchpoints}x{rows}", Path(folder)) != touchpoints * rows:
            raise AssertionError("rows are missing")
        print(process_time() - spent, perf_counter() - began, peak())


async def _child(python: Path, url: str, job: str, touchpoints: int, rows: int) -> Cost:
    words = (str(python), "-m", __name__, job, url, str(touchpoints), str(rows))
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return dict(zip(("cpu", "time", "peak"), map(float, output.split()[-3:]), strict=True))


async def measure(server: Server, *, full: bool) -> AsyncIterator[Section]:
    """Rows to DuckDB and to Parquet at 5 ms, 500 a page, beside dlt; then ten times the rows, for the memory."""
    if (python := await environment("etl", "dlt[duckdb]")) is None:
        return
    child, rows = partial(_child, python, server.url(_LATENCY)), 5000 if full else 500
    jobs = {"ours, to DuckDB": "sync", "ours, to Parquet": "export"}
    floor = Peer("dlt, to DuckDB", partial(child, "dlt", _TOUCHPOINTS, rows))
    ours = [Peer(name, partial(child, job, _TOUCHPOINTS, rows), target="time <= 0.25") for name, job in jobs.items()]
    title = f"jobs, {_LATENCY} ms, {_SIZE} a page, {_TOUCHPOINTS} touchpoints, {_TOUCHPOINTS * rows:,} rows"
    yield await take_turns(title, floor, ours, 1, warm_up=False)  # a turn takes minutes
    for name, job in jobs.items():
        few = Peer(f"{_TOUCHPOINTS * rows:,} rows", partial(child, job, _TOUCHPOINTS, rows))
        many = Peer(
            f"{_TOUCHPOINTS * rows * 10:,} rows", partial(child, job, _TOUCHPOINTS, rows * 10), target="peak <= 1.1"
        )
        yield await take_turns(f"memory of a job: {name}", few, [many], 1, warm_up=False)


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
