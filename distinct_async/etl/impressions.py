"""Impressions into DuckDB: by their ids, or by the vendor's list."""

import time
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from distinct_async.client import DistinctClient
from distinct_async.endpoints.impressions import iterate
from distinct_async.errors import ConfigurationError, InvalidRequestError
from distinct_async.etl.extras import requires_extra
from distinct_async.etl.runner import call_in_thread, open_in_thread, with_job_retries
from distinct_async.files import read_lines
from distinct_async.sansio.messages import identifier

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from distinct_async.etl.destinations.impressions import ImpressionTable

_BATCH_IDS = 1000  # ids, or at least so many of a list, in one transaction

Ids = Iterable[str] | AsyncIterable[str] | PathLike[str]


@frozen(kw_only=True)
class ImpressionsResult:
    """What was done.

    Attributes:
        rows: Impressions written.
        missing: Ids that have no impression; they are in the table `missing`.
        elapsed: Seconds.
        database: The absolute path of the database.
        complete: Whether the vendor's list was read to its end without drift, or all ids were looked up.
    """

    rows: int
    missing: int
    elapsed: float
    database: Path
    complete: bool = True


async def sync_impressions(
    client: DistinctClient,
    database: str | PathLike[str],
    *,
    ids: Ids | None = None,
    program_id: str | None = None,
    poster_id: str | None = None,
    page_size: int | None = None,
    timezone: str | None = None,
) -> ImpressionsResult:
    """Bring impressions into the table `impressions` of a DuckDB database, each once (extra ``duckdb``).

    With `ids`: each is looked up, unless it is stored already; those that do not exist go to the table `missing`, and
    are looked up again the next time. Without: the vendor's list, of one program or poster or all; what is stored is
    brought up to date. Rows are stored as they come, so after an error or a crash the next run has less to do. The view
    `impressions_by_device` counts them; with the extra ``report`` it also knows what their user agents say.

    Args:
        client: A client with a Vantio key.
        database: The file; created if it is missing.
        ids: Ids, or the path of a file with one in each line; not with `program_id` or `poster_id`.
        program_id: Only this program's.
        poster_id: Only this poster's.
        page_size: Impressions per request of the list, 1 or more; the server's default is 50.
        timezone: The time zone of the views, for example ``"Europe/Berlin"``, which the database keeps; None for the
            one that it has, UTC at first.

    Returns:
        What was done.

    Raises:
        InvalidRequestError: An argument is invalid (at once), or one of the ids (in its place).
        ConfigurationError: The extra is missing.
        StorageError: The database, or the file of ids, cannot be opened, read or written.
        DistinctError: Any other failure; see `distinct_async.errors`. What was stored stays.

    Source: https://docs.vantio.app/api-reference/impressions/get-impression
    """
    if isinstance(ids, str | bytes):
        raise InvalidRequestError("ids must be a list of ids or the Path of a file, not one string")
    if ids is not None and (program_id is not None or poster_id is not None):
        raise InvalidRequestError("pass either ids (an iterable or a Path) or program_id/poster_id, not both")
    with requires_extra("duckdb"):
        from distinct_async.etl.destinations.database import database_path
        from distinct_async.etl.destinations.impressions import ImpressionTable
        from distinct_async.etl.views import check_timezone
    timezone_name = await check_timezone(timezone)
    path, started_at, missing, complete = database_path(database), time.monotonic(), 0, True
    client = with_job_retries(client)
    walk = client.impressions.list(program_id=program_id, poster_id=poster_id, page_size=page_size)
    async with open_in_thread(partial(ImpressionTable, path, timezone_name)) as (executor, table):
        if ids is None:
            async with walk.run() as run:
                async for page in run.pages():
                    await call_in_thread(executor, table.put, page.items)
            complete = run.report.complete
        else:
            id_source: Iterable[str] | AsyncIterable[str]
            if isinstance(ids, PathLike):
                ids_file = Path(fspath(ids))
                id_source = await call_in_thread(executor, read_lines, ids_file, ids_file)
            else:
                id_source = ids
            async with aclosing(_batch_ids(iterate(id_source))) as batches:
                async for batch in batches:
                    missing += await _look_up_batch(client, executor, table, batch)
        await call_in_thread(executor, table.parse_user_agents)
    elapsed = time.monotonic() - started_at
    return ImpressionsResult(rows=table.rows, missing=missing, elapsed=elapsed, database=path, complete=complete)


async def _look_up_batch(client: DistinctClient, executor: "Executor", table: "ImpressionTable", ids: list[str]) -> int:
    new_ids = await call_in_thread(executor, table.select_new, ids)
    async with aclosing(client.impressions.get_many(new_ids, missing="none")) as impressions:
        results = [impression async for impression in impressions]
    missing = [each for each, impression in zip(new_ids, results, strict=True) if impression is None]
    await call_in_thread(executor, table.put, [each for each in results if each is not None], missing)
    return len(missing)


async def _batch_ids(ids: AsyncGenerator[str, None]) -> AsyncGenerator[list[str], None]:
    batch: list[str] = []
    async with aclosing(ids):
        async for each in ids:
            batch.append(identifier(each, "impression_id"))
            if len(batch) == _BATCH_IDS:
                yield batch
                batch = []
    if batch:
        yield batch


def has_vantio_key(client: DistinctClient) -> bool:
    """Return whether a client can read impressions."""
    try:
        client.require("vantio")
    except ConfigurationError:
        return False
    return True
