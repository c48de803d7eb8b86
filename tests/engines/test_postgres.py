"""The recipe for Postgres, as the how-to has it: rows and state in one transaction."""

import os
import subprocess
import sys

import pytest

from distinct_async.testing import FakeServer, World
from tests.documents import BLOCK, ROOT
from tests.extras.etl.rows import rows_of

from .conftest import rows_in_postgres
from .kills import posix_only, run_with_kills

pytestmark = pytest.mark.timeout(240)

(SCRIPT,) = (
    fence[1]
    for fence in BLOCK.finditer((ROOT / "docs/how-to/warehouses.md").read_text(encoding="utf-8"))
    if "POSTGRES_URL" in fence[1]
)


@pytest.fixture
def world() -> World:
    return World.sample(touchpoints=3, scans=1_500, users=90, seed=7)


@pytest.fixture
def url(fake: FakeServer, postgres: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DISTINCT_API_KEY", fake.api_key)
    monkeypatch.setenv("DISTINCT_BASE_URL", fake.url)
    monkeypatch.setenv("POSTGRES_URL", postgres)
    return postgres


@posix_only
async def test_the_recipe_has_every_row_once_also_if_it_is_killed(url: str, fake: FakeServer, world: World) -> None:
    def check() -> None:
        assert sorted(rows_of(world)) == sorted(rows_in_postgres(url, "visits"))
        world.grow(100)

    fake.latency = 0.02
    await run_with_kills(
        SCRIPT.replace("state=state", "state=state, page_size=20, prefetch=1"), fake, check, requests=75
    )


def test_two_runs_of_the_recipe_at_once_have_every_row_once(url: str, fake: FakeServer, world: World) -> None:
    fake.latency = 0.2
    runs = [subprocess.Popen([sys.executable, "-c", SCRIPT], env=os.environ) for _ in range(2)]
    assert [0, 0] == [run.wait() for run in runs]
    assert sorted(rows_of(world)) == sorted(rows_in_postgres(url, "visits"))
