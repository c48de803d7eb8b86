"""A stranger's project: the built wheel in an environment of its own, and tests written from the how-to alone."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.documents import ROOT, lay_out
from tests.testing.test_plugin import pytest_in

# Whoever wrote this knows docs/how-to/testing.md and nothing else.
STRANGER = """\
import asyncio
import sys
from pathlib import Path

import pytest
from distinct_async import DistinctClient, RetryPolicy
from distinct_async.errors import NotFoundError, PaginationError, ServerError
from distinct_async.testing import FakeServer, World


async def visitors(touchpoint_id: str) -> list[str]:
    async with DistinctClient(retry=RetryPolicy(attempts=2, base=0.01)) as client:
        return [visit.user_id async for visit in client.metrics.total_visits(touchpoint_id, page_size=100)]


def test_it_is_the_wheel_that_is_tested() -> None:
    import distinct_async
    assert Path(sys.prefix) in Path(distinct_async.__file__).parents


@pytest.mark.asyncio
async def test_every_visitor_is_seen(distinct_env: FakeServer, distinct_world: World) -> None:
    assert await visitors("tp-1") == [scan.user_id for scan in distinct_world.scans("tp-1")]
    assert all(request.query["pageSize"] == "100" for request in distinct_env.requests)


@pytest.mark.asyncio
async def test_one_bad_page_is_asked_again(distinct_env: FakeServer, distinct_world: World) -> None:
    distinct_env.fail(status=503, query={"offset": "200"}, times=1)
    assert len(await visitors("tp-1")) == len(distinct_world.scans("tp-1"))
    asked = [(request.query.get("offset"), request.status) for request in distinct_env.requests]
    assert [status for offset, status in asked if offset == "200"] == [503, 200]


@pytest.mark.asyncio
async def test_an_outage_is_given_up_after_two_attempts(distinct_env: FakeServer) -> None:
    distinct_env.fail(status=500)
    with pytest.raises(ServerError):
        await visitors("tp-1")
    assert [request.status for request in distinct_env.requests] == [500, 500]


@pytest.mark.asyncio
async def test_rows_that_go_away_are_noticed(distinct_env: FakeServer, distinct_world: World) -> None:
    async with DistinctClient() as client:
        with pytest.raises(PaginationError):
            async for page in client.metrics.total_visits("tp-1", page_size=50, prefetch=1).pages():
                if page.offset == 50:
                    distinct_world.shrink(100, "tp-1")


def test_a_test_without_a_loop_can_use_the_server(distinct_server: FakeServer) -> None:
    async def ask() -> None:
        async with DistinctClient(distinct_server.api_key, base_url=distinct_server.url) as client:
            await client.metrics.experience("nowhere")

    with pytest.raises(NotFoundError):
        asyncio.run(ask())
    assert [request.status for request in distinct_server.requests] == [404]


def test_the_next_test_starts_afresh(distinct_server: FakeServer) -> None:
    assert distinct_server.requests == []
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the built wheel, and finds all else in ours."""
    folder, pip = tmp_path_factory.mktemp("wheel"), [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv")
    python = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    subprocess.run([*pip, "--python", python, "install", "--no-deps", "--no-index", wheel], check=True)
    # After its own packages come ours; a path file within them, such as that of our source, is not followed from there.
    where = subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True)
    (Path(where.strip()) / "rest.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return python


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "words",
    [("no:aiohttp", "asyncio_mode=strict"), ("no:aiohttp", "asyncio_mode=auto"), ("aiohttp", "asyncio_mode=auto")],
    ids=["strict", "auto", "pytest-aiohttp"],
)
def test_a_stranger_s_tests_pass(words: tuple[str, str], python: Path, tmp_path: Path) -> None:
    lay_out(ROOT / "docs" / "how-to" / "testing.md", tmp_path)
    (tmp_path / "test_stranger.py").write_text(STRANGER, encoding="utf-8")

    plugin, mode = words
    settings = ["-o", mode, "-o", "asyncio_default_fixture_loop_scope=function"]
    done = pytest_in(tmp_path, "-p", plugin, *settings, python=str(python))

    assert "15 passed" in done.stdout, done.stdout + done.stderr
