"""The commands ``export`` and ``sync``: files, summaries, exit codes, and Ctrl-C in the middle."""

import csv
import json
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pyarrow import parquet

from distinct_async.testing import FakeServer, World
from tests.cli.command import Command, environment, installed

pytestmark = pytest.mark.usefixtures("distinct_env")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def users(world: World) -> list[str]:
    return [scan.user_id for one in world.touchpoints for scan in world.scans(one)]


def stored(database: Path) -> list[str]:
    with duckdb.connect(database) as connection:
        rows = connection.execute("select user_id from visits order by touchpoint_id, position").fetchall()
    return [user_id for (user_id,) in rows]


def summary(command: Command) -> Any:
    return json.loads(command.out)


def test_export_writes_the_format_of_the_name_or_the_one_asked_for(
    command: Command, distinct_world: World, tmp_path: Path
) -> None:
    target = tmp_path / "visits.parquet"
    assert 0 == command("export", "exp-1", "-o", target, "--page-size", 200, "--visits-type", "TOTAL")
    assert users(distinct_world) == parquet.read_table(target).column("user_id").to_pylist()
    result = summary(command)
    assert (str(target), 1_000, 1_000, True, 0) == (
        *(result[name] for name in ("file", "rows", "expected", "complete", "failures")),
    )
    assert "" == command.err

    plain = tmp_path / "visits"
    assert 0 == command("export", "exp-1", "-o", plain, "--format", "csv", "--visits-type", "UNIQUE")
    with plain.open(encoding="utf-8", newline="") as lines:
        unique = [scan.user_id for one in distinct_world.touchpoints for scan in distinct_world.unique_scans(one)]
        assert unique == [row["user_id"] for row in csv.DictReader(lines)]
    assert 2 == command("export", "exp-1", "-o", tmp_path / "visits.xml")
    assert "parquet" in command.err


def test_sync_stores_each_visit_once_and_asks_only_for_what_is_new(
    command: Command, distinct_world: World, distinct_server: FakeServer, tmp_path: Path
) -> None:
    database = tmp_path / "warehouse.duckdb"
    assert 0 == command("sync", "exp-1", database, "--page-size", 500)
    assert users(distinct_world) == stored(database)
    distinct_world.grow(3, "tp-2")
    distinct_server.requests.clear()
    assert 0 == command("sync", "exp-1", database, "--visits-type", "TOTAL")
    assert 3 == summary(command)["rows"]
    assert 2 == len(distinct_server.requests)
    assert users(distinct_world) == stored(database)


def test_a_history_that_changed_is_an_error_or_replaced(
    command: Command, distinct_world: World, tmp_path: Path
) -> None:
    database = tmp_path / "warehouse.duckdb"
    assert 0 == command("sync", "exp-1", database)
    distinct_world.remove("tp-2", 0)
    assert 7 == command("sync", "exp-1", database, "--visits-type", "TOTAL")
    assert 0 == command("sync", "exp-1", database, "--visits-type", "TOTAL", "--rebuild", "--format", "table")
    assert users(distinct_world) == stored(database)
    assert "yes" in command.out


def test_an_export_whose_parts_are_of_another_history_is_an_error_or_walked_anew(
    command: Command, distinct_world: World, distinct_server: FakeServer, tmp_path: Path
) -> None:
    words = ("export", "exp-1", "-o", tmp_path / "visits.parquet", "--page-size", 50, "--visits-type", "TOTAL")
    distinct_server.fail(status=501, query={"touchpointId": "tp-1", "offset": "100"})
    assert 8 == command(*words)
    distinct_server.faults.clear()
    distinct_world.remove("tp-2", 0)
    assert 7 == command(*words)
    assert "1 list failed; --rebuild reloads what has changed" in command.err
    assert 0 == command(*words, "--rebuild")
    assert users(distinct_world) == parquet.read_table(words[3]).column("user_id").to_pylist()


