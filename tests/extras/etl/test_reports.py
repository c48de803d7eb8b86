"""A report: its numbers are the world's, it loads nothing, and it says what it lacks."""

import gzip
import hashlib
import os
import re
import shutil
from collections import Counter, defaultdict
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest

from distinct_async import DistinctClient, errors, etl
from distinct_async.testing import FakeServer, World
from tests.extras.etl.reading import Page
from tests.extras.etl.test_views import cohorts, funnel, local, two_seasons

ZONES = ("Europe/Berlin", "Asia/Kolkata")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "report.html"


def crowded() -> World:
    """The scans around two changes of the clocks, each by seven people, so that few groups are small."""
    world, source = World(), two_seasons()
    for one in source.touchpoints:
        world.add_touchpoint(one, source.touchpoint(one).name)
        for scan in source.scans(one):
            for number in range(7):
                world.add_scan(one, f"{scan.user_id}-{number}", scan.at)
    return world


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def number(text: str) -> int:
    return int(text.replace(",", ""))


def share(part: int, whole: int) -> str:
    return "100 %" if part == whole else f"{100 * part / whole:.1f} %"


def seconds(text: str) -> list[int]:
    """The seconds of "3 d 4 h", and of its smaller unit: what it is rounded to."""
    units = {"d": 86_400, "h": 3600, "min": 60, "s": 1}
    words = text.split()
    numbers = [int(count) * units[unit] for count, unit in zip(words[::2], words[1::2], strict=True)]
    return [sum(numbers), units[words[-1]]]


def impressions(world: World, zone: str) -> list[dict[str, Any]]:
    """The world's impressions, each with its local time and who it was, as plain words in its user agent say."""
    rows = []
    for one in world.impressions:
        row = world.impression(one)
        agent, at = str(row["user_agent"]), datetime.fromisoformat(str(row["scanned_at"]))
        previews, metadata = "WhatsApp" in agent or "facebook" in agent, row["metadata"]
        assert isinstance(metadata, dict)
        source = "link previews" if previews else "bots" if "Googlebot" in agent else "people"
        device = metadata.get("device_type", "desktop" if "Windows" in agent else "unknown")
        rows.append({**row, "at": at.astimezone(ZoneInfo(zone)), "source": source, "device": device})
    return rows


@pytest.mark.parametrize("zone", ZONES)
async def test_the_numbers_are_those_of_the_world_across_changes_of_the_clocks(
    client: DistinctClient, fake: FakeServer, file: Path, zone: str
) -> None:
    fake.world = world = crowded()
    result = await etl.report(client, "exp-1", file, timezone=zone.lower())
    visits, page = local(world, zone), Page(file)
    users = {user for _, _, user in visits}
    assert (file, zone, len(visits), len(users), 0, True) == (
        *(result.file, result.timezone, result.visits, result.visitors, result.missing, result.complete),
    )
    assert f"{len(visits):,} scans{len(users):,} people3 touchpoints" in page.text.replace(" scans", "scans").replace(
        "scans", " scans"
    )
    hours = Counter((at.isoweekday(), at.hour) for at, _, _ in visits)
    (weekday, hour), most = max(hours.items(), key=lambda each: (each[1], [-each[0][0], -each[0][1]]))
    assert f"Peak: {WEEKDAYS[weekday - 1]} {hour} h, {most:,} scans" in page.titles
    expected = [[f"{hour:02} h", *(str(hours[day, hour] or "") for day in range(1, 8))] for hour in range(24)]
    assert expected == page.table("hour")

    days = Counter(at.date() for at, _, _ in visits)
    shown = [(row[0], number(row[1])) for row in page.table("day", "scans")]
    start = min(days)
    every = [start + timedelta(one) for one in range((max(days) - start).days + 1)]
    assert [(f"{day:%a} {day.day} {day:%b %Y}", days[day]) for day in every] == shown

    best = max(every, key=lambda day: days[day])
    assert f"Busiest day: {best:%a} {best.day} {best:%b %Y}, {days[best]:,} scans" in page.titles

    first = {user: at for at, _, user in sorted(visits, reverse=True)}
    present = defaultdict(set)
    for at, _, user in visits:
        present[at.date()].add(user)
    new = {day: sum(first[user].date() == day for user in present[day]) for day in every}
    assert [[new[day], len(present[day]) - new[day]] for day in every] == [
        [*map(number, row[1:])] for row in page.table("day", "new")
    ]
    counts = Counter(one for _, one, _ in visits)
    assert {f"Place {one}": count for one, count in counts.items()} == {
        row[0]: number(row[1]) for row in page.table("touchpoint")
    }
    assert len(users) == sum(number(row[1]) for row in page.table("scans"))
    compare_cohorts(page, visits)
    compare_funnel(page, local(world, "UTC"))
    compare_impressions(page, impressions(world, zone))


