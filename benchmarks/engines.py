"""Spark, processes and dlt beside one export: ``python -m benchmarks.engines [ROWS]``, in tests-engines' environment.

Each job is a process of its own, twice: at 5 and at 50 ms of latency. Time is that of the job without its imports and
without Spark's start; CPU and memory are those of the process and all its children. The server takes a core of two.
"""

import asyncio
import os
import resource
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from pathlib import Path
from time import perf_counter

from benchmarks import etl as jobs
from benchmarks.server import Server
from distinct_async import DistinctClient, etl

_TOUCHPOINTS, _SIZE = 200, 500
_MOST = {"dlt, its RESTClient": 200_000}  # it took 2.9 GB for 400,000 rows


def _write(number: int, part: etl.Plan) -> int:
    arrow, parquet = import_module("distinct_async.etl.arrow"), import_module("pyarrow.parquet")
    rows = 0
    with parquet.ParquetWriter(f"{number}.parquet", arrow.SCHEMA) as file:
        for batch in etl.read(part):
            file.write_batch(batch)
            rows += len(batch)
    return rows


async def _processes(url: str, experience: str, folder: Path, size: int) -> int:  # noqa: ARG001  # as `read` has it
    async with DistinctClient("bench", base_url=url) as client:
        parts = (await etl.plan(client, experience, visits_type="TOTAL")).split(4)
    os.environ |= {"DISTINCT_API_KEY": "bench", "DISTINCT_BASE_URL": url}
    os.chdir(folder)
    with ProcessPoolExecutor(2) as pool:
        return sum(pool.map(_write, range(len(parts)), parts))


async def _dlt_ours(url: str, experience: str, folder: Path, size: int) -> int:
    dlt, ours = import_module("dlt"), import_module("distinct_async.dlt")
    os.environ |= {"DISTINCT_API_KEY": "bench", "DISTINCT_BASE_URL": url, "RUNTIME__DLTHUB_TELEMETRY": "false"}
    destination = dlt.destinations.duckdb(str(folder / "ours.duckdb"))
    pipeline = dlt.pipeline("ours", pipelines_dir=str(folder), destination=destination)
    pipeline.run(ours.distinct(experience, visits_type="TOTAL", page_size=size))
    counts: Mapping[str, int] = pipeline.last_trace.last_normalize_info.row_counts
    return counts["visits"]


async def _spark(url: str, experience: str, folder: Path, size: int) -> int:
    options = {"base_url": url, "page_size": size, "max_concurrency": 32}
    spark = import_module("pyspark.sql").SparkSession.getActiveSession()
    visits = spark.read.format("distinct").options(**options).load(experience)
    visits.write.parquet(str(folder / "spark"))
    return int(spark.read.parquet(str(folder / "spark")).count())


def _start_spark() -> None:
    os.environ |= {"DISTINCT_API_KEY": "bench", "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
    builder = import_module("pyspark.sql").SparkSession.builder.master("local[2]")
    builder.config("spark.ui.enabled", "false").config("spark.log.level", "OFF").getOrCreate()


def _stop_spark() -> None:
    gateway = import_module("pyspark").SparkContext._gateway  # noqa: SLF001
    import_module("pyspark.sql").SparkSession.getActiveSession().stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()  # only then its CPU is known


_JOBS: Mapping[str, Callable[[str, str, Path, int], Awaitable[int]]] = {
    "etl.export": jobs.JOBS["export"],
    "2 processes over split": _processes,
    "Spark, local[2]": _spark,
    "dlt, our source": _dlt_ours,
    "dlt, its RESTClient": jobs.JOBS["dlt"],
}


def _cpu() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


async def _work(job: str, url: str, rows: int) -> None:
    if job.startswith("Spark"):
        _start_spark()
    with tempfile.TemporaryDirectory() as folder:
        began = perf_counter()
        done = await _JOBS[job](url, f"{_TOUCHPOINTS}x{rows // _TOUCHPOINTS}", Path(folder), _SIZE)
        seconds = perf_counter() - began
        os.chdir("/")
    if done != rows:
        raise AssertionError(f"{done} of {rows} rows")
    if job.startswith("Spark"):
        _stop_spark()
    largest = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(
        f"{job:24} {rows / seconds:>10,.0f} rows/s {_cpu():>8.1f} s CPU {largest / 1024:>8,.0f} MB the largest process"
    )


async def _measure(rows: int) -> None:
    pipe = asyncio.subprocess.PIPE
    server = await asyncio.create_subprocess_exec(sys.executable, "-m", "benchmarks.server", stdin=pipe, stdout=pipe)
    assert server.stdin is not None and server.stdout is not None  # noqa: PT018, S101  # both requested
    address = Server(int(await server.stdout.readline()))
    for latency in (5, 50):
        print(
            f"{rows:,} rows, {_TOUCHPOINTS} lists, {_SIZE} a page, {latency} ms, load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        for job in _JOBS:
            words = (
                sys.executable,
                "-m",
                __spec__.name,
                job,
                address.url(latency),
                str(min(rows, _MOST.get(job, rows))),
            )
            await (await asyncio.create_subprocess_exec(*words)).wait()
    server.stdin.close()
    await server.wait()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        asyncio.run(_work(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    else:
        asyncio.run(_measure(int((sys.argv[1:] or ["2000000"])[0])))
