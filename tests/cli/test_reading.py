"""What the commands write, in every format, to stdout and into files; the vendors' own rows are the measure."""

import csv
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from distinct_async import Checkpoint
from distinct_async.cli.console import Stderr, UpdateProgress
from distinct_async.testing import FakeServer, Scan, World
from tests.cli.command import Command

pytestmark = pytest.mark.usefixtures("distinct_env")


@pytest.fixture
def distinct_world() -> World:
    return World.sample(touchpoints=2, scans=300, users=40, seed=7)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def rows_of(text: str, suffix: str | None) -> Any:
    if suffix == "json":
        return json.loads(text)
    return list(csv.DictReader(text.splitlines())) if suffix == "csv" else lines(text)


def row(scan: Scan) -> dict[str, str]:
    return {"user_id": scan.user_id, "timestamp_utc": f"{scan.at:%Y-%m-%dT%H:%M:%SZ}"}


def test_touchpoints_are_json_lines_in_a_pipe(command: Command, distinct_world: World) -> None:
    assert 0 == command("touchpoints", "exp-1")
    assert ["id", "name", "value", "total_visits", "unique_visits"] == list(lines(command.out)[0])
    expected = [
        (one, len(distinct_world.scans(one)), len(distinct_world.unique_scans(one))) for one in ("tp-1", "tp-2")
    ]
    assert expected == [(each["id"], each["total_visits"], each["unique_visits"]) for each in lines(command.out)]
    assert "" == command.err

    assert 0 == command("touchpoints", "exp-1", "--offset", 1, "--limit", 1, "--format", "json")
    assert ["tp-2"] == [each["id"] for each in json.loads(command.out)]


def test_a_user_has_the_times_as_a_list_in_json_and_json_in_csv(command: Command, distinct_world: World) -> None:
    users = [scan.user_id for scan in distinct_world.scans("tp-1")]
    user_id = max(users, key=users.count)
    expected = [row(scan)["timestamp_utc"] for scan in distinct_world.scans("tp-1") if scan.user_id == user_id]
    assert 0 == command("user", user_id, "--experience", "exp-1")
    assert expected == lines(command.out)[0]["timestamps_utc"]
    assert 0 == command("user", user_id, "--experience", "exp-1", "--format", "csv")
    assert expected == json.loads(next(csv.DictReader(command.out.splitlines()))["timestamps_utc"])
    assert 0 == command("user", user_id, "--experience", "exp-1", "--format", "table")
    assert expected[0] in command.out
    assert len(expected) > 5
    assert f"and {len(expected) - 5} more" in command.out


@pytest.mark.parametrize("unique", [False, True])
def test_visits_are_the_worlds_in_every_format(
    *, unique: bool, command: Command, distinct_world: World, distinct_server: FakeServer
) -> None:
    scans = distinct_world.unique_scans("tp-1") if unique else distinct_world.scans("tp-1")
    expected = [row(scan) for scan in scans]
    asked = ["visits", "tp-1", "--page-size", 30, *(["--unique"] if unique else [])]
    assert 0 == command(*asked)
    assert expected == lines(command.out)
    assert len(expected) // 30 <= len(distinct_server.requests)
    assert 0 == command(*asked, "--format", "json")
    assert expected == json.loads(command.out)
    assert 0 == command(*asked, "--format", "csv")
    assert expected == list(csv.DictReader(command.out.splitlines()))
    assert 0 == command(*asked, "--format", "csv", "--offset", 3, "--limit", 2)
    assert expected[3:5] == list(csv.DictReader(command.out.splitlines()))


def test_a_table_of_visits_is_a_head_and_says_how_many_more(
    command: Command, distinct_world: World, distinct_server: FakeServer
) -> None:
    rows = [[*row(scan).values()] for scan in distinct_world.scans("tp-1")]
    assert 0 == command("visits", "tp-1", "--format", "table")
    assert [["user_id", "timestamp_utc"], *rows[:20]] == [line.split() for line in command.out.splitlines()]
    assert f"and {len(rows) - 20} more: --limit shows more, --format jsonl or -o FILE takes all\n" == command.err
    assert 1 == len(distinct_server.requests)

    assert 0 == command("visits", "tp-1", "--format", "table", "--limit", 1000)
    assert (len(rows) + 1, "") == (len(command.out.splitlines()), command.err)
    assert 0 == command("visits", "tp-1", "--format", "table", "--quiet")
    assert "" == command.err


