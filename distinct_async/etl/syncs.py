"""Into DuckDB, again and again: each time only what is new."""

import warnings
from collections.abc import Callable, Iterable
from functools import partial
from os import PathLike
from pathlib import Path

from attrs import frozen

from distinct_async.client import DistinctClient
from distinct_async.errors import DriftWarning
from distinct_async.etl.extras import requires_extra
from distinct_async.etl.jobs import REBUILD, Job
from distinct_async.etl.options import JobOptions, OnJobDrift
from distinct_async.etl.results import Progress, Result
from distinct_async.etl.runner import run_job
from distinct_async.models import VisitsType


@frozen(kw_only=True)
class SyncResult(Result):
    """What a sync did.

    Attributes:
        database: The absolute path of the database.
    """

    database: Path


async def sync(
    client: DistinctClient,
    experience_id: str | Iterable[str],
    database: str | PathLike[str],
    *,
    visits_type: VisitsType | None = None,
    touchpoint_ids: Iterable[str] | None = None,
    on_drift: OnJobDrift = "raise",
    page_size: int | None = 500,
    prefetch: int = 4,
    batch_rows: int = 50_000,
    timezone: str | None = None,
    on_progress: Callable[[Progress], object] | None = None,
) -> SyncResult:
    """Bring a DuckDB database up to date with an experience's visits, each row exactly once (extra ``duckdb``).

    The database has the tables `touchpoints`, `visits`, `unique_visits`, `checkpoints` and `runs`, and the view
    `reconciliation` of declared and stored rows. Rows and the checkpoint behind them are stored in one transaction, so
    after a crash the next sync continues there. It requests only what is new; for touchpoints whose totals have not
    changed, nothing.

    Args:
        client: A client with a Distinct key.
        experience_id: The experience's id, as in your Distinct account; or several ids, read at once.
        database: The file; created if it is missing, once the experience was found.
        visits_type: ``"TOTAL"`` (every scan) or ``"UNIQUE"`` (each user's first); None for both.
        touchpoint_ids: Only these touchpoints, of one experience; None for all.
        on_drift: What to do if stored rows no longer match the server's: ``"raise"`` a `DriftError`, or
            ``"rebuild"`` the list: it is replaced in one transaction by what the server lists now.
        page_size: Visits per request, 1 or more; None for the server's default, 50. A server may cap it silently.
        prefetch: Pages requested ahead in each list, 1 or more.
        batch_rows: Rows in a transaction, about; 1 or more.
        timezone: The time zone of the views, for example ``"Europe/Berlin"``, which the database keeps; None for the
            one that it has, UTC at first.
        on_progress: Called with a `Progress` after each page.

    Returns:
        What was done.

    Raises:
        InvalidRequestError: An option is invalid; nothing was opened or sent.
        ConfigurationError: The extra is missing.
        StorageError: The database cannot be opened (for example because another process has it open) or written, or
            has tables of these names with other columns.
        DistinctError: A list failed; raised after the others are finished (a refused key ends all at once), with what
            was done in its `result`. What was stored stays.
    """
    options = JobOptions(
        ids_or_plan=experience_id,
        visits_type=visits_type,
        touchpoint_ids=touchpoint_ids,
        on_drift=on_drift,
        page_size=page_size,
        prefetch=prefetch,
        on_progress=on_progress,
        batch_rows=batch_rows,
    )
    with requires_extra("duckdb"):
        from distinct_async.etl.destinations.database import database_path
        from distinct_async.etl.destinations.duckdb import DuckDBDestination
        from distinct_async.etl.views import check_timezone
    timezone_name = await check_timezone(timezone)
    path = database_path(database)
    destination, make_result = partial(DuckDBDestination, path, timezone_name), partial(SyncResult, database=path)
    return await run_job(client, options, destination, make_result, _warn_of_unsorted_lists)


def _warn_of_unsorted_lists(job: Job) -> None:
    """Warn of lists that this sync has stored and that no later one can continue."""
    for each in job.plan.works if job.options.on_drift == "raise" else ():
        if (report := job.reports.get(each)) is not None and report.ascends is False:
            unsorted = "the list is not sorted oldest-first; once it grows, a sync cannot continue it"
            warnings.warn(f"{each}: {unsorted}; {REBUILD}", DriftWarning, stacklevel=4)