@pytest.mark.parametrize(("status", "code"), [(501, 8), (401, 4)])
def test_what_fails_in_the_middle_is_partial_and_the_summary_reports_it(
    status: int, code: int, command: Command, distinct_world: World, distinct_server: FakeServer, tmp_path: Path
) -> None:
    database = tmp_path / "warehouse.duckdb"
    for touchpoint_id in ("tp-1", "tp-2"):
        distinct_server.fail(status=status, query={"touchpointId": touchpoint_id, "offset": "100"})
    words = ("sync", "exp-1", database, "--page-size", 50, "--visits-type", "TOTAL")
    assert code == command(*words)
    result = summary(command)
    assert 0 < result["rows"] == len(stored(database)) < result["expected"] == 1_000
    assert not result["complete"]
    assert command.err.endswith("; rows written so far are kept; run the same command to continue\n")
    if code == 8:
        assert 2 == result["failures"] == command.err.count("501")
        assert command.err.splitlines()[-1].startswith("distinct-async: 2 lists failed; ")
    distinct_server.faults.clear()
    assert 0 == command(*words)
    assert users(distinct_world) == stored(database)


def test_a_job_that_wrote_nothing_has_its_errors_own_code(
    command: Command, distinct_server: FakeServer, tmp_path: Path
) -> None:
    distinct_server.fail(status=501)
    assert 6 == command("sync", "exp-1", tmp_path / "warehouse.duckdb")
    assert "" == command.out
    assert 2 == command("sync", "exp-1", tmp_path / "no-folder" / "warehouse.duckdb")


def test_a_list_shorter_than_was_declared_is_not_complete(
    command: Command, distinct_world: World, distinct_server: FakeServer, tmp_path: Path
) -> None:
    total = len(distinct_world.scans("tp-1"))
    true, declared = b'"totalVisits":%d' % total, b'"totalVisits":%d' % (total + 1)
    distinct_server.fail(query={"metricsType": "EXPERIENCE"}, body=lambda correct: correct.replace(true, declared))
    assert 8 == command(
        "export", "exp-1", "-o", tmp_path / "visits.jsonl", "--page-size", 500, "--visits-type", "TOTAL"
    )
    assert not summary(command)["complete"]
    assert f"not complete: touchpoint 'tp-1', TOTAL visits: {total} of {total + 1} declared rows" in command.err


def test_drift_is_a_line_for_each_list_one_summary_and_7(
    command: Command, distinct_world: World, tmp_path: Path
) -> None:
    database = tmp_path / "warehouse.duckdb"
    assert 0 == command("sync", "exp-1", database)
    for touchpoint_id in ("tp-1", "tp-2", "tp-3"):
        distinct_world.remove(touchpoint_id, 0)
    assert 7 == command("sync", "exp-1", database, "--visits-type", "TOTAL")
    *each, last = command.err.splitlines()
    assert [f"distinct-async: touchpoint 'tp-{number}', TOTAL visits: rows" for number in (1, 2, 3)] == sorted(
        line[: line.index(" already")] for line in each
    )
    assert 250 > max(map(len, each))
    assert "distinct-async: 3 lists failed; --rebuild reloads what has changed" == last
    assert (3, 0) == (summary(command)["failures"], summary(command)["rows"])


def test_a_sync_without_news_says_what_it_took(command: Command, distinct_server: FakeServer, tmp_path: Path) -> None:
    database = tmp_path / "warehouse.duckdb"
    assert 0 == command("sync", "exp-1", database)
    assert summary(command)["requests"] == len(distinct_server.requests)
    distinct_server.requests.clear()
    assert 0 == command("sync", "exp-1", database)
    assert (0, 1, 1) == (summary(command)["rows"], summary(command)["requests"], len(distinct_server.requests))
    assert command.err.startswith("no new rows: 1 request in 0.")


def test_rows_above_expected_are_explained(
    command: Command, distinct_world: World, distinct_server: FakeServer, tmp_path: Path
) -> None:
    total = len(distinct_world.scans("tp-1"))
    true, declared = b'"totalVisits":%d' % total, b'"totalVisits":%d' % (total - 1)
    distinct_server.fail(query={"metricsType": "EXPERIENCE"}, body=lambda correct: correct.replace(true, declared))
    assert 0 == command("export", "exp-1", "-o", tmp_path / "visits.jsonl", "--visits-type", "TOTAL")
    assert "rows is above expected: visits were added after the job had read the totals\n" == command.err


