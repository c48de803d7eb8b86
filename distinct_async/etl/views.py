"""What an experience's visits say: one view of DuckDB for each question, for BI tools and for the report.

All are computed from `local_visits` and `first_visits`, which have the time zone: a report puts its own in their place.
docs/reference/views.md describes every column.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Final
from zlib import crc32

import duckdb

from distinct_async.errors import InvalidRequestError

_CREATE_TIMEZONE_MACRO = "CREATE MACRO IF NOT EXISTS visits_timezone() AS 'UTC'"

# The columns of the common table expressions have names of their own: `declared` is a column of `checkpoints` too.
RECONCILIATION: Final = """
WITH stored AS (
    SELECT experience_id, touchpoint_id, 'TOTAL' AS visits_type, count(*) AS stored_rows FROM visits GROUP BY ALL
    UNION ALL
    SELECT experience_id, touchpoint_id, 'UNIQUE', count(*) FROM unique_visits GROUP BY ALL
), counts AS (
    SELECT
        lists.experience_id, lists.touchpoint_id, lists.visits_type,
        CASE lists.visits_type WHEN 'TOTAL' THEN total_visits ELSE unique_visits END AS declared_rows,
        coalesce(stored_rows, 0) AS counted_rows,
        lists.complete AS read_to_end
    FROM checkpoints AS lists
    JOIN touchpoints ON touchpoints.experience_id = lists.experience_id
        AND touchpoints.touchpoint_id = lists.touchpoint_id
    LEFT JOIN stored ON stored.experience_id = lists.experience_id
        AND stored.touchpoint_id = lists.touchpoint_id AND stored.visits_type = lists.visits_type
)
SELECT
    experience_id, touchpoint_id, visits_type, declared_rows AS declared, counted_rows AS counted,
    declared_rows - counted_rows AS missing,
    (read_to_end OR declared_rows = 0) AND counted_rows >= declared_rows AS complete
FROM counts
ORDER BY ALL
"""

LOCAL_VISITS: Final = """
SELECT
    experience_id, touchpoint_id, user_id, timestamp_utc,
    timestamp_utc AT TIME ZONE visits_timezone() AS local_time, visits_timezone() AS timezone
FROM visits
"""

FIRST_VISITS: Final = """
SELECT experience_id, user_id, min(timestamp_utc) AT TIME ZONE visits_timezone() AS first_time
FROM visits
GROUP BY experience_id, user_id
"""

_BY_HOUR = """
SELECT
    experience_id, isodow(local_time) AS weekday, hour(local_time) AS hour,
    count(*) AS visits, count(DISTINCT user_id) AS visitors, any_value(timezone) AS timezone
FROM local_visits
GROUP BY ALL
ORDER BY ALL
"""

# Days without a visit are rows too: without them the mean would be of other days.
_BY_DAY = """
WITH daily AS (
    SELECT
        experience_id, local_time::DATE AS day, count(*) AS visits, count(DISTINCT user_id) AS visitors,
        any_value(timezone) AS timezone
    FROM local_visits
    GROUP BY ALL
), newcomers AS (
    SELECT experience_id, first_time::DATE AS day, count(*) AS new_visitors FROM first_visits GROUP BY ALL
), calendar AS (
    SELECT
        experience_id, unnest(generate_series(min(day), max(day), INTERVAL 1 DAY))::DATE AS day,
        any_value(timezone) AS timezone
    FROM daily
    GROUP BY experience_id
)
SELECT
    experience_id, day,
    coalesce(daily.visits, 0) AS visits,
    coalesce(daily.visitors, 0) AS visitors,
    coalesce(newcomers.new_visitors, 0) AS new_visitors,
    coalesce(daily.visitors, 0) - coalesce(newcomers.new_visitors, 0) AS returning_visitors,
    CASE WHEN count(*) OVER week = 7 THEN avg(coalesce(daily.visits, 0)) OVER week END AS mean_of_7_days,
    calendar.timezone AS timezone
