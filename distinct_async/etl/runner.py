"""The one runner of all jobs with a destination: plan, read, write in a thread, finish, report."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, aclosing, asynccontextmanager, closing, suppress
from typing import Protocol, TypeVar

from attrs import evolve

from distinct_async.client import DistinctClient
from distinct_async.errors import DistinctError, StorageError, annotate
from distinct_async.etl.destinations import Chunk, Destination
from distinct_async.etl.jobs import Job
from distinct_async.etl.options import JobOptions
from distinct_async.etl.results import Result
from distinct_async.sansio.retry import RetryPolicy

T = TypeVar("T")

JOB_RETRY = RetryPolicy(attempts=8, cap=30.0)  # a nightly job has time


class _Closeable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=_Closeable)
R = TypeVar("R", bound=Result)


def with_job_retries(client: DistinctClient) -> DistinctClient:
    """Return a view of the client that tries longer, unless its owner has set a retry policy."""
    return client.with_options(retry=JOB_RETRY) if client.retry == RetryPolicy() else client


async def run_job(
    client: DistinctClient,
    options: JobOptions,
    open_destination: Callable[[], Destination],
    make_result: Callable[..., R],
    warn: Callable[[Job], object] | None = None,
) -> R:
    """Read what is new into a destination.

    Args:
        client: The client to read with.
        options: What to read, and how.
        open_destination: Opens the destination; called in the thread that all its methods are called from.
        make_result: Makes the job's result of the fields of `Result`.
        warn: Warns of what the job has seen, if necessary; called in any case.

    Returns:
        The result.

    Raises:
        DistinctError: The error that stopped the job, or that of the first list that failed; with its `result`.
    """
    client = with_job_retries(client)
    error: DistinctError | None = None
    async with open_in_thread(open_destination) as (thread, destination):
        todo = await options.make_plan(client)
        job = Job(client, todo, options, await call_in_thread(thread, destination.begin, todo))
        try:
            await _write_all(job, thread, destination)
        except DistinctError as stopped:
            error = stopped
        figures = job.figures()
        figures["complete"] &= error is None
        result = make_result(rows=destination.rows, **figures)
        if not isinstance(error, StorageError):
            try:
                await call_in_thread(thread, lambda: destination.finish(result, stopped=error is not None))
            except StorageError as refused:
                error = refused
    if warn is not None:
        warn(job)
    raise_failure(job, error, result)
    return result


async def _write_all(job: Job, thread: Executor, destination: Destination) -> None:
    """Read all and write all; on the way out, also when cancelled, what has come is written."""
    intact = True

    def write(chunks: Sequence[Chunk]) -> None:
        nonlocal intact
        if intact:  # if a write has failed, what came later would follow a gap
            intact = False
            destination.write(chunks)
            intact = True

    try:
        async with aclosing(job.chunks()) as batches:
            async for chunks in batches:
                await call_in_thread(thread, write, chunks)
    except asyncio.CancelledError:
        with suppress(StorageError):  # which must not hide the cancellation
            await call_in_thread(thread, write, job.take())
        raise
    except BaseException:
        await call_in_thread(thread, write, job.take())
        raise


def raise_failure(job: Job, error: DistinctError | None, result: Result) -> None:
    """Raise the error that a job ends with, its result attached: the one that stopped it, or the first failure."""
    error = error or (job.failures[0].error if job.failures else None)
    if error is not None:
        raise annotate(error, result=evolve(result, complete=False))


async def call_in_thread(thread: Executor, function: Callable[..., T], *args: object) -> T:
    """Return ``function(*args)``, called in a thread; if cancelled meanwhile, wait for it: it cannot be stopped."""
    future = asyncio.get_running_loop().run_in_executor(thread, function, *args)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        future.exception()  # retrieved, so that asyncio does not warn
        raise cancelled
    return future.result()


@asynccontextmanager
async def open_in_thread(make: Callable[[], C]) -> AsyncGenerator[tuple[Executor, C], None]:
    """Yield a thread and what is opened and closed in it; closed also if cancelled while it is being opened."""
    with ThreadPoolExecutor(1, "distinct-async-etl") as thread, ExitStack() as stack:
        try:
            yield thread, await call_in_thread(thread, lambda: stack.enter_context(closing(make())))
        finally:
            await call_in_thread(thread, stack.close)
