"""A driver of its own for each test: it is killed, or everything that it has written is searched for the key."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from distinct_async.etl.arrow import SCHEMA
from distinct_async.testing import FakeServer, World
from tests.extras.etl.rows import rows_in, rows_of

from .conftest import KEY
from .kills import KILLS, posix_only

pytestmark = [
    pytest.mark.timeout(240 + 60 * KILLS),  # a session starts in 10 seconds, and in 50 on a busy machine
    posix_only,
]

SESSION = """
from pyspark.sql import SparkSession

builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
builder = builder.config("spark.eventLog.compress", "false")
spark = builder.config("spark.eventLog.enabled", "true").config("spark.eventLog.dir", "events").getOrCreate()
options = {"experience_id": "exp-1", "page_size": 20}
"""
STREAM = """
stream = spark.readStream.format("distinct").options(maxRowsPerTrigger=700, **options).load()
writer = stream.writeStream.format("parquet").option("path", "rows").option("checkpointLocation", "checkpoint")
query = writer.trigger(availableNow=True).start()
query.awaitTermination()
"""
FAILING = """
spark.sparkContext.setLogLevel("INFO")
frame = spark.read.format("distinct").options(touchpoint_ids="tp-1", **options).load()
frame.explain("extended")
frame.createOrReplaceTempView("visits")
print(spark.sql("SELECT count(*) AS n FROM visits").collect())
for bad in ({"api_key": "KEY"}, {"page_size": "KEY"}, {"touchpoint_ids": "tp-3"}):
    try:
        spark.read.format("distinct").options(**{**options, **bad}).load().count()
    except Exception as error:
        print("refused:", error)
""".replace("KEY", KEY)

Start = Callable[..., Any]


@pytest.fixture
def world() -> World:
    return World.sample(touchpoints=3, scans=3_000, users=90, seed=7)


@pytest.fixture
def start(fake: FakeServer, spark_environment: dict[str, str], here: Path) -> Start:
    """Start a driver with this script in a group of processes of its own."""
    (here / "events").mkdir()

    async def start(script: str, **variables: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            SESSION + script,
            env={**os.environ, **spark_environment, "DISTINCT_BASE_URL": fake.url, **variables},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )

    return start


def kill(process: asyncio.subprocess.Process) -> None:
    """Kill the driver and its JVM; the Python workers end with it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def test_a_stream_that_is_killed_and_started_again_has_every_row_once(
    start: Start, fake: FakeServer, world: World
) -> None:
    numbers, kills, grown = random.Random(KILLS), 0, False
    fake.latency = 0.01
    while True:
        fake.requests.clear()
        process = await start(STREAM)
        ending = asyncio.create_task(process.communicate())
        try:
            if kills < KILLS:
                requests = numbers.randrange(1, 160)
                while len(fake.requests) < requests and not ending.done():
                    await asyncio.sleep(0.01)
                await asyncio.wait([ending], timeout=numbers.uniform(0, 1.5))  # writing and committing
        finally:
            if kills < KILLS:
                kill(process)
        output, _ = await ending
        if process.returncode == 0 and (kills >= KILLS or grown):
            break
        kills += process.returncode != 0
        assert process.returncode in {0, -signal.SIGKILL}, output.decode()[-2000:]
        if not grown:
            world.grow(500)
            grown = True
    assert sorted(rows_of(world)) == sorted(stored())


def stored() -> list[Any]:
    """The rows that Spark's own list of files names: what a killed task has left is not in it."""
    import json  # noqa: PLC0415

    files = set()
    for log in Path("rows/_spark_metadata").iterdir():
        if not log.name.startswith("."):
            files |= {json.loads(line)["path"] for line in log.read_text().splitlines()[1:]}
    tables = [pq.read_table(name.removeprefix("file://")) for name in files]
    return [row for table in tables for row in rows_in(table.cast(SCHEMA))]  # Spark writes times without their zone


async def test_a_key_is_in_no_log_no_plan_and_no_event(start: Start, fake: FakeServer, here: Path) -> None:
    fake.fail(query={"touchpointId": "tp-3"}, status=401, body=f'{{"message": "bad key {KEY}"}}')  # it echoes the key
    process = await start(FAILING, SPARK_TRACEBACK_WITH_LOCALS="1")
    output, _ = await process.communicate()
    text = output.decode()
    assert 0 == process.returncode, text[-3000:]
    for expected in (
        "option 'api_key' is refused, because Spark logs options",
        "option page_size must be a whole number",
        "401 Unauthorized",
    ):
        assert expected in text
    written = b"".join(path.read_bytes() for path in here.rglob("*") if path.is_file())  # noqa: ASYNC240
    assert b"SparkListenerApplicationStart" in written
    for line in text.splitlines():
        assert KEY not in line
    assert KEY.encode() not in written
