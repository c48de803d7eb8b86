"""`etl.sync_impressions`: by ids or by the vendor's list, each once, and what does not exist on record."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest

from distinct_async import DistinctClient, errors, etl
from distinct_async.testing import FakeServer, World

from .rows import asked


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


def stored(database: Path) -> dict[str, dict[str, Any]]:
    """The impressions of a database, as the vendor writes them."""
    columns = "id, poster_id, program_id, student_id, epoch_us(scanned_at), user_agent, ip_address, metadata"
    rows = asked(database, f"SELECT {columns} FROM impressions ORDER BY ALL")  # noqa: S608
    names = ("id", "poster_id", "program_id", "student_id", "scanned_at", "user_agent", "ip_address", "metadata")
    return {row[0]: {**dict(zip(names, row, strict=True)), "metadata": json.loads(row[7])} for row in rows}


def expected(world: World, *ids: str) -> dict[str, dict[str, Any]]:
    scans = {scan.impression_id: scan for each in world.touchpoints for scan in world.scans(each)}
    return {
        each: {**world.impression(each), "scanned_at": int(scans[each].at.timestamp()) * 1_000_000}
        for each in sorted(ids)
    }


def gets(fake: FakeServer) -> list[str]:
    """The ids that were asked for since the last look."""
    asked_for = [request.path.rpartition("/")[2] for request in fake.requests]
    fake.requests.clear()
    return sorted(asked_for)


async def test_each_id_is_asked_for_once_and_what_is_there_never_again(
    client: DistinctClient, fake: FakeServer, world: World, database: Path
) -> None:
    ids = list(world.impressions[:30])
    result = await etl.sync_impressions(client, database, ids=[*ids[:20], *ids[:5]])
    assert sorted(ids[:20]) == gets(fake)
    assert expected(world, *ids[:20]) == stored(database)
    assert (20, 0, database) == (result.rows, result.missing, result.database)

    result = await etl.sync_impressions(client, database, ids=ids)
    assert sorted(ids[20:]) == gets(fake)
    assert expected(world, *ids) == stored(database)
    assert (10, 0) == (result.rows, result.missing)
    assert result.elapsed > 0


async def test_ids_come_from_a_list_a_generator_or_a_file(
    client: DistinctClient, world: World, database: Path, tmp_path: Path
) -> None:
    ids = world.impressions

    async def each() -> AsyncIterator[str]:
        for impression_id in ids[10:20]:
            yield impression_id

    (tmp_path / "ids.txt").write_bytes(f"\ufeff{ids[20]}\r\n\r\n  {ids[21]}\n{ids[22]}".encode())
    given: list[Any] = [ids[:5], iter(ids[5:10]), each(), tmp_path / "ids.txt"]
    for one in given:
        await etl.sync_impressions(client, database, ids=one)
    assert expected(world, *ids[:23]) == stored(database)


async def test_what_does_not_exist_is_in_the_table_missing_and_asked_for_again(
    client: DistinctClient, fake: FakeServer, world: World, database: Path
) -> None:
    result = await etl.sync_impressions(client, database, ids=["nope", world.impressions[0], "later", "nope"])
    assert (1, 2) == (result.rows, result.missing)
    assert [("later",), ("nope",)] == asked(database, "SELECT id FROM missing ORDER BY ALL")
    gets(fake)

    world.add_impression("later")
    result = await etl.sync_impressions(client, database, ids=["nope", world.impressions[0], "later"])
    assert ["later", "nope"] == gets(fake)
    assert (1, 1) == (result.rows, result.missing)
    assert [("nope",)] == asked(database, "SELECT id FROM missing")
    assert {"later", world.impressions[0]} == {*stored(database)}


async def test_an_error_leaves_what_came_before_it(
    client: DistinctClient, fake: FakeServer, world: World, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distinct_async.etl.impressions._BATCH_IDS", 10)
    ids = world.impressions[:30]
    fault = fake.fail(path=f"*/{ids[25]}", status=401)
    with pytest.raises(errors.AuthenticationError):
        await etl.sync_impressions(client, database, ids=ids)
    assert expected(world, *ids[:20]) == stored(database)
    fake.faults.remove(fault)
    gets(fake)
    result = await etl.sync_impressions(client, database, ids=ids)
    assert {*ids[20:]} >= {*gets(fake)}  # some of them are in the client's cache
    assert 10 == result.rows
    assert expected(world, *ids) == stored(database)


@pytest.mark.parametrize(
    "filters", [{}, {"poster_id": "poster_tp-2"}, {"program_id": "prog_exp-2"}], ids=["all", "poster", "program"]
)
async def test_a_list_is_stored_and_brought_up_to_date(
    client: DistinctClient, world: World, database: Path, filters: dict[str, str]
) -> None:
    world.add_touchpoint("tp-9", experience_id="exp-2")
    world.grow(30, "tp-9")
    for _ in range(2):
        ids = world.find_impressions(**filters)
        result = await etl.sync_impressions(client, database, page_size=20, **filters)
        assert len(ids) == result.rows
        assert expected(world, *ids) == stored(database)
        world.grow(60)


async def test_an_impression_that_is_listed_twice_is_drift_and_what_came_before_is_stored(
    client: DistinctClient, fake: FakeServer, world: World, database: Path
) -> None:
    first, second = world.impressions[:2]
    fake.fail(times=1, body=lambda body: body.replace(f'"{second}"'.encode(), f'"{first}"'.encode()))
    with pytest.raises(errors.DriftError, match="1 row came twice"):
        await etl.sync_impressions(client, database)
    assert {*stored(database)} <= {*world.impressions} - {second}


async def test_cancelled_it_stores_what_came(
    client: DistinctClient, fake: FakeServer, world: World, database: Path
) -> None:
    fake.fail(nth=4, wire="hang")
    task = asyncio.create_task(etl.sync_impressions(client, database, page_size=20))
    while len(fake.requests) < 4:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    rows = stored(database)
    assert len(rows) >= 40
    assert expected(world, *world.impressions[: len(rows)]) == rows


async def test_a_file_that_cannot_be_read_is_reported(client: DistinctClient, database: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.bin").write_bytes(b"\xff\xfe\xff")
    for name in ("ids.bin", "nowhere.txt"):
        with pytest.raises(errors.StorageError, match=name):
            await etl.sync_impressions(client, database, ids=tmp_path / name)


async def test_what_cannot_be_meant_is_refused_before_anything_is_opened(
    client: DistinctClient, fake: FakeServer, database: Path
) -> None:
    wrong: list[dict[str, Any]] = [
        {"ids": "imp_000001"},
        {"ids": ["a"], "program_id": "prog_1"},
        {"ids": ["a"], "poster_id": "poster_1"},
        {"page_size": 0},
        {"program_id": ""},
        {"timezone": "Mars/Olympus"},
    ]
    for options in wrong:
        with pytest.raises(errors.InvalidRequestError):
            await etl.sync_impressions(client, database, **options)
    assert ([], []) == (fake.requests, [*database.parent.iterdir()])
    with pytest.raises(errors.InvalidRequestError):
        await etl.sync_impressions(client, database, ids=[""])
    assert [] == fake.requests


async def test_devices_come_from_metadata_first_and_people_are_apart_from_previews_and_bots(
    client: DistinctClient, fake: FakeServer, database: Path
) -> None:
    fake.world = world = World()
    phone = "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 Chrome/126.0.0.0 Mobile Safari/537.36"
    rows: list[tuple[str | None, dict[str, object] | None]] = [
        (phone, {"device_type": "Kiosk"}),
        (phone, None),
        (phone.replace("Mobile ", ""), {"device_type": ""}),
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/126.0.0.0 Safari/537.36", {}),
        ("WhatsApp/2.24.11.79 A", {"device_type": "mobile"}),
        ("facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", None),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", None),
        ("curl/8.5.0", None),
        (None, None),
        ("?", None),
    ]
    for number, (user_agent, metadata) in enumerate(rows):
        world.add_impression(f"imp_{number}", user_agent=user_agent, metadata=metadata)
    await etl.sync_impressions(client, database)
    columns = "program_id, poster_id, source, device, browser, impressions"
    expected = [
        ("bot", "unknown", "Googlebot", 1),
        ("bot", "unknown", "curl", 1),
        ("person", "desktop", "Chrome", 1),
        ("person", "kiosk", "Chrome Mobile", 1),
        ("person", "mobile", "Chrome Mobile", 1),
        ("person", "tablet", "Chrome", 1),
        ("person", "unknown", "unknown", 2),
        ("preview", "mobile", "WhatsApp", 1),
        ("preview", "unknown", "FacebookBot", 1),
    ]
    found = asked(database, f"SELECT {columns} FROM impressions_by_device")  # noqa: S608  # our own names
    assert [("prog_123abc", "poster_123abc", *row) for row in expected] == found


async def test_the_views_have_the_given_time_zone_and_keep_it(
    client: DistinctClient, world: World, database: Path
) -> None:
    first = world.impressions[0]
    await etl.sync_impressions(client, database, ids=[first], timezone="asia/tokyo")
    await etl.sync_impressions(client, database, ids=[first])
    scanned = datetime.fromisoformat(str(world.impression(first)["scanned_at"]))
    local = scanned.astimezone(ZoneInfo("Asia/Tokyo")).replace(tzinfo=None)
    assert [(local, "Asia/Tokyo")] == asked(database, "SELECT local_time, timezone FROM local_impressions")


async def test_a_database_whose_views_cannot_be_created_is_closed_before_the_error_is_raised(
    client: DistinctClient, database: Path
) -> None:
    with duckdb.connect(str(database)) as owner:
        owner.execute("CREATE MACRO visits_timezone(zone) AS zone")
    with pytest.raises(errors.StorageError, match="visits_timezone") as caught:
        await etl.sync_impressions(client, database, timezone="UTC")
    with duckdb.connect(str(database), read_only=True) as reader:  # DuckDB refuses it beside a connection that writes
        assert [] == reader.execute("SHOW TABLES").fetchall()
    assert database.name in str(caught.value)
