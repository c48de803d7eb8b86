"""The views of a database, compared with plain counts over the world's own scans, in several time zones."""

import random
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest

from distinct_async import DistinctClient, etl
from distinct_async.etl.views import FIGURE_VIEWS, VISITS_VIEWS, check_timezone, create_views
from distinct_async.testing import FakeServer, World
from tests.extras.etl.rows import asked

# Each pair of nights has a change of the clocks in Berlin, and Kolkata is half an hour beside the full hours.
ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata")
Visit = tuple[datetime, str, str]


def two_seasons() -> World:
    """Scans around both changes of Berlin's clocks, of people who come back after hours, days and weeks."""
    world, number = World(), 0
    for name in ("tp-1", "tp-2", "tp-3"):
        world.add_touchpoint(name, f"Place {name}")
    for start in (datetime(2026, 3, 27, 20), datetime(2026, 10, 23, 20)):  # noqa: DTZ001  # the world's times are UTC
        for step in range(400):
            at = start + timedelta(minutes=17 * step)
            number += 1
            world.add_scan(f"tp-{1 + number * number % 7 % 3}", f"user-{number * number % 53}", at)
    return world


def local(world: World, zone: str) -> list[Visit]:
    return [
        (scan.at.astimezone(ZoneInfo(zone)).replace(tzinfo=None), one, scan.user_id)
        for one in world.touchpoints
        for scan in world.scans(one)
    ]


def first_times(visits: Sequence[Visit]) -> dict[str, datetime]:
    return {user: at for at, _, user in sorted(visits, reverse=True)}


