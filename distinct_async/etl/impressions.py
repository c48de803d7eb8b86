"""Impressions into DuckDB: by their ids, or by the vendor's list."""

import time
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing, closing
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from distinct_async.client import DistinctClient
from distinct_async.errors import InvalidRequestError, StorageError
from distinct_async.etl.extras import extra
from distinct_async.etl.running import in_thread, opened, patient
from distinct_async.sansio.messages import identifier

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from distinct_async.etl.warehouse import Warehouse

_BATCH = 1000  # ids, or at least so many of a list, in one transaction

Ids = Iterable[str] | AsyncIterable[str] | PathLike[str]


@frozen(kw_only=True)
class ImpressionsResult:
    """What was done.

    :ivar rows: impressions written. :ivar missing: ids that have none; they are in the table `missing`.
    :ivar elapsed: seconds. :ivar database: where they are.
    """

    rows: int
    missing: int
    elapsed: float
    database: Path


async def sync_impressions(
    client: DistinctClient,
    database: str | PathLike[str],
    *,
    ids: Ids | None = None,
    program_id: str | None = None,
    poster_id: str | None = None,
    page_size: int | None = None,
) -> ImpressionsResult:
    """Bring impressions into the table `impressions` of a DuckDB database, each once (extra ``duckdb``).

    With `ids`: each is asked for, unless it is there already; those that do not exist go to the table `missing`, and
    are asked for again the next time. Without: the vendor's list, of one program or poster or all; what is there is
    brought up to date. Rows are stored as they come, so after an error or a crash the next run has less to do.

    :param database: the file; made where it is not there.
    :param ids: ids, or the path of a file with one in each line; not with `program_id` or `poster_id`.
    :param program_id: only this program's. :param poster_id: only this poster's.
    :param page_size: impressions per request of the list, 1 or more; the server's default is 50.
    :raises InvalidRequestError: for arguments that cannot be meant; at once, an id that cannot be one: in its place.
    :raises ConfigurationError: where the extra is missing.
    :raises StorageError: where the database, or the file of ids, cannot be opened, read or written.
    :raises DistinctError: for whatever else can go wrong; see `distinct_async.errors`. What was stored stands.

    Source: https://docs.vantio.app/api-reference/impressions/get-impression
    """
    if isinstance(ids, str | bytes) or (ids is not None and (program_id is not None or poster_id is not None)):
        raise InvalidRequestError("ids is an iterable or a Path, and stands without program_id and poster_id")
    with extra("duckdb"):
        from distinct_async.etl.warehouse import Warehouse
    client, path, began, missing = patient(client), Path(fspath(database)), time.monotonic(), 0
    walk = client.impressions.list(program_id=program_id, poster_id=poster_id, page_size=page_size)
    async with opened(lambda: closing(Warehouse(path))) as (thread, warehouse):
        if ids is None:
            async with walk.run() as run:
                async for page in run.pages():
                    await in_thread(thread, warehouse.put, page.items)
        else:
            given = await in_thread(thread, _lines, Path(fspath(ids))) if isinstance(ids, PathLike) else ids
            async with aclosing(_batches(_each(given))) as batches:
                async for batch in batches:
                    missing += await _enrich(client, thread, warehouse, batch)
    rows, elapsed = warehouse.rows, time.monotonic() - began
    return ImpressionsResult(rows=rows, missing=missing, elapsed=elapsed, database=path)


async def _enrich(client: DistinctClient, thread: "Executor", warehouse: "Warehouse", ids: list[str]) -> int:
    unknown = await in_thread(thread, warehouse.unknown, ids)
    async with aclosing(client.impressions.get_many(unknown, missing="none")) as impressions:
        answers = [impression async for impression in impressions]
    missing = [asked for asked, impression in zip(unknown, answers, strict=True) if impression is None]
    await in_thread(thread, warehouse.put, [each for each in answers if each is not None], missing)
    return len(missing)


async def _batches(ids: AsyncGenerator[str, None]) -> AsyncGenerator[list[str], None]:
    batch: list[str] = []
    async with aclosing(ids):
        async for each in ids:
            batch.append(identifier(each, "impression_id"))
            if len(batch) == _BATCH:
                yield batch
                batch = []
    if batch:
        yield batch


async def _each(ids: Iterable[str] | AsyncIterable[str]) -> AsyncGenerator[str, None]:
    if isinstance(ids, AsyncIterable):
        async for each in ids:
            yield each
    else:
        for each in ids:
            yield each


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        told = f"{path}: {error}"
    else:
        return [line.strip() for line in text.splitlines() if line.strip()]
    raise StorageError(told)
