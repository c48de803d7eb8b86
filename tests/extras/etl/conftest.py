"""What the tests of jobs share: a client that does not wait between attempts, and a look for what is left behind."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from distinct_async import DistinctClient, RetryPolicy

AT_ONCE = RetryPolicy(attempts=8, base=0, cap=0)


@pytest.fixture
def client_options() -> dict[str, Any]:
    """The client retries at once."""
    return {"retry": AT_ONCE}


@pytest.fixture(autouse=True)
async def _nothing_is_left(client: DistinctClient) -> AsyncIterator[None]:  # noqa: ARG001  # closed later
    """No job leaves a task or a thread behind; the client is still open when this is looked at."""
    yield
    await asyncio.sleep(0)
    tasks = [str(task.get_coro()) for task in asyncio.all_tasks()]
    assert [] == [task for task in tasks if any(word in task for word in ("Job.", "Run.", "Stream.", "write_all"))]
    assert [] == [thread.name for thread in threading.enumerate() if thread.name.startswith("distinct-async")]
