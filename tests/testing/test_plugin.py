"""The pytest fixtures: in this run, and in projects of users."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from distinct_async import DistinctClient
from distinct_async.testing import FakeServer, World
from tests.documents import ROOT, lay_out

OTHERS = """\
import os, sys, threading

def test_until_a_fixture_is_used_nothing_of_the_package_is_loaded() -> None:
    assert set() == {"distinct_async", "aiohttp", "attrs", "msgspec"} & {*sys.modules}

def test_the_variables_lead_to_the_server(distinct_env) -> None:
    assert distinct_env.url == os.environ["DISTINCT_BASE_URL"] == os.environ["VANTIO_BASE_URL"]
    assert distinct_env.api_key == os.environ["DISTINCT_API_KEY"]
    assert distinct_env.vantio_api_key == os.environ["VANTIO_API_KEY"]

def test_after_a_test_nothing_is_left_of_it() -> None:
    assert set() == {"DISTINCT_BASE_URL", "VANTIO_BASE_URL", "DISTINCT_API_KEY", "VANTIO_API_KEY"} & {*os.environ}
    assert [threading.main_thread()] == threading.enumerate()
"""


def pytest_in(folder: Path, *words: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Run the tests in a folder as a project of its own, where every warning is an error."""
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    command = [python, "-m", "pytest", "-W", "error", "-p", "no:randomly", "-p", "no:cacheprovider", *words]
    # Without a color, a width or an option of whoever runs us.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "FORCE_COLOR"))}
    return subprocess.run(command, cwd=folder, env=kept, capture_output=True, encoding="utf-8", check=False)


@pytest.fixture
def threads() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert before == threading.active_count(), "the server's thread is left"


@pytest.mark.usefixtures("threads")
async def test_a_client_without_arguments_finds_the_server_and_its_world(
    distinct_env: FakeServer, distinct_server: FakeServer, distinct_world: World
) -> None:
    async with DistinctClient() as client:
        metrics = await client.metrics.experience("exp-1")
        impression = await client.impressions.get("imp_000001")

    assert [len(distinct_world.scans(each)) for each in distinct_world.touchpoints] == [
        each.total_visits for each in metrics.touchpoints
    ]
    assert "imp_000001" == impression.id
    assert (distinct_server, distinct_world) == (distinct_env, distinct_env.world)
    assert [200, 200] == [request.status for request in distinct_server.requests]


def test_the_world_is_the_one_of_the_documents(distinct_world: World) -> None:
    assert (3, 1_000, 90) == (
        len(distinct_world.touchpoints),
        len(distinct_world.impressions),
        len(distinct_world.users),
    )


@pytest.mark.timeout(120)  # a pytest of its own, as the next
def test_a_project_without_any_asyncio_plugin_has_the_fixtures(tmp_path: Path) -> None:
    (tmp_path / "test_others.py").write_text(OTHERS, encoding="utf-8")

    done = pytest_in(tmp_path, "-p", "no:asyncio", "-p", "no:aiohttp")

    assert "3 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_the_how_to_s_tests_pass_in_either_mode_of_pytest_asyncio(mode: str, tmp_path: Path) -> None:
    lay_out(ROOT / "docs" / "how-to" / "testing.md", tmp_path)

    # What needs FastAPI is for tests/extras.
    words = [f"asyncio_mode={mode}", "-o", "asyncio_default_fixture_loop_scope=function", "--ignore=test_service.py"]
    done = pytest_in(tmp_path, "-p", "no:aiohttp", "-o", *words)

    assert "6 passed" in done.stdout, done.stdout + done.stderr