def compare_cohorts(page: Page, visits: list[tuple[datetime, str, str]]) -> None:
    assert [
        [f"{week.day} {week:%b %Y} ({newcomers})", f"{later}", share(people, newcomers)]
        for week, later, newcomers, people in cohorts(visits)
    ] == page.table("week of")


def compare_funnel(page: Page, visits: list[tuple[datetime, str, str]]) -> None:
    steps = funnel(visits)
    expected = [
        [f"{step}. Place {one}", f"{passed:,}", share(passed, steps[0][2])]
        for step, (one, _, passed, _) in enumerate(steps, 1)
    ]
    rows = page.table("step")
    assert expected == [row[:3] for row in rows]
    assert "" == rows[0][3]
    for (_, _, _, middle), row in zip(steps[1:], rows[1:], strict=True):
        shown, unit = seconds(row[3])
        assert middle == pytest.approx(shown, abs=unit / 2)


def compare_impressions(page: Page, rows: list[dict[str, Any]]) -> None:
    people = [row for row in rows if row["source"] == "people"]
    sources = Counter(row["source"] for row in rows)
    shown = {row[0]: row[1:] for row in page.table("source")}
    assert {name: [f"{count:,}", share(count, len(rows))] for name, count in sources.items()} == {
        name: shown[name] for name in sources
    }
    for column, counts in (
        ("device", Counter(row["device"] for row in people)),
        ("poster", Counter(row["poster_id"] for row in people)),
    ):
        expected = {name: [f"{count:,}", share(count, len(people))] for name, count in counts.items()}
        assert expected == {row[0]: row[1:] for row in page.table(column)}
    instagram = sum("Instagram" in row["user_agent"] for row in people)  # one of the families of ua-parser
    browsers = {row[0]: number(row[1]) for row in page.table("browser")}
    assert (len(people), instagram) == (sum(browsers.values()), browsers["Instagram"])


@pytest.mark.parametrize("zone", ZONES)
async def test_a_report_of_some_days_counts_only_them_but_knows_who_came_before(
    client: DistinctClient, fake: FakeServer, file: Path, zone: str
) -> None:
    fake.world = world = crowded()
    since, until = date(2026, 3, 29), date(2026, 3, 30)  # the clocks change on the first
    result = await etl.report(client, "exp-1", file, timezone=zone, since=since, until=until)
    visits, page = local(world, zone), Page(file)
    chosen = [each for each in visits if since <= each[0].date() <= until]
    assert (len(chosen), len({user for _, _, user in chosen})) == (result.visits, result.visitors)
    before = {user for at, _, user in visits if at.date() < since}
    ((_, new, _), _) = page.table("day", "new")
    assert len({user for at, _, user in chosen if at.date() == since} - before) == number(new)
    compare_impressions(page, [row for row in impressions(world, zone) if since <= row["at"].date() <= until])


