"""Rows to a pipe that closes, through signals and onto full disks; and the table of touchpoints on a terminal."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from distinct_async import Checkpoint
from distinct_async.cli.output import _ENCODERS
from distinct_async.cli.reading import TOUCHPOINT
from distinct_async.models import TouchpointSummary
from distinct_async.testing import FakeServer, World
from tests.cli.command import changed, environment, installed, piped, through

pytestmark = [
    pytest.mark.timeout(120),  # processes
    pytest.mark.usefixtures("distinct_env"),
    pytest.mark.skipif(sys.platform == "win32", reason="signals and pipes as POSIX has them"),
]

ASKED = ("visits", "tp-1", "--page-size", "100")


@pytest.fixture
def distinct_world() -> World:
    return World.sample(touchpoints=1, scans=20_000, users=900, seed=7)


def started(*words: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([*installed(), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())


def test_a_reader_who_leaves_is_no_error_and_moves_no_checkpoint(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    with started(*ASKED, "--checkpoint", str(checkpoint)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = json.loads(process.stdout.readline())
        process.stdout.close()
        assert b"" == process.stderr.read()
    assert (141, ["user_id", "timestamp_utc"]) == (process.returncode, list(first))
    assert not checkpoint.exists()


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])  # the last is not there on Windows
def test_ctrl_c_keeps_what_was_written_and_the_next_run_has_the_rest(
    number: str, distinct_server: FakeServer, distinct_world: World, tmp_path: Path
) -> None:
    target, checkpoint = tmp_path / "visits.jsonl", tmp_path / "checkpoint"
    words = (*ASKED, "-o", str(target), "--checkpoint", str(checkpoint))
    distinct_server.fail(wire="hang", query={"offset": "1000"})
    with started(*words) as process:
        while not any(request.query.get("offset") == "1000" for request in distinct_server.requests):
            assert process.poll() is None
        process.send_signal(signal.Signals[number])
        out, err = process.communicate(timeout=20)
    position = Checkpoint.from_json(checkpoint.read_text()).position
    kept = f"{position:,} visits were written; the same command continues after row {position:,}\n"
    assert (128 + signal.Signals[number], b"") == (process.returncode, out)
    assert err.decode().endswith(kept)
    assert 0 < position == len(target.read_text(encoding="utf-8").splitlines()) <= 1_000

    distinct_server.faults.clear()
    assert 0 == piped(installed(), *words).returncode
    rows = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert [scan.user_id for scan in distinct_world.scans("tp-1")] == [each["user_id"] for each in rows]


def test_under_nohup_it_outlives_its_terminal(distinct_server: FakeServer, tmp_path: Path) -> None:
    target = tmp_path / "visits.jsonl"
    distinct_server.latency = 0.02
    with subprocess.Popen(
        [*through('trap "" HUP; exec "$@"'), *ASKED, "-o", str(target)], env=environment()
    ) as process:
        while len(distinct_server.requests) < 3:
            assert process.poll() is None
        process.send_signal(signal.SIGHUP)
    assert (0, 20_000) == (process.returncode, len(target.read_text(encoding="utf-8").splitlines()))


def test_a_full_disk_keeps_the_pages_that_had_room(distinct_world: World, tmp_path: Path) -> None:
    target, checkpoint = tmp_path / "visits.jsonl", tmp_path / "checkpoint"
    words = (*ASKED, "-o", str(target), "--checkpoint", str(checkpoint))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    done = piped(changed(limit), *words)
    position = Checkpoint.from_json(checkpoint.read_text()).position
    kept = f"{position:,} visits were written; the same command continues after row {position:,}\n"
    assert (8, "") == (done.returncode, done.stdout)
    assert f"--output {target}: File too large; {kept}" in done.stderr
    assert {checkpoint, target} == {*tmp_path.iterdir()}
    assert position == len(target.read_text(encoding="utf-8").splitlines())

    assert 0 == piped(installed(), *words).returncode
    rows = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert [scan.user_id for scan in distinct_world.scans("tp-1")] == [each["user_id"] for each in rows]


def test_killed_in_the_middle_it_repeats_and_loses_no_row(
    distinct_server: FakeServer, distinct_world: World, tmp_path: Path
) -> None:
    target, checkpoint = tmp_path / "visits.csv", tmp_path / "checkpoint"
    words = (*ASKED, "-o", str(target), "--checkpoint", str(checkpoint))
    distinct_server.latency = 0.01
    for _ in range(2):
        distinct_server.fail(wire="hang", nth=40)
        with started(*words) as process:
            while len(distinct_server.requests) < 40:
                assert process.poll() is None
            process.kill()
        distinct_server.faults.clear()
        distinct_server.requests.clear()
    distinct_server.latency = 0
    with target.open("ab") as file:  # what no checkpoint covers yet
        file.write(b"torn,row\nto")
    assert 0 == piped(installed(), *words).returncode
    names, *rows = target.read_text(encoding="utf-8").splitlines()
    assert "user_id,timestamp_utc" == names
    assert [scan.user_id for scan in distinct_world.scans("tp-1")] == [row.partition(",")[0] for row in rows]
    assert {checkpoint, target} == {*tmp_path.iterdir()}


# The table of touchpoints: shares, visits per visitor, bars and a total.


def shown(*rows: TouchpointSummary, width: int, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    table = _ENCODERS["table"](TOUCHPOINT, terminal=True)
    assert b"" == table.encode(rows)
    return [line.split() for line in re.sub(r"\x1b\[[\d;]*m", "", table.end().decode()).splitlines()]


def summary(number: int, total: int, unique: int) -> TouchpointSummary:
    return TouchpointSummary(f"tp-{number}", f"Door{number}", f"door_{number}", total, unique)


def test_a_terminal_has_shares_bars_and_a_total(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (summary(1, 3000, 1000), summary(2, 999, 300), summary(3, 1, 1), summary(4, 0, 0))
    head, *lines = shown(*rows, width=90, monkeypatch=monkeypatch)
    assert ["id", "name", "total_visits", "unique_visits", "share", "per_visitor"] == head
    assert [
        ["tp-1", "Door1", "3,000", "1,000", "75.0%", "3.00", "█" * 10],
        ["tp-2", "Door2", "999", "300", "25.0%", "3.33", "█" * 4],
        ["tp-3", "Door3", "1", "1", "0.0%", "1.00", "█"],
        ["tp-4", "Door4", "0", "0", "0.0%"],
        ["total", "4,000", "100.0%"],
    ] == lines


def test_no_visits_are_no_division(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ["total", "0"] == shown(summary(1, 0, 0), width=90, monkeypatch=monkeypatch)[-1]


def test_a_narrow_terminal_and_a_pipe_have_the_vendors_columns_only(monkeypatch: pytest.MonkeyPatch) -> None:
    head, *lines = shown(summary(1, 3000, 1000), width=60, monkeypatch=monkeypatch)
    assert ["id", "name", "value", "total_visits", "unique_visits"] == head
    assert [["tp-1", "Door1", "door_1", "3,000", "1,000"]] == lines
