"""The example and the how-to's service, run as a reader would: under uvicorn, on the fake vendors."""

import asyncio
import importlib
import itertools
import json
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from distinct_async.testing import FakeServer, World

from .uvicorn_server import running

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```python (\w+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

SECONDS, CONNECTIONS = 5, 64
ALLOWED = 16  # the client's max_concurrency, per vendor


@pytest.fixture
def world() -> World:
    return World.sample(touchpoints=3, scans=6_000, users=500, seed=7)


@pytest.fixture
async def vantio(world: World) -> AsyncIterator[FakeServer]:
    async with FakeServer(world) as server:
        yield server


@pytest.fixture
def environment(fake: FakeServer, vantio: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTINCT_API_KEY", fake.api_key)
    monkeypatch.setenv("DISTINCT_BASE_URL", fake.url)
    monkeypatch.setenv("VANTIO_API_KEY", vantio.vantio_api_key)
    monkeypatch.setenv("VANTIO_BASE_URL", vantio.url)


@pytest.fixture
def how_to(tmp_path: Path) -> Path:
    """An empty folder with the how-to's service and its test."""
    text = (ROOT / "docs" / "how-to" / "fastapi.md").read_text(encoding="utf-8")
    files = dict(FENCE.findall(text))
    assert {"service.py", "test_service.py"} <= {*files}
    for name, code in files.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    return tmp_path


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


async def get(http: aiohttp.ClientSession, url: str) -> str:
    async with http.get(url) as response:
        text = await response.text()
        assert 200 == response.status, text
        return text


@pytest.mark.usefixtures("environment")
async def test_the_example_serves_64_connections_for_five_seconds_within_the_clients_limits(
    world: World,
    fake: FakeServer,
    vantio: FakeServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asyncio.get_running_loop().set_debug(False)  # it is the speed of a service that is looked at
    monkeypatch.syspath_prepend(ROOT)
    app = importlib.import_module("examples.fastapi_app.service").app
    fake.latency = vantio.latency = 0.02  # so that the callers do queue
    rows = len(world.unique_scans("tp-3"))
    served = {"touchpoints": 0, "visits": 0, "impressions": 0}
    impressions = itertools.cycle(world.impressions)
    ends = asyncio.get_running_loop().time() + SECONDS

    async def call(http: aiohttp.ClientSession, url: str, number: int) -> None:
        for kind in itertools.islice(itertools.cycle(served), number, None):
            if asyncio.get_running_loop().time() > ends and min(served.values()) >= CONNECTIONS:
                return
            match kind:
                case "touchpoints":
                    assert 3 == len(json.loads(await get(http, f"{url}/experiences/exp-1/touchpoints")))
                case "visits":
                    assert rows == (await get(http, f"{url}/touchpoints/tp-3/visits?of=newcomers")).count("\n")
                case "impressions":
                    wanted = next(impressions)
                    assert wanted == json.loads(await get(http, f"{url}/impressions/{wanted}"))["id"]
            served[kind] += 1

    async with running(app) as url:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        async with aiohttp.ClientSession(connector=connector) as http, asyncio.TaskGroup() as callers:
            for number in range(CONNECTIONS):
                callers.create_task(call(http, url, number))

    assert min(served.values()) >= CONNECTIONS
    assert [] == [record for record in caplog.records if record.levelno >= logging.ERROR]
    # All that were ever opened: so there was one client, its connections were kept, and both limits were reached
    assert (ALLOWED, ALLOWED) == (fake.connections, vantio.connections)
    assert (ALLOWED, ALLOWED) == (fake.max_in_flight, vantio.max_in_flight)


async def wait_for(url: str, process: subprocess.Popen[bytes]) -> str:
    async with aiohttp.ClientSession() as http:
        while True:
            assert process.poll() is None, "the service did not start"
            try:
                return await get(http, url)
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)


def started(*words: str, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, *words], cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


async def test_one_command_starts_the_example_with_no_key() -> None:
    port = free_port()
    for process in started("-m", "examples.fastapi_app", str(port), cwd=ROOT):
        response = await wait_for(f"http://127.0.0.1:{port}/experiences/exp-1/touchpoints", process)

        assert ["tp-1", "tp-2", "tp-3"] == [each["id"] for each in json.loads(response)]


@pytest.mark.usefixtures("environment")
async def test_the_how_tos_snippet_in_an_empty_file_is_a_working_service(how_to: Path, world: World) -> None:
    port = free_port()
    for process in started("-m", "uvicorn", "service:app", "--port", str(port), cwd=how_to):
        url = f"http://127.0.0.1:{port}"
        shown: dict[str, Any] = json.loads(await wait_for(f"{url}/experiences/exp-1", process))
        async with aiohttp.ClientSession() as http:
            lines = (await get(http, f"{url}/touchpoints/tp-1/visits")).splitlines()

        assert [len(world.scans(each)) for each in world.touchpoints] == [
            each["totalVisits"] for each in shown["touchpoints"]
        ]
        assert [scan.user_id for scan in world.scans("tp-1")] == [json.loads(line)["userId"] for line in lines]


@pytest.mark.timeout(120)  # a pytest of its own, on a machine that may be busy
def test_the_how_tos_test_snippet_passes(how_to: Path) -> None:
    words = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_service.py"]
    words += ["-o", "asyncio_default_fixture_loop_scope=function"]  # some releases of pytest-asyncio warn without it
    done = subprocess.run(words, cwd=how_to, env=os.environ | {"PYTEST_ADDOPTS": ""}, capture_output=True, check=False)

    assert 0 == done.returncode, done.stdout.decode()
    assert b"3 passed" in done.stdout