def test_an_unknown_experience_leaves_nothing(command: Command, tmp_path: Path) -> None:
    assert 3 == command("sync", "nope", tmp_path / "w.duckdb")
    assert 3 == command("export", "nope", "-o", tmp_path / "v.csv")
    assert [] == [*tmp_path.iterdir()]


def test_retries_are_reported_while_they_happen(command: Command, distinct_server: FakeServer, tmp_path: Path) -> None:
    distinct_server.fail(status=503, times=1)
    assert 0 == command("export", "exp-1", "-o", tmp_path / "visits.csv")
    assert command.err.startswith("attempt 1 of a request failed (ServerError); attempt 2 in ")
    distinct_server.fail(status=503, times=1)
    assert 0 == command("export", "exp-1", "-o", tmp_path / "visits.csv", "--quiet")
    assert "" == command.err


def test_visits_and_export_write_the_same_csv(command: Command, distinct_world: World, tmp_path: Path) -> None:
    distinct_world.add_scan("tp-1", 'a "b", c', datetime(2030, 1, 1, 1, 1, 1, 250_000, tzinfo=UTC))
    one, all_of_them = tmp_path / "one.csv", tmp_path / "all.csv"
    assert 0 == command("visits", "tp-1", "-o", one)
    assert 0 == command("export", "exp-1", "-o", all_of_them, "--visits-type", "TOTAL")
    walked = one.read_text(encoding="utf-8").splitlines()
    exported = [line for line in all_of_them.read_text(encoding="utf-8").splitlines() if ",tp-1," in line]
    assert walked[1:] == [line.split(",", 5)[5] for line in exported]
    assert '"a ""b"", c",2030-01-01T01:01:01.250000Z' in walked


def test_export_and_sync_have_both_lists_by_default(command: Command, tmp_path: Path) -> None:
    assert 0 == command("sync", "exp-1", tmp_path / "w.duckdb")
    synced = summary(command)["rows"]
    assert 0 == command("export", "exp-1", "-o", tmp_path / "v.parquet")
    assert synced == summary(command)["rows"] > 1_000


