"""The command as a process that reads the vendors: pipes that close, signals, memory."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from distinct_async import Checkpoint
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
