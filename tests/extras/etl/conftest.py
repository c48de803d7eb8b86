"""What the tests of jobs share: a client that does not wait between attempts, and a look for what is left behind."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from distinct_async import DistinctClient, RetryPolicy
from tests.rig import connections_out, tasks_left

AT_ONCE = RetryPolicy(attempts=8, base=0, cap=0)


@pytest.fixture
def client_options() -> dict[str, Any]:
    """The client retries at once."""
    return {"retry": AT_ONCE}


@pytest.fixture(autouse=True)
async def _nothing_is_left(client: DistinctClient) -> AsyncIterator[None]:
    """No job leaves a task, a connection or a thread behind; the client is still open when this is looked at."""
    yield
    await asyncio.sleep(0)
    assert [] == tasks_left()
    assert 0 == connections_out(client)
    assert [] == [thread.name for thread in threading.enumerate() if thread.name.startswith("distinct-async")]