def test_cells_that_a_spreadsheet_would_run_are_defused(
    command: Command, distinct_world: World, tmp_path: Path
) -> None:
    distinct_world.add_scan("tp-1", "=1+1", datetime(2030, 1, 1, tzinfo=UTC))
    assert 0 == command("export", "exp-1", "-o", tmp_path / "v.csv", "--safe-cells")
    assert ",'=1+1," in (tmp_path / "v.csv").read_text(encoding="utf-8")
    assert 2 == command("export", "exp-1", "-o", tmp_path / "v.parquet", "--safe-cells")


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_a_database_that_the_next_sync_completes(
    number: signal.Signals, distinct_server: FakeServer, distinct_world: World, command: Command, tmp_path: Path
) -> None:
    database = tmp_path / "warehouse.duckdb"
    words = ("sync", "exp-1", str(database), "--page-size", "10")
    distinct_server.fail(wire="hang", query={"offset": "100"})
    with subprocess.Popen(
        [*installed(), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env=environment()
    ) as process:
        while not any(request.query.get("offset") == "100" for request in distinct_server.requests):
            assert None is process.poll()
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    result = "distinct-async: interrupted; rows written so far are kept; run the same command to continue\n"
    assert (128 + number, "", result) == (process.returncode, out, err)
    assert 0 < len(stored(database)) < 1_000
    distinct_server.faults.clear()
    assert 0 == command(*words)
    assert users(distinct_world) == stored(database)


def add_experience(world: World) -> None:
    world.add_touchpoint("tp-other", experience_id="exp-2")
    for number, user in enumerate(("user-1", "user-2", "user-1")):
        world.add_scan("tp-other", user, datetime(2026, 6, 1, 10, number, tzinfo=UTC))


def summaries(command: Command) -> dict[str, tuple[int, bool]]:
    rows = map(json.loads, command.out.splitlines())
    return {row["experience_id"]: (row["rows"], row["complete"]) for row in rows}


def test_a_sync_sets_the_time_zone_of_the_views(command: Command, tmp_path: Path) -> None:
    database = tmp_path / "warehouse.duckdb"
    assert 2 == command("sync", "exp-1", database, "--timezone", "Mars/Olympus")
    assert "timezone 'Mars/Olympus' is unknown" in command.err
    for words in (("--timezone", "europe/berlin"), ()):
        assert 0 == command("sync", "exp-1", database, *words)
        with duckdb.connect(database) as connection:
            assert [("Europe/Berlin",)] == connection.execute("SELECT DISTINCT timezone FROM visits_by_day").fetchall()


@pytest.mark.parametrize("way", ["words", "file", "both"])
def test_several_experiences_are_synced_at_once_with_a_summary_each(
    way: str, command: Command, distinct_world: World, tmp_path: Path
) -> None:
    add_experience(distinct_world)
    target, listed = tmp_path / "w.duckdb", tmp_path / "ids.txt"
    listed.write_text("# ours\n\nexp-2\nexp-1\n" if way == "file" else "exp-2\n")
    words = {"words": ["exp-1", "exp-2"], "file": [], "both": ["exp-1"]}[way]
    more = [] if way == "words" else ["--experiences", listed]
    assert 0 == command("sync", *words, target, *more, "--visits-type", "TOTAL")
    assert {"exp-1": (1_000, True), "exp-2": (3, True)} == summaries(command)
    assert 1_003 == len(stored(target))
    assert 0 == command("sync", "exp-2", target, "--quiet")
    assert ["exp-2"] == [*summaries(command)]


def test_several_experiences_are_exported_into_one_file(
    command: Command, distinct_world: World, tmp_path: Path
) -> None:
    add_experience(distinct_world)
    target = tmp_path / "visits.parquet"
    assert 0 == command("export", "exp-1", "exp-2", "-o", target, "--visits-type", "TOTAL")
    assert {"exp-1": (1_000, True), "exp-2": (3, True)} == summaries(command)
    assert {"exp-1", "exp-2"} == {*parquet.read_table(target).column("experience_id").to_pylist()}


def test_an_experience_that_fails_is_named_and_the_others_are_kept(
    command: Command, distinct_world: World, distinct_server: FakeServer, tmp_path: Path
) -> None:
    add_experience(distinct_world)
    distinct_server.fail(query={"touchpointId": "tp-other"}, status=404)
    assert 8 == command("sync", "exp-1", "exp-2", tmp_path / "w.duckdb", "--visits-type", "TOTAL")
    assert {"exp-1": (1_000, True), "exp-2": (0, False)} == summaries(command)
    assert "distinct-async: exp-2, " in command.err
    assert "1 list failed" in command.err


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("name an experience and the file of a database", ["sync"]),
        ("name an experience before the file of the database, or --experiences FILE", ["sync", "w.duckdb"]),
        ("there is no id in it", ["sync", "w.duckdb", "--experiences", "empty"]),
        ("--experiences nowhere", ["sync", "w.duckdb", "--experiences", "nowhere"]),
        ("name an experience, or --experiences FILE", ["export", "-o", "x.csv"]),
    ],
)
def test_a_job_without_experiences_says_what_is_missing(
    said: str, words: list[str], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").write_text("# none\n")
    assert 2 == command(*words)
    assert said in command.err
    assert ["empty"] == [each.name for each in tmp_path.iterdir()]


@pytest.mark.parametrize(("content", "code"), [(b"\xef\xbb\xbfexp-1\n", 0), (b"exp-\xe9\n", 1)])
def test_a_file_of_experiences_may_begin_with_a_mark_and_must_be_utf_8(
    command: Command, tmp_path: Path, content: bytes, code: int
) -> None:
    (tmp_path / "ids.txt").write_bytes(content)
    assert code == min(1, command("sync", tmp_path / "w.duckdb", "--experiences", tmp_path / "ids.txt"))
    assert ("--experiences" in command.err) == bool(code)