def test_impressions_are_asked_for_by_id_and_the_unknown_ones_reported_at_the_end(
    command: Command, distinct_world: World
) -> None:
    assert 3 == command("impression", "imp_000002", "no-such", "imp_000001", "nor-this")
    assert [distinct_world.impression(one) for one in ("imp_000002", "imp_000001")] == lines(command.out)
    assert "distinct-async: no such impression: no-such, nor-this (2 of 4)\n" == command.err
    assert 0 == command("impression", "imp_000001", "--format", "table")
    assert "user_agent   Mozilla/5.0" in command.out  # a block has room for all
    assert 'metadata     {"device_type":' in command.out
    assert "imp_000001" in command.out


def test_impressions_are_walked_by_poster(command: Command, distinct_world: World) -> None:
    ids = distinct_world.find_impressions(poster_id="poster_tp-2")
    assert 0 == command("impressions", "--poster", "poster_tp-2", "--page-size", 20)
    assert list(ids) == [each["id"] for each in lines(command.out)]
    assert 0 == command("impressions", "--poster", "poster_tp-2", "--offset", 2, "--limit", 1)
    assert [ids[2]] == [each["id"] for each in lines(command.out)]
    assert 0 == command("impressions", "--program", "no-such", "--format", "json")
    assert "[]\n" == command.out
    assert 0 == command("impressions", "--format", "table", "--limit", 2)
    assert "there may be more: " in command.err


def test_a_file_takes_its_name_when_it_is_whole_and_its_suffix_says_the_format(
    command: Command, distinct_world: World, distinct_server: FakeServer, tmp_path: Path
) -> None:
    target = tmp_path / "visits.CSV"
    target.write_text("what was there before", encoding="utf-8")
    distinct_server.fail(status=501, query={"offset": "60"})
    assert 6 == command("visits", "tp-1", "--page-size", 30, "-o", target)
    assert "what was there before" == target.read_text(encoding="utf-8")
    assert command.err.endswith(
        "; 60 visits were received but not saved; use --checkpoint FILE to keep partial results\n"
    )
    distinct_server.faults.clear()
    assert 0 == command("visits", "tp-1", "--page-size", 30, "-o", target)
    assert [target] == [*tmp_path.iterdir()]
    expected = [row(scan) for scan in distinct_world.scans("tp-1")]
    assert expected == list(csv.DictReader(target.read_text(encoding="utf-8").splitlines()))
    assert ("", "") == (command.out, command.err)


@pytest.mark.parametrize("words", [("touchpoints", "exp-1"), ("visits", "tp-1"), ("impression", "imp_000001")])
def test_an_output_that_cannot_be_written_is_reported_before_anything_is_lost(
    words: tuple[str, ...], command: Command, tmp_path: Path
) -> None:
    assert 2 == command(*words, "-o", tmp_path / "no-folder" / "x.json")
    assert command.err.endswith("no-folder does not exist\n")


@pytest.mark.parametrize("suffix", ["jsonl", "csv", None])
def test_an_error_keeps_what_came_and_the_same_command_continues(
    suffix: str | None, command: Command, distinct_world: World, distinct_server: FakeServer, tmp_path: Path
) -> None:
    target, checkpoint = tmp_path / f"visits.{suffix}", tmp_path / "checkpoint"
    words = ["visits", "tp-1", "--page-size", 30, "--checkpoint", checkpoint, *(["-o", target] if suffix else [])]
    expected = [row(scan) for scan in distinct_world.scans("tp-1")]
    written = ""
    for position in (60, 119):  # a resumed walk reads its last row once more
        distinct_server.faults.clear()
        distinct_server.fail(status=501, query={"offset": str(position)})
        assert 8 == command(*words)
        written += command.out
        assert position == Checkpoint.from_json(checkpoint.read_text()).position
        assert f"; the same command continues after row {position}\n" in command.err
        assert 1 == command.err.count("501")
        if suffix:
            assert expected[:position] == rows_of(target.read_text(encoding="utf-8"), suffix)
        assert {checkpoint, *([target] if suffix else [])} == {*tmp_path.iterdir()}
    distinct_server.faults.clear()
    assert 0 == command(*words)
    written += command.out
    text = target.read_text(encoding="utf-8") if suffix else written
    assert expected == rows_of(text, suffix)
    assert {checkpoint, *([target] if suffix else [])} == {*tmp_path.iterdir()}


