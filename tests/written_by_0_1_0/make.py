"""Write the files beside this one with the version that is installed: run once, with 0.1.0 (429c8bd) and DuckDB 1.4.

``world.json`` is what the fake vendors serve; the files were written when each list had only its first rows
(`BEGINNINGS`). An export and two walks were ended by a touchpoint that the server refused.
"""

import asyncio
import json
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from distinct_async import DistinctClient, RetryPolicy, etl
from distinct_async.errors import DistinctError
from distinct_async.etl import jobs
from distinct_async.testing import FakeServer, World

HERE = Path(__file__).parent
BEGINNINGS = {"tp-1": 60, "tp-2": 35, "tp-3": 10}  # of 90, 45 and 15 rows
REFUSED = "tp-3"


def full() -> dict[str, list[dict[str, str]]]:
    """The world as JSON: 150 scans at three touchpoints."""
    sample = World.sample(touchpoints=3, scans=400, users=40)
    rows = {"tp-1": 90, "tp-2": 45, "tp-3": 15}
    return {
        "touchpoints": [
            {"id": name, "name": sample.touchpoint(name).name or "", "value": sample.touchpoint(name).value or ""}
            for name in rows
        ],
        "scans": [
            {"touchpoint_id": name, "user_id": scan.user_id, "at": scan.at.isoformat().replace("+00:00", "Z")}
            for name, count in rows.items()
            for scan in sample.scans(name)[:count]
        ],
    }


def beginning(content: dict[str, list[dict[str, str]]]) -> dict[str, list[dict[str, str]]]:
    """The world when the files were written."""
    scans = [
        scan
        for name, count in BEGINNINGS.items()
        for scan in [scan for scan in content["scans"] if scan["touchpoint_id"] == name][:count]
    ]
    return {**content, "scans": scans}


async def main() -> None:
    """Write all files."""
    warnings.simplefilter("ignore")
    content = full()
    (HERE / "world.json").write_text(json.dumps(content, indent=0) + "\n")
    jobs.BATCH_ROWS = 20
    world = World.from_json(json.dumps(beginning(content)))
    retry = RetryPolicy(attempts=1)
    async with FakeServer(world) as fake, DistinctClient(**settings(fake), retry=retry) as client:
        for name, walk in {
            "total_visits": client.metrics.total_visits("tp-1", page_size=10),
            "unique_visits": client.metrics.unique_visits("tp-1", experience_id="exp-1", page_size=10),
            "impressions": client.impressions.list(program_id="prog_exp-1", page_size=10),
        }.items():
            async with walk.run() as run:
                pages = run.pages()
                await anext(pages)
                await anext(pages)
                assert run.checkpoint is not None
                (HERE / f"{name}.checkpoint.json").write_text(run.checkpoint.to_json() + "\n")
        await etl.sync(client, "exp-1", HERE / "warehouse.duckdb", visits_type=None, page_size=10)
        await etl.sync_impressions(client, HERE / "warehouse.duckdb", ids=[*world.impressions[:5], "imp_nobody"])
        await etl.export(client, "exp-1", HERE / "finished.parquet", visits_type=None, page_size=10)
        fake.fail(status=400, query={"touchpointId": REFUSED})
        with suppress(DistinctError):
            await etl.export(client, "exp-1", HERE / "unfinished.parquet", visits_type=None, page_size=10)
        fake.faults.clear()
        for form in ("jsonl", "csv"):
            fake.requests.clear()
            fake.fail(status=400, query={"offset": "40"})
            await asyncio.to_thread(command, fake, form)
            fake.faults.clear()


def settings(fake: FakeServer) -> dict[str, Any]:
    """What a client needs to reach the fake vendors."""
    return {
        "api_key": fake.api_key,
        "vantio_api_key": fake.vantio_api_key,
        "base_url": fake.url,
        "vantio_base_url": fake.url,
    }


def command(fake: FakeServer, form: str) -> None:
    """A walk of the command that ends in an error after 40 rows."""
    words = ["visits", "tp-1", "--page-size", "10", "-o", f"walk.{form}", "--format", form]
    words += ["--checkpoint", f"walk.{form}.checkpoint", "--allow-http", "--prefetch", "1"]
    environment = {"DISTINCT_API_KEY": fake.api_key, "DISTINCT_BASE_URL": fake.url, "PATH": "/usr/bin:/bin"}
    start = "import sys; from distinct_async.cli import main; sys.exit(main())"
    subprocess.run([sys.executable, "-c", start, *words], cwd=HERE, env=environment, check=False)


asyncio.run(main())
