"""Around a job: its options are checked, its client made patient, its rows written in a thread, its end told."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, aclosing, asynccontextmanager, suppress
from typing import TypeVar, get_args

from attrs import evolve

from distinct_async.client import DistinctClient
from distinct_async.errors import DistinctError, InvalidRequestError, StorageError
from distinct_async.etl.jobs import Chunk, Job, OnHistory
from distinct_async.etl.plans import kinds_of
from distinct_async.etl.results import Result
from distinct_async.sansio.messages import identifier, whole_number
from distinct_async.sansio.retry import RetryPolicy

T = TypeVar("T")

RETRY = RetryPolicy(attempts=8, cap=30.0)  # a nightly job has time


async def in_thread(thread: Executor, function: Callable[..., T], *args: object) -> T:
    """`function(*args)` in a thread. Where we are cancelled meanwhile it is waited for: it cannot be."""
    future = asyncio.get_running_loop().run_in_executor(thread, function, *args)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        future.exception()  # looked at
        raise cancelled
    return future.result()


@asynccontextmanager
async def opened(make: Callable[[], AbstractContextManager[T]]) -> AsyncGenerator[tuple[Executor, T], None]:
    """A thread, and what is opened and closed in it; closed even where we are cancelled while it is being opened."""
    with ThreadPoolExecutor(1, "distinct-async-etl") as thread, ExitStack() as stack:
        try:
            yield thread, await in_thread(thread, lambda: stack.enter_context(make()))
        finally:
            await in_thread(thread, stack.close)


async def write_all(job: Job, thread: Executor, write: Callable[[Sequence[Chunk]], None]) -> None:
    """Walk all and write all; on the way out, even cancelled, what has come is written."""
    intact = True

    def store(chunks: Sequence[Chunk]) -> None:
        nonlocal intact
        if intact:  # where a write has failed, what came later would stand behind a gap
            intact = False
            write(chunks)
            intact = True

    try:
        async with aclosing(job.chunks()) as batches:
            async for chunks in batches:
                await in_thread(thread, store, chunks)
    except asyncio.CancelledError:
        with suppress(StorageError):  # which must not hide the cancellation
            await in_thread(thread, store, job.take())
        raise
    except BaseException:
        await in_thread(thread, store, job.take())
        raise


def patient(client: DistinctClient) -> DistinctClient:
    """A view of the client that tries longer, unless its owner has said otherwise."""
    told = client._engine.limits.retry != RetryPolicy()
    return client if told else client.with_options(retry=RETRY)


def check(experience_id: str, visits_type: str | None, on_drift: str, page_size: int | None, prefetch: int) -> None:
    """:exc:`InvalidRequestError` for options that cannot be meant, before anything is opened or sent."""
    identifier(experience_id, "experience_id")
    kinds_of(visits_type)
    if on_drift not in get_args(OnHistory):
        raise InvalidRequestError(f"on_drift must be 'raise' or 'rebuild', got {on_drift!r}")
    whole_number(prefetch, "prefetch", 1)
    if page_size is not None:
        whole_number(page_size, "page_size", 1)


def ending(job: Job, stopped: DistinctError | None, result: Result) -> None:
    """Raise the error that a job ends in, with its result: the one that stopped it, or the first failure."""
    error = stopped or (job.failures[0].error if job.failures else None)
    if error is not None:
        error.result = evolve(result, complete=False)
        raise error