def test_progress_counts_towards_what_this_run_will_give(
    command: Command, distinct_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int | None, int]] = []

    @contextmanager
    def progress(*_: object, **__: object) -> Iterator[UpdateProgress]:
        yield lambda *figures: seen.append(figures)

    monkeypatch.setattr(Stderr, "progress", progress)
    total = len(distinct_world.scans("tp-1")) - 10
    assert 0 == command("visits", "tp-1", "--page-size", 30, "--offset", 10)
    assert [(30, total, 0), (total, total, 0)] == [seen[0], seen[-1]]
    assert 0 == command("visits", "tp-1", "--page-size", 30, "--limit", 40)
    assert 0 == command("impressions", "--limit", 7)
    assert [(40, 40, 0), (7, None, 0)] == seen[-2:]


# Not with /dev/null: what this test is there to find would, run by root, replace the machine's own
@pytest.mark.skipif(sys.platform == "win32", reason="pipes as POSIX has them")
def test_what_is_no_file_is_written_as_it_is_and_has_no_parts(
    command: Command, distinct_server: FakeServer, distinct_world: World, tmp_path: Path
) -> None:
    pipe, checkpoint = tmp_path / "pipe", tmp_path / "checkpoint"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR)  # both, so that nobody waits for the other side
    try:
        distinct_server.fail(status=501, query={"offset": "60"})
        assert 8 == command("visits", "tp-1", "--page-size", 30, "-o", pipe, "--checkpoint", checkpoint)
        assert "60 visits were written; the same command continues" in command.err
        assert [row(scan) for scan in distinct_world.scans("tp-1")[:60]] == lines(os.read(reader, 65_536).decode())
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert {pipe, checkpoint} == {*tmp_path.iterdir()}


def test_a_finished_checkpoint_gives_only_what_was_appended_since(
    command: Command, distinct_world: World, tmp_path: Path
) -> None:
    words = ("visits", "tp-1", "--checkpoint", tmp_path / "checkpoint")
    assert 0 == command(*words, "--limit", 5)
    assert 5 == len(lines(command.out))
    assert 0 == command(*words)
    assert len(distinct_world.scans("tp-1")) - 5 == len(lines(command.out))
    assert 0 == command(*words)
    assert ("", True) == (command.out, command.err.startswith("continuing after row "))
    distinct_world.grow(3, "tp-1")
    assert 0 == command(*words, "--quiet", "-o", tmp_path / "new.jsonl")
    assert [row(scan) for scan in distinct_world.scans("tp-1")[-3:]] == lines((tmp_path / "new.jsonl").read_text())
    assert "" == command.err

    distinct_world.grow(2, "tp-1")
    assert 0 == command(*words, "-o", tmp_path / "new.jsonl")  # appends
    assert [row(scan) for scan in distinct_world.scans("tp-1")[-5:]] == lines((tmp_path / "new.jsonl").read_text())