def cohorts(visits: Sequence[Visit]) -> list[tuple[date, int, int, int]]:
    """First week, weeks later, newcomers, visitors."""

    def week(at: datetime) -> date:
        return (at - timedelta(at.weekday())).date()

    first = {user: week(at) for user, at in first_times(visits).items()}
    active = {(first[user], (week(at) - first[user]).days // 7, user) for at, _, user in visits}
    sizes, counts = Counter(first.values()), Counter((start, later) for start, later, _ in active)
    return [(*key, sizes[key[0]], counts[key]) for key in sorted(counts)]


def funnel(visits: Sequence[Visit]) -> list[tuple[str, int, int, float | None]]:
    """Touchpoint, visitors, passed, median seconds; of visits in UTC."""
    reached: dict[str, dict[str, datetime]] = defaultdict(dict)
    for at, touchpoint, user in sorted(visits, reverse=True):
        reached[user][touchpoint] = at
    turns: dict[str, list[int]] = defaultdict(list)
    for times in reached.values():
        for turn, (_, touchpoint) in enumerate(sorted((at, one) for one, at in times.items()), 1):
            turns[touchpoint].append(turn)
    order = sorted(turns, key=lambda one: (sum(turns[one]) / len(turns[one]), -len(turns[one]), one))
    steps: list[tuple[str, int, int, float | None]] = []
    passing = list(reached.values())
    for before, touchpoint in zip([None, *order], order, strict=False):
        waits = []
        passing = [
            each for each in passing if touchpoint in each and (before is None or each[before] <= each[touchpoint])
        ]
        if before is not None:
            waits = [(each[touchpoint] - each[before]).total_seconds() for each in passing]
        steps.append((touchpoint, len(turns[touchpoint]), len(passing), median(waits) if waits else None))
    return steps


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


@pytest.fixture(params=ZONES)
async def warehouse(
    request: pytest.FixtureRequest, client: DistinctClient, fake: FakeServer, database: Path
) -> tuple[Path, list[Visit], str]:
    """A database with a time zone, and its visits in local time."""
    fake.world, zone = two_seasons(), request.param
    await etl.sync(client, "exp-1", database)
    await etl.sync(client, "exp-1", database, timezone=zone.lower())
    await etl.sync(client, "exp-1", database)  # which leaves it
    return database, local(fake.world, zone), zone


def test_hours_and_weekdays_are_local(warehouse: tuple[Path, list[Visit], str]) -> None:
    database, visits, zone = warehouse
    counts = Counter((at.isoweekday(), at.hour) for at, _, _ in visits)
    users = defaultdict(set)
    for at, _, user in visits:
        users[at.isoweekday(), at.hour].add(user)
    expected = [(*key, counts[key], len(users[key]), zone) for key in sorted(counts)]
    assert expected == asked(database, "SELECT weekday, hour, visits, visitors, timezone FROM visits_by_hour")


def test_days_have_new_and_returning_visitors_and_a_mean_of_7_days(warehouse: tuple[Path, list[Visit], str]) -> None:
    database, visits, zone = warehouse
    first, counts = first_times(visits), Counter(at.date() for at, _, _ in visits)
    start, end = min(counts), max(counts)
    expected: list[tuple[Any, ...]] = []
    for number in range((end - start).days + 1):
        day = start + timedelta(number)
        users = {user for at, _, user in visits if at.date() == day}
        new = sum(first[user].date() == day for user in users)
        mean = sum(counts[day - timedelta(back)] for back in range(7)) / 7 if number >= 6 else None
        expected.append((day, counts[day], len(users), new, len(users) - new, mean, zone))
    columns = "day, visits, visitors, new_visitors, returning_visitors, mean_of_7_days, timezone"
    assert expected == asked(database, f"SELECT {columns} FROM visits_by_day")  # noqa: S608  # our own names


def test_visitors_are_counted_by_their_visits(warehouse: tuple[Path, list[Visit], str]) -> None:
    database, visits, _ = warehouse
    expected = sorted(Counter(Counter(user for _, _, user in visits).values()).items())
    assert expected == asked(database, "SELECT visits, visitors FROM visits_per_visitor")


def test_cohorts_are_the_weeks_of_the_first_visits(warehouse: tuple[Path, list[Visit], str]) -> None:
    database, visits, _ = warehouse
    expected = [(*each, each[3] / each[2]) for each in cohorts(visits)]
    columns = "first_week, weeks_later, newcomers, visitors, retention"
    assert expected == asked(database, f"SELECT {columns} FROM weekly_cohorts")  # noqa: S608  # our own names


def test_the_funnel_follows_the_order_in_which_people_first_reach_touchpoints(
    warehouse: tuple[Path, list[Visit], str],
) -> None:
    database, _, _ = warehouse
    expected = [
        (step, one, f"Place {one}", *rest) for step, (one, *rest) in enumerate(funnel(local(two_seasons(), "UTC")), 1)
    ]
    columns = "step, touchpoint_id, touchpoint_name, visitors, passed, median_seconds"
    assert expected == asked(database, f"SELECT {columns} FROM touchpoint_funnel")  # noqa: S608  # our own names


def test_the_top_touchpoints_have_shares_and_ratios(warehouse: tuple[Path, list[Visit], str]) -> None:
    database, visits, _ = warehouse
    counts = Counter(touchpoint for _, touchpoint, _ in visits)
    users = {one: len({user for _, touchpoint, user in visits if touchpoint == one}) for one in counts}
    expected = [
        (one, f"Place {one}", count, users[one], count / len(visits), users[one] / count, count / users[one])
        for one, count in sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    ]
    columns = "touchpoint_id, touchpoint_name, visits, visitors, share, unique_ratio, visits_per_visitor"
    assert expected == asked(database, f"SELECT {columns} FROM top_touchpoints")  # noqa: S608  # our own names


@pytest.mark.parametrize("seed", range(5))
def test_experiences_with_the_same_users_and_touchpoints_are_apart_and_equal_times_have_an_order(seed: int) -> None:
    rng = random.Random(seed)
    visits: dict[str, list[Visit]] = {"exp-1": [], "exp-2": []}
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE touchpoints (experience_id TEXT, touchpoint_id TEXT, name TEXT)")
        columns = "experience_id TEXT, touchpoint_id TEXT, user_id TEXT, timestamp_utc TIMESTAMPTZ"
        connection.execute(f"CREATE TABLE visits ({columns})")
        create_views({name: query for name, query in VISITS_VIEWS.items() if name != "reconciliation"}, connection)
        for experience_id, rows in visits.items():
            for _ in range(150):
                at = datetime(2026, 3, 1) + timedelta(days=rng.randrange(30), minutes=rng.randrange(2))  # noqa: DTZ001
                rows.append((at, f"tp-{rng.randrange(4)}", f"user-{rng.randrange(12)}"))
                connection.execute("INSERT INTO visits VALUES (?, ?, ?, ?)", (experience_id, *rows[-1][1:], f"{at}+00"))
        steps = "SELECT touchpoint_id, visitors, passed, median_seconds FROM touchpoint_funnel"
        weeks = "SELECT first_week, weeks_later, newcomers, visitors FROM weekly_cohorts"
        days = "SELECT sum(new_visitors), sum(visitors) FROM visits_by_day"
        for experience_id, rows in visits.items():
            people = len({user for _, _, user in rows}), len({(user, at.date()) for at, _, user in rows})
            for expected, query in (
                (funnel(rows), steps),
                (cohorts(rows), weeks),
                ([people], days),
            ):
                assert expected == connection.execute(f"{query} WHERE experience_id = ?", [experience_id]).fetchall()


async def test_a_second_sync_leaves_views_as_they_are_and_replaces_those_of_another_version(
    client: DistinctClient, database: Path
) -> None:
    await etl.sync(client, "exp-1", database)
    comment = "SELECT comment FROM duckdb_views() WHERE view_name = 'visits_by_hour'"
    ((ours,),) = asked(database, comment)
    for said, found in ((ours, [(1,)]), ("Created by distinct-async (00000000)", [(300,)])):
        asked(
            database,
            f"CREATE OR REPLACE VIEW visits_by_hour AS SELECT 1 AS visits; COMMENT ON VIEW visits_by_hour IS '{said}'",
        )
        await etl.sync(client, "exp-1", database)
        assert found == asked(database, "SELECT sum(visits)::INTEGER FROM visits_by_hour")
    assert [(ours,)] == asked(database, comment)


async def test_a_table_or_view_of_the_users_with_such_a_name_stays_and_no_view_reads_it(
    client: DistinctClient, database: Path
) -> None:
    with duckdb.connect(str(database)) as own:
        own.execute("CREATE TABLE first_visits (x INTEGER); CREATE VIEW visits_by_hour AS SELECT 'mine' AS mine")
    assert (await etl.sync(client, "exp-1", database)).complete
    assert [("mine",)] == asked(database, "FROM visits_by_hour")
    assert [] == asked(database, "FROM first_visits")
    views = {name for (name,) in asked(database, "SELECT view_name FROM duckdb_views() WHERE NOT internal")}
    expected = FIGURE_VIEWS.keys() - {"visits_by_day", "weekly_cohorts"} | {"reconciliation", "local_visits"}
    assert expected == views
    assert (await etl.sync(client, "exp-1", database)).complete


async def test_the_views_can_be_read_from_another_database(client: DistinctClient, database: Path) -> None:
    await etl.sync(client, "exp-1", database)
    expected = {name: asked(database, f"FROM {name}") for name in FIGURE_VIEWS}
    with duckdb.connect() as other:
        other.execute(f"ATTACH '{database}' AS stored (READ_ONLY)")
        assert expected == {name: other.execute(f"FROM stored.{name}").fetchall() for name in FIGURE_VIEWS}


@pytest.mark.parametrize("change", ["2026-03-29T00:50:00Z", "2026-10-25T00:50:00Z"])
async def test_the_time_between_touchpoints_is_real_time_also_when_the_clocks_change(
    client: DistinctClient, fake: FakeServer, database: Path, change: str
) -> None:
    fake.world = world = World()
    world.add_scan("tp-1", "user-1", change)
    world.add_scan("tp-2", "user-1", datetime.fromisoformat(change) + timedelta(minutes=20))
    await etl.sync(client, "exp-1", database)
    asked(database, "CREATE OR REPLACE MACRO visits_timezone() AS 'Europe/Berlin'")
    expected = [("tp-1", 1, None), ("tp-2", 1, 1200)]
    assert expected == asked(database, "SELECT touchpoint_id, passed, median_seconds FROM touchpoint_funnel")


async def test_a_time_zone_is_looked_up_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def read() -> dict[str, str]:
        threads.append(threading.current_thread())
        return {"europe/berlin": "Europe/Berlin"}

    monkeypatch.setattr("distinct_async.etl.views._read_timezones", read)
    assert "Europe/Berlin" == await check_timezone("europe/BERLIN")
    assert 1 == len(threads)
    assert threading.current_thread() not in threads
