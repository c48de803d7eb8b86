"""Tests of the service that follows a touchpoint: every visit arrives, across outages and restarts."""

import signal
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from distinct_async import DistinctClient, RetryPolicy
from distinct_async.testing import FakeServer, World

from .watch import new_pages


@pytest.mark.asyncio
async def test_new_visits_come_once_also_after_an_outage(
    distinct_env: FakeServer, distinct_world: World, tmp_path: Path
) -> None:
    async with (
        DistinctClient(retry=RetryPolicy(attempts=1)) as client,
        aclosing(new_pages(client, "tp-1", tmp_path / "saved", pause=0)) as pages,
    ):
        seen = [visit.user_id for visit in [*await anext(pages), *await anext(pages)]]
        assert [scan.user_id for scan in distinct_world.scans("tp-1")] == seen

        distinct_world.grow(3, "tp-1")
        distinct_env.fail(status=503, times=1)
        assert 3 == len(await anext(pages))


@pytest.mark.asyncio
@pytest.mark.usefixtures("distinct_env")
async def test_what_was_not_finished_comes_again_after_a_restart(tmp_path: Path) -> None:
    first = []
    async with DistinctClient() as client:
        for _ in range(2):
            async with aclosing(new_pages(client, "tp-1", tmp_path / "saved")) as pages:
                first.append(await anext(pages))

    assert first[0].items == first[1].items


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
@pytest.mark.usefixtures("distinct_env")
def test_sigterm_ends_it_well(distinct_world: World, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "examples.watch", "tp-1", str(tmp_path / "saved")]
    with subprocess.Popen(words, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in distinct_world.scans("tp-1")]
        process.send_signal(signal.SIGTERM)

    assert 0 == process.returncode
    assert len(distinct_world.scans("tp-1")) == len({*lines})