FROM calendar LEFT JOIN daily USING (experience_id, day) LEFT JOIN newcomers USING (experience_id, day)
WINDOW week AS (PARTITION BY experience_id ORDER BY day ROWS 6 PRECEDING)
ORDER BY experience_id, day
"""

_PER_VISITOR = """
WITH each AS (
    SELECT experience_id, user_id, count(*) AS visits FROM local_visits GROUP BY ALL
)
SELECT experience_id, visits, count(*) AS visitors FROM each GROUP BY ALL ORDER BY ALL
"""

_COHORTS = """
WITH active AS (
    SELECT experience_id, user_id, date_trunc('week', local_time)::DATE AS week, any_value(timezone) AS timezone
    FROM local_visits
    GROUP BY ALL
), weeks AS (
    SELECT
        experience_id, date_trunc('week', first_time)::DATE AS first_week,
        date_diff('day', first_week, week) // 7 AS weeks_later,
        count(*) AS visitors, any_value(timezone) AS timezone
    FROM active JOIN first_visits USING (experience_id, user_id)
    GROUP BY ALL
), sizes AS (
    SELECT experience_id, date_trunc('week', first_time)::DATE AS first_week, count(*) AS newcomers
    FROM first_visits
    GROUP BY ALL
)
SELECT
    experience_id, first_week, weeks_later, newcomers, visitors, visitors / newcomers AS retention, timezone
FROM weeks JOIN sizes USING (experience_id, first_week)
ORDER BY experience_id, first_week, weeks_later
"""

# A visitor passes a step after all steps before it, in their order. In UTC, in which no hour is repeated or left out.
# Users and touchpoints are numbered first: windows over numbers cost a third of those over texts.
_FUNNEL = """
WITH users AS MATERIALIZED (
    SELECT experience_id, user_id, row_number() OVER () AS visitor
    FROM (SELECT DISTINCT experience_id, user_id FROM local_visits)
), places AS MATERIALIZED (
    SELECT experience_id, touchpoint_id, row_number() OVER (ORDER BY experience_id, touchpoint_id) AS place
    FROM (SELECT DISTINCT experience_id, touchpoint_id FROM local_visits)
), reached AS MATERIALIZED (
    SELECT visitor, place, min(timestamp_utc) AS reached_at
    FROM local_visits JOIN users USING (experience_id, user_id) JOIN places USING (experience_id, touchpoint_id)
    GROUP BY ALL
), ranked AS (
    SELECT place, row_number() OVER (PARTITION BY visitor ORDER BY reached_at, place) AS turn FROM reached
), counted AS (
    SELECT place, count(*) AS visitors, avg(turn) AS mean_turn FROM ranked GROUP BY place
), steps AS (
    SELECT
        experience_id, touchpoint_id, place, visitors,
        row_number() OVER (PARTITION BY experience_id ORDER BY mean_turn, visitors DESC, place) AS step
    FROM counted JOIN places USING (place)
), begun AS (
    SELECT visitor, place, step, reached_at, lag(reached_at) OVER path AS before
    FROM reached JOIN steps USING (place)
    WHERE visitor IN (SELECT visitor FROM reached JOIN steps USING (place) WHERE step = 1)
    WINDOW path AS (PARTITION BY visitor ORDER BY step)
    QUALIFY row_number() OVER path = step
), passed AS (
    SELECT *, bool_and(coalesce(reached_at >= before, true)) OVER (PARTITION BY visitor ORDER BY step) AS passes
    FROM begun
), timed AS (
    SELECT place, count(*) AS passed, median(date_diff('second', before, reached_at)) AS median_seconds
    FROM passed
    WHERE passes
    GROUP BY place
)
SELECT
    experience_id, step, touchpoint_id, name AS touchpoint_name, visitors,
    coalesce(timed.passed, 0) AS passed, median_seconds
FROM steps
LEFT JOIN timed USING (place)
LEFT JOIN touchpoints USING (experience_id, touchpoint_id)
ORDER BY experience_id, step
"""

_TOP = """
WITH counted AS (
    SELECT experience_id, touchpoint_id, count(*) AS visits, count(DISTINCT user_id) AS visitors
    FROM local_visits
    GROUP BY ALL
)
SELECT
    experience_id, touchpoint_id, name AS touchpoint_name, visits, visitors,
    visits / sum(visits) OVER (PARTITION BY experience_id) AS share, visitors / visits AS unique_ratio,
    visits / visitors AS visits_per_visitor
FROM counted LEFT JOIN touchpoints USING (experience_id, touchpoint_id)
ORDER BY experience_id, visits DESC, touchpoint_id
"""

_LOCAL_VIEWS = {"local_visits": LOCAL_VISITS, "first_visits": FIRST_VISITS}
FIGURE_VIEWS: Final = {
    "visits_by_hour": _BY_HOUR,
    "visits_by_day": _BY_DAY,
    "visits_per_visitor": _PER_VISITOR,
    "weekly_cohorts": _COHORTS,
    "touchpoint_funnel": _FUNNEL,
    "top_touchpoints": _TOP,
}

# The vendor's word comes first, then what the user agent says: see `devices`.
LOCAL_IMPRESSIONS: Final = """
SELECT
    program_id, poster_id, scanned_at AT TIME ZONE visits_timezone() AS local_time, visits_timezone() AS timezone,
    coalesce(nullif(lower(trim(metadata ->> 'device_type')), ''), device, 'unknown') AS device,
    coalesce(browser, 'unknown') AS browser, coalesce(source, 'person') AS source
