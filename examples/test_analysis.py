"""Tests of the analysis: its figures are those of the world, and it draws a picture."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from distinct_async import DistinctClient
from distinct_async.testing import World

from .analysis import by_hour, visits_of

pytestmark = pytest.mark.usefixtures("distinct_env")


@pytest.mark.asyncio
async def test_the_hours_are_those_of_the_world(distinct_world: World) -> None:
    async with DistinctClient() as client:
        hours = by_hour(await visits_of(client, "exp-1"))

    every = [scan for each in distinct_world.touchpoints for scan in distinct_world.scans(each)]
    first = [scan for each in distinct_world.touchpoints for scan in distinct_world.unique_scans(each)]
    assert list(range(24)) == hours["hour"].to_list()
    for column, scans in (("visits", every), ("newcomers", first)):
        counts = Counter(scan.at.hour for scan in scans)
        assert [counts[hour] for hour in range(24)] == hours[column].to_list()


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "visits.png"
    words = [sys.executable, "-m", "examples.analysis", "exp-1", str(picture)]

    done = subprocess.run(words, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stderr
    assert b"\x89PNG" == picture.read_bytes()[:4]