async def test_the_file_loads_nothing_and_names_nobody(client: DistinctClient, world: World, file: Path) -> None:
    await etl.report(client, "exp-1", file)
    page = Page(file)
    assert {"script", "link", "img", "iframe", "object", "use", "image"}.isdisjoint(page.elements)
    assert [] == re.findall(r"//[^\"]+", page.html)
    assert "default-src &#x27;none&#x27;" in page.html or "default-src 'none'" in page.html
    assert [] == [user for user in world.users if re.search(rf"\b{user}\b", page.html)]


async def test_names_are_escaped(client: DistinctClient, fake: FakeServer, file: Path) -> None:
    fake.world = world = World()
    names = ["<script>alert(1)</script>", "</svg><img src=x onerror=alert(1)>", "a & b \"c\" 'd' \x07", "same", "same"]
    for position, name in enumerate(names):
        world.add_touchpoint(f"tp-{position}", name)
        for user in range(9):
            world.add_scan(f"tp-{position}", f"user-{user}", "2026-06-01T10:00:00Z")
    await etl.report(client, "exp-1", file)
    page = Page(file)
    assert {"script", "img"}.isdisjoint(page.elements)
    assert sorted(name.replace("\x07", "\N{REPLACEMENT CHARACTER}") for name in names) == sorted(
        row[0] for row in page.table("touchpoint")
    )


async def test_an_experience_without_scans_has_a_report_that_says_so(
    client: DistinctClient, fake: FakeServer, file: Path
) -> None:
    fake.world = World()
    fake.world.add_touchpoint("tp-1", "Entry Scan")
    result = await etl.report(client, "exp-1", file)
    assert (0, 0, True) == (result.visits, result.visitors, result.complete)
    assert "No scans." in Page(file).text
    assert ["There are no impressions, so there are no devices"] == Page(file).titles


async def test_the_last_two_weeks_are_compared(client: DistinctClient, fake: FakeServer, file: Path) -> None:
    fake.world = world = World()
    for day in range(1, 17):
        for user in range(90 if day == 1 else 9 if day < 9 else 5):
            world.add_scan("tp-1", f"user-{user}", f"2026-06-{day:02}T10:00:00Z")
    await etl.report(client, "exp-1", file, impressions=False)
    # From 2 to 8 June, and from 9 to 15: the last day may not be over
    assert "Busiest day: Mon 1 Jun 2026, 90 scans; \N{MINUS SIGN}44 % in a week" in Page(file).titles


async def test_without_a_vantio_key_the_report_says_what_is_missing(fake: FakeServer, file: Path) -> None:
    async with DistinctClient(fake.api_key, base_url=fake.url) as client:
        await etl.report(client, "exp-1", file)
    assert "The warehouse has no impressions, so there are no devices" == Page(file).titles[-1]
    assert "They need a Vantio key, in VANTIO_API_KEY." in Page(file).text


async def test_one_scan_is_counted_and_nobody_is_singled_out(
    client: DistinctClient, fake: FakeServer, file: Path
) -> None:
    fake.world = World()
    fake.world.add_scan("tp-1", "user-1", "2026-06-01T10:00:00Z")
    result = await etl.report(client, "exp-1", file)
    assert (1, 1) == (result.visits, result.visitors)
    assert "1 scan" in Page(file).text
    assert {"No hour has 5 people", "No day has 5 people", "Fewer than 5 people"} < {*Page(file).titles}
    assert [["1 other", "1", "100 %", "", "", ""]] == Page(file).table("touchpoint")


@pytest.mark.timeout(90)  # many small lists
async def test_5000_touchpoints_are_the_first_20_and_the_others(
    client: DistinctClient, fake: FakeServer, file: Path
) -> None:
    fake.world = world = World.sample(touchpoints=5000, scans=1000, users=200)
    await etl.report(client, "exp-1", file, impressions=False)
    page = Page(file)
    assert "5,000 touchpoints" in page.text
    *first, rest = page.table("touchpoint")
    counts = Counter(len(world.scans(one)) for one in world.touchpoints)
    assert (20, f"{5000 - counts[0] - 20:,} others") == (len(first), rest[0])
    assert sorted(counts.elements(), reverse=True)[:20] == [number(row[1]) for row in first]
    assert (1000, True) == (sum(number(row[1]) for row in [*first, rest]), len(page.html) < 500_000)