FROM impressions LEFT JOIN parsed_user_agents USING (user_agent)
"""

IMPRESSIONS_BY_DEVICE: Final = """
SELECT program_id, poster_id, source, device, browser, count(*) AS impressions
FROM local_impressions
GROUP BY ALL
ORDER BY ALL
"""

CREATE_USER_AGENTS: Final = """
CREATE TABLE IF NOT EXISTS parsed_user_agents (
    user_agent VARCHAR PRIMARY KEY, device VARCHAR NOT NULL, browser VARCHAR NOT NULL, source VARCHAR NOT NULL
);
"""

VISITS_VIEWS: Final = {"reconciliation": RECONCILIATION, **_LOCAL_VIEWS, **FIGURE_VIEWS}
IMPRESSIONS_VIEWS: Final = {"local_impressions": LOCAL_IMPRESSIONS, "impressions_by_device": IMPRESSIONS_BY_DEVICE}

_COMMENT_PREFIX = "Created by distinct-async"
# What has one of the names: its comment, with a checksum of the query, if this module created it.
_SELECT_COMMENTS = """
SELECT table_name, NULL FROM duckdb_tables()
WHERE database_name = current_database() AND schema_name = current_schema() AND NOT temporary
UNION ALL
SELECT view_name, coalesce(comment, if(view_name = 'reconciliation', '', NULL)) FROM duckdb_views()
WHERE database_name = current_database() AND schema_name = current_schema() AND NOT temporary AND NOT internal
"""


def create_views(views: Mapping[str, str], connection: duckdb.DuckDBPyConnection, timezone: str | None = None) -> None:
    """Create the views that are missing or of another version; a user's own table or view of such a name stays.

    Args:
        views: `VISITS_VIEWS` or `IMPRESSIONS_VIEWS`.
        connection: To a database that has their tables.
        timezone: The time zone of their local times, as of `check_timezone`; None to leave it, UTC at first.
    """
    connection.execute(_CREATE_TIMEZONE_MACRO)
    if timezone is not None and connection.execute("SELECT visits_timezone()").fetchone() != (timezone,):
        connection.execute(f"CREATE OR REPLACE MACRO visits_timezone() AS '{timezone}'")
    comments: dict[str, str | None] = dict(connection.execute(_SELECT_COMMENTS).fetchall())
    own_names = {name for name, comment in comments.items() if comment and comment.startswith(_COMMENT_PREFIX)}
    user_names = comments.keys() - own_names - {name for name, comment in comments.items() if comment == ""}
    for name, query in _views_without(views, user_names).items():
        comment = f"{_COMMENT_PREFIX} ({crc32(query.encode()):08x})"
        if comments.get(name) != comment:
            connection.execute(f"CREATE OR REPLACE VIEW {name} AS {query}; COMMENT ON VIEW {name} IS '{comment}'")


def _views_without(views: Mapping[str, str], taken_names: set[str]) -> dict[str, str]:
    """Return those of the views that neither have one of the names nor read what has."""
    free_views: dict[str, str] = {}
    taken_names = taken_names & views.keys()
    for name, query in views.items():
        if taken_names.isdisjoint([name, *re.findall(r"\w+", query)]):
            free_views[name] = query
        else:
            taken_names.add(name)
    return free_views


async def check_timezone(name: str | None) -> str | None:
    """Return the name of a time zone as the IANA database has it; it is looked up in a thread.

    Args:
        name: For example ``"Europe/Berlin"``; None is returned as it is.

    Raises:
        InvalidRequestError: There is no such time zone.
    """
    if name is None:
        return None
    zone = (await asyncio.to_thread(_read_timezones)).get(str(name).casefold())
    if zone is None:
        raise InvalidRequestError(f"timezone {name!r} is unknown; use a name like 'Europe/Berlin' or 'UTC'")
    return zone


def _read_timezones() -> Mapping[str, str]:
    with duckdb.connect() as connection:
        zones: Sequence[tuple[str]] = connection.execute("SELECT name FROM pg_timezone_names()").fetchall()
    return {zone.casefold(): zone for (zone,) in zones}
