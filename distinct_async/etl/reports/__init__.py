"""A report of an experience: one HTML file with charts that say what they show."""

from collections.abc import Callable
from contextlib import ExitStack
from datetime import date
from functools import partial
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import frozen

from distinct_async.client import DistinctClient
from distinct_async.errors import InvalidRequestError
from distinct_async.etl.extras import requires_extra
from distinct_async.etl.impressions import has_vantio_key, sync_impressions
from distinct_async.etl.options import OnJobDrift
from distinct_async.etl.results import Progress
from distinct_async.etl.runner import call_in_thread, open_in_thread
from distinct_async.etl.syncs import sync
from distinct_async.files import atomic_replace, resolve_path, same_file, storage_errors
from distinct_async.sansio.messages import identifier


@frozen(kw_only=True)
class ReportResult:
    """What a report shows.

    Attributes:
        file: The absolute path of the HTML file.
        timezone: The time zone of its times.
        visits: Scans that it is about.
        visitors: Different users among them.
        missing: Visits that the vendor declares and that the database does not have, of all days.
        complete: Whether none is missing and all lists were read to their ends.
    """

    file: Path
    timezone: str
    visits: int
    visitors: int
    missing: int
    complete: bool


async def report(
    client: DistinctClient | None,
    experience_id: str,
    file: str | PathLike[str],
    *,
    warehouse: str | PathLike[str] | None = None,
    offline: bool = False,
    timezone: str | None = None,
    since: date | None = None,
    until: date | None = None,
    impressions: bool = True,
    program_id: str | None = None,
    interactive: bool = False,
    on_drift: OnJobDrift = "raise",
    on_progress: Callable[[Progress], object] | None = None,
) -> ReportResult:
    """Write a report of an experience: one HTML file, which loads nothing from anywhere (extra ``report``).

    It shows scans by hour and day, new and returning people, cohorts, touchpoints, devices (of impressions), and how
    complete the data are. People are counted, never listed; groups of fewer than 5 are not shown by themselves.

    Args:
        client: A client with a Distinct key; None with `offline`.
        experience_id: The experience's id, as in your Distinct account.
        file: The HTML file; replaced in one step if it exists.
        warehouse: A database of `etl.sync`, which is brought up to date first; None for a temporary one, which needs
            all visits to be read.
        offline: Read only what is in the warehouse; nothing is requested, and the database is not changed.
        timezone: The time zone of all times, for example ``"Europe/Berlin"``; None for that of the warehouse, UTC
            unless you have changed it.
        since: The first day to show, in that zone; None for the first that there is.
        until: The last day to show; None for the last that there is.
        impressions: Whether impressions are read too, if the client has a Vantio key: all of them each time.
        program_id: Only the impressions of this program; None for all.
        interactive: Put a script into the file (900 kB) that draws the charts again, with details under the mouse.
        on_drift: As for `etl.sync`.
        on_progress: Called with a `Progress` after each page.

    Returns:
        What it shows.

    Raises:
        InvalidRequestError: An argument is invalid; nothing was opened or sent.
        ConfigurationError: The extra, or the client's key, is missing.
        StorageError: The file cannot be written, or the warehouse cannot be read or has tables of another version.
        DistinctError: Any other failure of the requests; nothing was written, and what was stored stays.
    """
    experience_id = identifier(experience_id, "experience_id")
    for name, value in (("since", since), ("until", until)):
        if value is not None and type(value) is not date:  # a datetime is a date too
            raise InvalidRequestError(f"{name} must be a datetime.date, got {type(value).__name__}")
    if since is not None and until is not None and until < since:
        raise InvalidRequestError(f"since {since} is after until {until}")
    if offline and warehouse is None:
        raise InvalidRequestError("offline reads a warehouse; name its file")
    if client is None and not offline:
        raise InvalidRequestError("without a client only offline=True with a warehouse is possible")
    with requires_extra("report"):
        from distinct_async.etl.destinations.database import database_path
        from distinct_async.etl.reports.figures import Selection, Warehouse
        from distinct_async.etl.reports.page import render
        from distinct_async.etl.reports.sections import make_sections
        from distinct_async.etl.views import check_timezone
    selection = Selection(
        experience_id=experience_id,
        timezone=await check_timezone(timezone),
        since=since,
        until=until,
        program_id=None if program_id is None else identifier(program_id, "program_id"),
    )
    path = resolve_path(file, "file")
    with ExitStack() as stack:
        if warehouse is None:
            database = Path(stack.enter_context(TemporaryDirectory(prefix="distinct-async-"))) / "report.duckdb"
        else:
            database = database_path(warehouse)
            if same_file(database, path):
                raise InvalidRequestError("file and warehouse are the same file")
        if client is not None and not offline:
            await sync(client, experience_id, database, visits_type="TOTAL", on_drift=on_drift, on_progress=on_progress)
            if impressions and has_vantio_key(client):
                await sync_impressions(client, database, program_id=program_id, page_size=100)
        async with open_in_thread(partial(Warehouse, database)) as (executor, opened_warehouse):
            figures = await call_in_thread(executor, opened_warehouse.read, selection)
            html = await call_in_thread(
                executor, lambda: render(figures, make_sections(figures), interactive=interactive)
            )
        with storage_errors(path), atomic_replace(path) as output:
            output.write(html)
    return ReportResult(
        file=path,
        timezone=str(figures.selection.timezone),
        visits=figures.visits,
        visitors=figures.visitors,
        missing=figures.missing,
        complete=figures.complete,
    )
