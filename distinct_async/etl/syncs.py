"""Into DuckDB, again and again: each time only what is new."""

import warnings
from collections.abc import Callable
from contextlib import closing
from os import PathLike, fspath
from pathlib import Path

from attrs import frozen

from distinct_async.client import DistinctClient
from distinct_async.errors import DistinctError, DriftWarning, StorageError
from distinct_async.etl.extras import extra
from distinct_async.etl.jobs import CANNOT_KEEP, REBUILD, Job, OnHistory
from distinct_async.etl.plans import plan
from distinct_async.etl.results import Progress, Result
from distinct_async.etl.running import check, ending, in_thread, opened, patient, write_all
from distinct_async.models import VisitsType


@frozen(kw_only=True)
class SyncResult(Result):
    """What a sync did.

    :ivar database: where the rows are.
    """

    database: Path


async def sync(
    client: DistinctClient,
    experience_id: str,
    database: str | PathLike[str],
    *,
    visits_type: VisitsType | None = None,
    on_drift: OnHistory = "raise",
    page_size: int | None = None,
    prefetch: int = 4,
    on_progress: Callable[[Progress], object] | None = None,
) -> SyncResult:
    """Bring a DuckDB database up to date with an experience's visits, each row exactly once (extra ``duckdb``).

    The database has the tables `touchpoints`, `visits`, `unique_visits`, `checkpoints` and `runs`, and the view
    `reconciliation` of declared and counted rows. Rows and the checkpoint behind them are stored in one transaction, so
    whatever is killed, the next sync goes on there. It asks only for what is new; of touchpoints whose totals
    have not changed it asks nothing.

    :param database: the file; made where it is not there.
    :param visits_type: ``"TOTAL"`` or ``"UNIQUE"``; None for both.
    :param on_drift: where the history of a list has changed, ``"raise"`` `DriftError`, or ``"rebuild"`` the list: what
        is in the database is replaced in one transaction by what the server lists now.
    :param page_size: visits per request, 1 or more; the server's default is 50.
    :param prefetch: pages asked ahead in each list, 1 or more.
    :param on_progress: called with a `Progress` after each page.
    :raises InvalidRequestError: for options that cannot be meant; nothing was opened or sent.
    :raises ConfigurationError: where the extra is missing.
    :raises StorageError: where the database cannot be opened (another process has it open, say) or written.
    :raises DistinctError: where a list failed, once the others are finished; a refused key ends all at once. The
        error's `result` says what was done; what was stored stands.
    """
    check(experience_id, visits_type, on_drift, page_size, prefetch)
    with extra("duckdb"):
        from distinct_async.etl.warehouse import Warehouse
    client, path = patient(client), Path(fspath(database))
    stopped: DistinctError | None = None
    async with opened(lambda: closing(Warehouse(path))) as (thread, warehouse):
        todo = await plan(client, experience_id, visits_type=visits_type)
        job = Job(
            client=client,
            plan=todo,
            standing=await in_thread(thread, warehouse.begin, todo),
            page_size=page_size,
            prefetch=prefetch,
            on_drift=on_drift,
            on_progress=on_progress,
        )
        try:
            await write_all(job, thread, warehouse.write)
        except DistinctError as error:
            stopped = error
        figures = job.figures()
        figures["complete"] &= stopped is None
        result = SyncResult(database=path, rows=warehouse.rows, **figures)
        if not isinstance(stopped, StorageError):
            try:
                await in_thread(thread, warehouse.finish, result)
            except StorageError as error:
                stopped = error
    for work in todo.works if on_drift == "raise" else ():
        if (report := job.reports.get(work.key)) is not None and report.ascends is False:
            told = f"{work}: {CANNOT_KEEP} once it grows, it does not ascend in time: {REBUILD}"
            warnings.warn(told, DriftWarning, stacklevel=2)
    ending(job, stopped, result)
    return result
