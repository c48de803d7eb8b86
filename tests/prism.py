"""The client reads what a third party's mock makes of the OpenAPI document: ``nox -s openapi`` runs this with Prism."""

import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from distinct_async import DistinctClient, testing
from tests.reader import free_port, listens
from tests.test_samples import READ

DOCUMENT = Path(testing.__file__).with_name("openapi.json")
PRISM = "@stoplight/prism-cli@5.14.2"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    port = free_port()
    words = ["npx", "--yes", PRISM, "mock", "-p", str(port), str(DOCUMENT)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        while not listens(port):
            assert process.poll() is None
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
        os.killpg(process.pid, signal.SIGTERM)  # npx and Prism


@pytest.mark.timeout(180)  # npx downloads it first
@pytest.mark.parametrize(("name", "call", "expected"), [(name, *each) for name, each in READ.items()], ids=[*READ])
async def test_each_example_is_given_by_its_name(
    name: str, call: Callable[[DistinctClient], Awaitable[Any]], expected: object, url: str
) -> None:
    async with (
        aiohttp.ClientSession(headers={"Prefer": f"example={name}"}) as session,
        DistinctClient("key", vantio_api_key="key", base_url=url, vantio_base_url=url, session=session) as client,
    ):
        assert expected == await call(client)
