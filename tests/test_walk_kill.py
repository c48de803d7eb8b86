"""A process that dies between any two pages, and goes on from the last checkpoint it saved."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from distinct_async.testing import FakeServer, World
from tests.rig import queue

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="kill -9 is a matter of POSIX"),
    pytest.mark.timeout(90),
]

COUNT = 123

# The rows and the checkpoint behind them are saved in one write; before and after it the process may die.
SCRIPT = """
import asyncio, json, sys
from distinct_async import Checkpoint, DistinctClient

url, key, saved, page_size = sys.argv[1:]

async def main():
    with open(saved, "a+") as file:
        file.seek(0)
        lines = file.read().splitlines()
        async with DistinctClient(key, base_url=url) as client:
            walk = client.metrics.total_visits("tp-1", page_size=int(page_size))
            if lines:
                walk = walk.resume(Checkpoint.from_json(json.dumps(json.loads(lines[-1])["checkpoint"])))
            async with walk.run() as run:
                async for page in run.pages():
                    print("given", flush=True)
                    sys.stdin.readline()
                    rows = [row.user_id for row in page]
                    file.write(json.dumps({"rows": rows, "checkpoint": json.loads(page.checkpoint.to_json())}) + "\\n")
                    file.flush()
                    print("saved", flush=True)
                    sys.stdin.readline()
                assert run.report.complete

asyncio.run(main())
"""


@pytest.fixture
def world() -> World:
    return queue(COUNT)


async def killed_after(words: int, fake: FakeServer, saved: Path, page_size: int) -> bool:
    """Let the process say so many words, then kill it; False where it came to its end before."""
    arguments = (fake.url, fake.api_key, str(saved), str(page_size))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SCRIPT, *arguments, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        for word in range(words):
            if not await process.stdout.readline():
                assert 0 == await process.wait()
                return False
            if word < words - 1:
                process.stdin.write(b"\n")
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
            await process.wait()
        process.stdin.close()
    assert -signal.SIGKILL == process.returncode
    return True


async def test_killed_between_any_two_pages_every_row_is_saved_once(
    fake: FakeServer, world: World, tmp_path: Path
) -> None:
    saved = tmp_path / "saved"
    expected = [scan.user_id for scan in world.scans("tp-1")]
    # Odd: a page was given and not saved. Even: it was. Each time with another page size.
    for words, page_size in [(1, 10), (2, 7), (3, 10), (6, 25)]:
        assert await killed_after(words, fake, saved, page_size)
    assert not await killed_after(1000, fake, saved, 10)

    lines = [json.loads(line) for line in saved.read_text().splitlines()]
    assert expected == [row for line in lines for row in line["rows"]]
    assert COUNT == lines[-1]["checkpoint"]["position"]
    assert [7, 16, 40, 65, 90] == [line["checkpoint"]["position"] for line in lines[:5]]