async def test_a_warehouse_is_brought_up_to_date_and_read_again_without_a_request(
    client: DistinctClient, fake: FakeServer, world: World, file: Path, warehouse: Path
) -> None:
    await etl.sync(client, "exp-1", warehouse)
    world.grow(50)
    assert 350 == (await etl.report(client, "exp-1", file, warehouse=warehouse)).visits
    before, html = digest(warehouse), Page(file).html
    fake.requests.clear()
    assert 350 == (await etl.report(None, "exp-1", file, warehouse=warehouse, offline=True)).visits
    assert ([], before) == (fake.requests, digest(warehouse))
    assert re.sub(r"Made at [^<]*", "", html) == re.sub(r"Made at [^<]*", "", Page(file).html)


async def test_declared_visits_that_are_not_stored_are_in_the_heading(
    client: DistinctClient, file: Path, warehouse: Path
) -> None:
    await etl.sync(client, "exp-1", warehouse)
    with duckdb.connect(str(warehouse)) as own:
        own.execute("UPDATE touchpoints SET total_visits = total_visits + 1000 WHERE touchpoint_id = 'tp-1'")
    result = await etl.report(None, "exp-1", file, warehouse=warehouse, offline=True)
    assert (1000, False) == (result.missing, result.complete)
    assert "Not complete: 1,300 declared by the vendor, 300 stored, 1,000 missing" in Page(file).text


INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "zone": ({"timezone": "Mars/Olympus"}, "timezone 'Mars/Olympus' is unknown"),
    "order": ({"since": date(2026, 6, 2), "until": date(2026, 6, 1)}, "since 2026-06-02 is after until 2026-06-01"),
    "type": ({"since": "2026-06-01"}, "since must be a datetime.date, got str"),
    "time": ({"until": datetime(2026, 6, 1)}, "until must be a datetime.date, got datetime"),  # noqa: DTZ001
    "offline": ({"offline": True}, "offline reads a warehouse"),
    "same": ({"warehouse": "report.html"}, "file and warehouse are the same file"),
}


@pytest.mark.parametrize("case", INVALID)
async def test_an_invalid_argument_is_refused_before_anything_is_sent(
    client: DistinctClient, fake: FakeServer, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, said = INVALID[case]
    with pytest.raises(errors.InvalidRequestError, match=re.escape(said)):
        await etl.report(client, "exp-1", "report.html", **arguments)
    assert ([], []) == (fake.requests, os.listdir(tmp_path))  # noqa: PTH208


async def test_a_database_that_is_no_warehouse_is_refused_with_what_to_do(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.duckdb"
    with pytest.raises(errors.StorageError, match="does not exist"):
        await etl.report(None, "exp-1", file, warehouse=other, offline=True)
    with duckdb.connect(str(other)) as own:
        own.execute("CREATE TABLE visits (x INTEGER)")
    with pytest.raises(errors.StorageError, match=r"other\.duckdb is not a database of this version.*another file"):
        await etl.report(None, "exp-1", file, warehouse=other, offline=True)
    assert ["other.duckdb"] == os.listdir(tmp_path)  # noqa: PTH208


async def test_a_warehouse_of_0_1_0_can_be_read_as_it_is(file: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.duckdb"
    packed = Path(__file__).parents[2] / "written_by_0_1_0" / "warehouse.duckdb.gz"
    with gzip.open(packed) as source, old.open("wb") as target:
        shutil.copyfileobj(source, target)
    result = await etl.report(None, "exp-1", file, warehouse=old, offline=True)
    assert 0 < result.visits
    assert 5 < len(Page(file).titles)
