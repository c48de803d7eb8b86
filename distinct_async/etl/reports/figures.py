"""The figures of a report, read from a database; every method blocks, and all are called from one thread."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
from attrs import evolve, frozen

from distinct_async.errors import StorageError
from distinct_async.etl.devices import parse_user_agents
from distinct_async.etl.views import (
    CREATE_USER_AGENTS,
    FIGURE_VIEWS,
    FIRST_VISITS,
    IMPRESSIONS_BY_DEVICE,
    LOCAL_IMPRESSIONS,
    LOCAL_VISITS,
    RECONCILIATION,
)
from distinct_async.files import storage_errors

_VIEW_COLUMNS: Final[Mapping[str, str]] = {
    "visits_by_hour": "weekday, hour, visits, visitors",
    "visits_by_day": "day, visits, visitors, new_visitors, returning_visitors, mean_of_7_days",
    "visits_per_visitor": "visits, visitors",
    "weekly_cohorts": "first_week, weeks_later, newcomers, visitors",
    "touchpoint_funnel": "touchpoint_id, touchpoint_name, passed, median_seconds",
    "top_touchpoints": "touchpoint_id, touchpoint_name, visits, visitors",
}
_SELECT_COMPLETENESS: Final = f"""
SELECT count(*), coalesce(sum(declared), 0)::BIGINT, coalesce(sum(counted), 0)::BIGINT,
    coalesce(sum(greatest(missing, 0)), 0)::BIGINT, coalesce(bool_and(complete), true)
FROM ({RECONCILIATION}) WHERE experience_id = ? AND visits_type = 'TOTAL'
"""


@frozen(kw_only=True)
class Selection:
    """What a report shows.

    Attributes:
        experience_id: The experience.
        timezone: The time zone of all times; None for the database's.
        since: The first day; None for the first that there is.
        until: The last day; None for the last that there is.
        program_id: Only impressions of this program; None for all.
    """

    experience_id: str
    timezone: str | None = None
    since: date | None = None
    until: date | None = None
    program_id: str | None = None

    def time_condition(self) -> tuple[str, list[object]]:
        """Return the condition on local times, with its values."""
        return "coalesce(local_time >= ?, true) AND coalesce(local_time < ?::DATE + 1, true)", [self.since, self.until]


class ImpressionCount(NamedTuple):
    """A row of the view `impressions_by_device`."""

    program_id: str
    poster_id: str
    source: str
    device: str
    browser: str
    impressions: int


@frozen(kw_only=True)
class Figures:
    """What a report says.

    Attributes:
        selection: What it is about; with a time zone.
        made_at: When it was made; local.
        first: The local time of the first visit; None without visits.
        last: The local time of the last visit.
        visits: Scans.
        visitors: Different users.
        touchpoints: Touchpoints of the experience.
        declared: Visits that the vendor declares, of all days.
        stored: Visits in the database, of all days.
        missing: Declared visits that are not stored.
        complete: Whether none is missing and all lists were read to their ends.
        tables: The rows of each view, by its name.
        impressions: The counts of impressions; None if the database has none.
    """

    selection: Selection
    made_at: datetime
    first: datetime | None
    last: datetime | None
    visits: int
    visitors: int
    touchpoints: int
    declared: int
    stored: int
    missing: int
    complete: bool
    tables: Mapping[str, Sequence[tuple[Any, ...]]]
    impressions: Sequence[ImpressionCount] | None


class Warehouse:
    """A database of `etl.sync`, to read from.

    Args:
        path: Of the file; absolute.

    Raises:
        StorageError: The file is missing, or is not such a database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.exists():
            raise StorageError(f"{path} does not exist")
        with storage_errors(path, duckdb.Error):
            self._connection = duckdb.connect(str(path), read_only=True)

    def read(self, selection: Selection) -> Figures:
        """Return the figures of a selection.

        Raises:
            StorageError: The database has other tables than this version reads.
        """
        try:
            return self._read(selection)
        except (duckdb.BinderException, duckdb.CatalogException) as error:
            reason = str(error).partition("\n")[0]
        except duckdb.Error as error:
            raise StorageError(f"{self._path}: {error}") from None
        raise StorageError(
            f"{self._path} is not a database of this version of distinct-async ({reason}); sync into another file"
        )

    def _set_timezone(self, timezone: str | None) -> str:
        """Set the time zone of the views, in this session; return it."""
        execute = self._connection.execute
        if timezone is None:
            select_macro = "SELECT 1 FROM duckdb_functions() WHERE function_name = 'visits_timezone'"
            has_macro = execute(select_macro).fetchone()
            timezone = str(execute("SELECT visits_timezone()").fetchall()[0][0]) if has_macro else "UTC"
        timezone_literal = timezone.replace("'", "''")
        execute(f"CREATE OR REPLACE TEMP MACRO visits_timezone() AS '{timezone_literal}'")
        return timezone

    def _read(self, selection: Selection) -> Figures:
        execute = self._connection.execute
        timezone = self._set_timezone(selection.timezone)
        condition, bounds = selection.time_condition()
        experience_ids = [selection.experience_id]
        # Tables for this session hide the views of these names
        execute(
            f"CREATE TEMP TABLE local_visits AS FROM ({LOCAL_VISITS}) WHERE experience_id = ? AND {condition}",
            [*experience_ids, *bounds],
        )
        execute(f"CREATE TEMP TABLE first_visits AS FROM ({FIRST_VISITS}) WHERE experience_id = ?", experience_ids)
        tables = {
            name: execute(f"SELECT {columns} FROM ({FIGURE_VIEWS[name]})").fetchall()
            for name, columns in _VIEW_COLUMNS.items()
        }
        totals = "SELECT count(*), count(DISTINCT user_id), min(local_time), max(local_time) FROM local_visits"
        ((visits, visitors, first, last),) = execute(totals).fetchall()
        ((touchpoints, declared, stored, missing, complete),) = execute(_SELECT_COMPLETENESS, experience_ids).fetchall()
        ((made_at,),) = execute("SELECT now() AT TIME ZONE visits_timezone()").fetchall()
        return Figures(
            selection=evolve(selection, timezone=timezone),
            made_at=made_at,
            first=first,
            last=last,
            visits=visits,
            visitors=visitors,
            touchpoints=touchpoints,
            declared=declared,
            stored=stored,
            missing=missing,
            complete=complete,
            tables=tables,
            impressions=self._read_impressions(selection),
        )

    def _read_impressions(self, selection: Selection) -> Sequence[ImpressionCount] | None:
        execute, (condition, bounds) = self._connection.execute, selection.time_condition()
        tables = {name for (name,) in execute("SELECT table_name FROM duckdb_tables()").fetchall()}
        if "impressions" not in tables:
            return None
        execute(CREATE_USER_AGENTS.replace("TABLE", "TEMP TABLE"))
        if "parsed_user_agents" in tables:
            ((name,),) = execute("SELECT current_database()").fetchall()
            database = name.replace('"', '""')
            execute(f'INSERT INTO temp.parsed_user_agents FROM "{database}".parsed_user_agents')
        parse_user_agents(self._connection)
        execute(
            f"CREATE TEMP TABLE local_impressions AS FROM ({LOCAL_IMPRESSIONS}) "
            f"WHERE coalesce(program_id = ?, true) AND {condition}",
            [selection.program_id, *bounds],
        )
        return [ImpressionCount(*row) for row in execute(IMPRESSIONS_BY_DEVICE).fetchall()]

    def close(self) -> None:
        """Close the database."""
        self._connection.close()