@pytest.mark.parametrize(("content", "problem"), [("junk", "not a "), (None, "total_visits(touchpoint_id='tp-1')")])
def test_a_checkpoint_of_something_else_is_refused_before_anything_is_asked(
    content: str | None, problem: str, command: Command, distinct_server: FakeServer, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint"
    if content is None:
        assert 0 == command("visits", "tp-1", "--checkpoint", checkpoint, "--limit", 1)
    else:
        checkpoint.write_text(content, encoding="utf-8")
    distinct_server.requests.clear()
    before = checkpoint.read_bytes()
    assert 2 == command("visits", "tp-2", "--checkpoint", checkpoint)
    assert problem in command.err
    assert ([], before) == (distinct_server.requests, checkpoint.read_bytes())
    assert 2 == command("visits", "tp-1", "--checkpoint", tmp_path / "no-folder" / "checkpoint")
    assert ("--checkpoint" in command.err, []) == (True, distinct_server.requests)


def test_a_refused_key_is_4_even_in_the_middle_and_the_checkpoint_is_kept(
    command: Command, distinct_server: FakeServer, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint"
    distinct_server.fail(status=401, query={"offset": "60"})
    assert 4 == command("visits", "tp-1", "--page-size", 30, "--checkpoint", checkpoint)
    assert 60 == Checkpoint.from_json(checkpoint.read_text()).position
    distinct_server.faults.clear()
    distinct_server.fail(status=501)
    assert 6 == command("visits", "tp-1", "--checkpoint", checkpoint)  # nothing new: not partial
    assert 60 == Checkpoint.from_json(checkpoint.read_text()).position


def test_without_a_checkpoint_file_an_error_reports_the_checkpoint(
    command: Command, distinct_server: FakeServer, distinct_world: World, tmp_path: Path
) -> None:
    distinct_server.fail(status=501, query={"offset": "60"})
    assert 6 == command("visits", "tp-1", "--page-size", 30)
    (line,) = command.err.splitlines()
    saved, first = tmp_path / "checkpoint", lines(command.out)
    saved.write_text(line.partition("for --checkpoint: ")[2], encoding="utf-8")
    distinct_server.faults.clear()
    assert 0 == command("visits", "tp-1", "--checkpoint", saved)
    assert [row(scan) for scan in distinct_world.scans("tp-1")] == first + lines(command.out)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("visits", "tp-1", "--limit", -1), "--limit"),
        (("visits", "tp-1", "--page-size", 0), "--page-size"),
        (("visits", "tp-1", "--prefetch", 0), "--prefetch"),
        (("touchpoints", "exp-1", "--offset", -1), "--offset"),
        (("visits", "tp-1", "--format", "xml"), "--format"),
        (("visits", ""), "touchpoint_id"),
        (("user", "user-1"), "--experience"),
        (("impression",), "IMPRESSION_ID"),
    ],
)
def test_what_cannot_be_meant_is_2_and_asks_nothing(
    words: tuple[object, ...], problem: str, command: Command, distinct_server: FakeServer
) -> None:
    assert 2 == command(*words)
    assert problem.lower().replace("_", "-") in command.err.lower().replace("_", "-")
    assert ("", []) == (command.out, distinct_server.requests)


def test_what_is_asked_for_reaches_the_server(command: Command, distinct_server: FakeServer) -> None:
    assert 0 == command("touchpoints", "exp-1", "--page-size", 7)
    assert 0 == command("visits", "tp-1", "--experience", "exp-1", "--page-size", 9, "--prefetch", 1)
    first, second, *_ = [request.query for request in distinct_server.requests]
    assert ("7", "9", "exp-1") == (first["pageSize"], second["pageSize"], second["experienceId"])
    assert 1 == distinct_server.max_in_flight
    distinct_server.latency = 0.05
    assert 0 == command("visits", "tp-1", "--page-size", 9, "--prefetch", 3)
    assert 3 == distinct_server.max_in_flight


def test_no_more_is_asked_in_a_second_than_was_allowed(command: Command, distinct_server: FakeServer) -> None:
    begun = time.monotonic()
    assert 0 == command("visits", "tp-1", "--page-size", 30, "--rate-limit", 40)
    assert time.monotonic() - begun >= (len(distinct_server.requests) - 1) / 40 > 0.1
    assert 2 == command("visits", "tp-1", "--rate-limit", 0)


def test_a_table_in_a_pipe_has_a_line_for_each_row_and_numbers_at_the_right(
    command: Command, distinct_world: World
) -> None:
    distinct_world.add_touchpoint("tp-9", "A name " * 30, experience_id="exp-1")
    assert 0 == command("touchpoints", "exp-1", "--format", "table")
    assert [4, True] == [len(command.out.splitlines()), "\x1b" not in command.out]
    assert [] == [line for line in command.out.splitlines() if line.endswith(" ")]
    assert command.out.splitlines()[-1].endswith("  0")


def test_names_from_outside_cannot_move_the_cursor(command: Command, distinct_world: World) -> None:
    distinct_world.add_touchpoint("tp-9", "\x1b[2J[red]Door[/]", experience_id="exp-1")
    assert 0 == command("touchpoints", "exp-1", "--format", "table")
    assert "�[2J[red]Door[/]" in command.out
