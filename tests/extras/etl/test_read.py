"""`etl.read`: batches for code without an event loop."""

import asyncio
import json
import os
import pickle
import subprocess
import sys
import threading
from functools import partial
from typing import Any

import pytest

from distinct_async import DistinctClient, RetryPolicy, errors, etl
from distinct_async.testing import FakeServer, World

from .rows import rows_in, rows_of, table_of


@pytest.fixture
def factory(fake: FakeServer) -> partial[DistinctClient]:
    return partial(DistinctClient, fake.api_key, base_url=fake.url, retry=RetryPolicy(attempts=2, base=0, cap=0))


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("distinct-async")]


async def test_every_row_is_read(factory: partial[DistinctClient], world: World) -> None:
    def read() -> Any:
        return table_of(list(etl.read("exp-1", client=factory, page_size=20, batch_rows=50)))

    assert rows_of(world) == rows_in(await asyncio.to_thread(read))
    assert [] == threads()


async def test_a_pickled_part_is_read(client: DistinctClient, factory: partial[DistinctClient], world: World) -> None:
    parts = (await etl.plan(client, "exp-1", visits_type="TOTAL")).split(2)

    def read() -> Any:
        received = pickle.loads(pickle.dumps(parts))  # the test's own
        return table_of([batch for part in received for batch in etl.read(part, client=factory)])

    assert rows_of(world) == rows_in(await asyncio.to_thread(read))


@pytest.mark.parametrize("way", ["close", "drop", "raise"])
async def test_left_early_it_requests_nothing_more_and_its_thread_is_joined(
    factory: partial[DistinctClient], fake: FakeServer, way: str
) -> None:
    def leave() -> None:
        batches = etl.read("exp-1", client=factory, page_size=5, batch_rows=5)
        next(batches)
        assert ["distinct-async-read"] == threads()
        if way == "close":
            batches.close()  # type: ignore[attr-defined]
        elif way == "raise":
            with pytest.raises(LookupError):
                batches.throw(LookupError())  # type: ignore[attr-defined]
        del batches
        assert [] == threads()

    await asyncio.to_thread(leave)
    await asyncio.sleep(0.2)  # the server reads what was in flight
    requests = len(fake.requests)
    await asyncio.sleep(0.05)
    assert requests == len(fake.requests) < 20


async def test_the_state_is_never_ahead_of_the_batch_in_hand(factory: partial[DistinctClient], world: World) -> None:
    def read() -> None:
        state: dict[str, str] = {}
        rows = 0
        for batch in etl.read("exp-1", client=factory, page_size=10, batch_rows=10, state=state):
            rows += len(batch)
            assert rows == sum(json_position(text) for text in state.values())
        assert len(rows_of(world)) == rows

    await asyncio.to_thread(read)


def json_position(text: str) -> int:
    return int(json.loads(text)["checkpoint"]["position"])


async def test_an_error_of_a_list_is_raised_with_its_result(factory: partial[DistinctClient], fake: FakeServer) -> None:
    fake.fail(query={"touchpointId": "tp-2"}, status=403)
    with pytest.raises(errors.PermissionDeniedError) as caught:
        await asyncio.to_thread(lambda: list(etl.read("exp-1", client=factory)))
    assert caught.value.result is not None
    assert [] == threads()


async def test_a_client_that_cannot_be_made_is_an_error_and_no_thread_stays() -> None:
    def fail() -> DistinctClient:
        raise LookupError("no key")

    with pytest.raises(LookupError, match="no key"):
        await asyncio.to_thread(lambda: list(etl.read("exp-1", client=fail)))
    assert [] == threads()


def test_a_client_in_place_of_what_makes_one_is_refused(client: DistinctClient) -> None:
    given: Any = client
    with pytest.raises(errors.InvalidRequestError, match="client must be a function that makes a client"):
        etl.read("exp-1", client=given)
    nothing: Any = lambda: None  # noqa: E731  # of the wrong type
    with pytest.raises(errors.InvalidRequestError, match="must make a DistinctClient, but returned NoneType"):
        list(etl.read("exp-1", client=nothing))
    assert [] == threads()


FORK = """
import os, sys
from distinct_async import etl
from distinct_async.errors import ClientStateError
batches = etl.read("exp-1", batch_rows=10)
rows = len(next(batches))
if (child := os.fork()) == 0:
    try:
        next(batches)
    except ClientStateError as error:
        sys.exit(7 if "begin to read after the fork" in str(error) else 1)
assert 7 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(rows + sum(map(len, batches)))
"""


@pytest.mark.timeout(120)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_neither_reads_on_nor_hangs(world: World) -> None:
    with FakeServer.run_in_thread(world) as fake:
        variables = os.environ | {"DISTINCT_API_KEY": fake.api_key, "DISTINCT_BASE_URL": fake.url}
        command = [sys.executable, "-W", "ignore", "-c", FORK]  # of a fork with threads Python 3.12 warns
        done = subprocess.run(command, env=variables, timeout=100, capture_output=True, text=True, check=False)
    assert ("", f"{len(rows_of(world))}\n") == (done.stderr, done.stdout)


def test_an_invalid_option_is_refused_at_once() -> None:
    with pytest.raises(errors.InvalidRequestError):
        etl.read("", client=DistinctClient)
    assert [] == threads()


def test_an_iterator_that_a_traceback_keeps_alive_does_not_keep_the_process_from_ending(world: World) -> None:
    program = "from distinct_async import etl\nread = etl.read('exp-1', batch_rows=50)\nfor batch in read:\n    1 / 0"
    with FakeServer.run_in_thread(world) as fake:
        variables = os.environ | {"DISTINCT_API_KEY": fake.api_key, "DISTINCT_BASE_URL": fake.url}
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=variables, timeout=25, capture_output=True, text=True, check=False)
    assert (1, True) == (done.returncode, "ZeroDivisionError" in done.stderr)
