"""`distinct-async serve`: the fake vendors as a process, announced in one line, stopped silently."""

import asyncio
import json
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from distinct_async import DistinctClient, RetryPolicy
from distinct_async.cli.serve import _run_in_thread, parse_fault, parse_seconds
from distinct_async.errors import ServerError
from distinct_async.testing import World
from tests.cli.command import called, changed, environment, installed, piped
from tests.documents import ROOT, lay_out


@contextmanager
def serving(*words: str, command: Sequence[str] = ()) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """The process, and what its first line says."""
    with subprocess.Popen(
        [*(command or installed()), "serve", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environment(PYTHONUNBUFFERED=""),
    ) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def client_of(settings: dict[str, str]) -> DistinctClient:
    url, key, vantio_key = settings["url"], settings["api_key"], settings["vantio_api_key"]
    once = RetryPolicy(attempts=1)
    return DistinctClient(key, vantio_api_key=vantio_key, base_url=url, vantio_base_url=url, retry=once)


def interrupted(
    process: subprocess.Popen[str], settings: dict[str, str], number: signal.Signals
) -> tuple[int, str, str]:
    """The exit code, stdout and stderr after a signal while a request waits."""
    host, _, port = settings["url"].removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as asking:
        asking.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    return process.returncode, out, err


async def test_one_line_reports_where_the_ordered_sample_is() -> None:
    with serving("--touchpoints", "2", "--scans", "220", "--seed", "3") as (_, settings):
        async with client_of(settings) as client:
            metrics = await client.metrics.experience("exp-1")
            rows = await client.metrics.total_visits("tp-2").collect()
            assert "imp_000220" == (await client.impressions.get("imp_000220")).id

    world = World.sample(touchpoints=2, scans=220, users=21, seed=3)
    assert [len(world.scans(each)) for each in world.touchpoints] == [each.total_visits for each in metrics.touchpoints]
    assert [(scan.user_id, scan.at) for scan in world.scans("tp-2")] == [
        (row.user_id, row.timestamp_utc) for row in rows
    ]


async def test_a_world_that_grows_has_new_scans_at_the_ends_of_its_lists() -> None:
    with serving("--touchpoints", "1", "--scans", "10", "--grow", "100") as (_, settings):
        async with client_of(settings) as client:
            before = await client.metrics.total_visits("tp-1").collect()
            while (await client.metrics.experience("exp-1")).touchpoints[0].total_visits < len(before) + 5:
                pass
            after = await client.metrics.total_visits("tp-1").collect()

    assert before == after[: len(before)]


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_without_a_word_even_in_the_middle_of_an_answer(number: signal.Signals) -> None:
    with serving("--scans", "10", "--fault", "hang") as (process, settings):
        assert (0, "", "") == interrupted(process, settings, number)


async def test_faults_strike_in_the_order_given_and_the_same_for_a_seed() -> None:
    first, second = random.Random(3), random.Random(4)  # else the second would only repeat the first
    expected = [502 if first.random() < 0.5 else 503 if second.random() < 0.5 else 504 for _ in range(20)]

    seen, faults = [], ("--fault", "502:0.5", "--fault", "503:0.5", "--fault", "504")
    with serving("--scans", "10", "--seed", "3", *faults) as (_, settings):
        async with client_of(settings) as client:
            for _ in expected:
                with pytest.raises(ServerError) as caught:
                    await client.metrics.experience("exp-1")
                seen.append(caught.value.status)
    assert expected == seen


async def test_the_file_of_the_how_to_is_served(tmp_path: Path) -> None:
    lay_out(ROOT / "docs" / "how-to" / "testing.md", tmp_path)
    with serving("--data", str(tmp_path / "world.json"), "--scans", "500000") as (process, settings):
        async with client_of(settings) as client:
            metrics = await client.metrics.experience("exp-1")
            assert [("tp-1", "Entry Scan", 1), ("tp-2", None, 1)] == [
                (each.id, each.name, each.total_visits) for each in metrics.touchpoints
            ]
            assert 0 == (await client.metrics.experience("exp-empty")).total_touchpoints
            assert "192.168.1.1" == (await client.impressions.get("imp_123abc")).ip_address
        process.terminate()
        assert "" == process.communicate(timeout=20)[1]  # no sample is made


async def test_every_answer_takes_the_latency() -> None:
    with serving("--scans", "10", "--latency", "300ms") as (_, settings):
        async with client_of(settings) as client, client.metrics.total_visits("tp-1").run() as run:
            _ = [row async for row in run]
    assert run.report.on_wire >= 0.3


async def test_a_sample_that_is_ready_after_the_end_is_dropped_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    over, raised = threading.Event(), list[object]()
    monkeypatch.setattr(threading, "excepthook", raised.append)

    def make_world() -> World:
        over.wait()
        return World()

    task = asyncio.create_task(_run_in_thread(make_world))
    await asyncio.sleep(0)
    (thread,) = (each for each in threading.enumerate() if each.name == "distinct-async-serve")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    over.set()
    thread.join()
    assert [] == raised


def test_a_port_that_is_taken_is_named_and_exits_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert 2 == called(monkeypatch, "serve", "--port", port, "--scans", "10")
    shown = capsys.readouterr()
    assert "" == shown.out
    assert f"--port: {port} is in use; choose another, or --port 0" in shown.err


@pytest.mark.parametrize(
    "words",
    [
        ("--port", "65536"),
        ("--touchpoints", "0"),
        ("--scans", "-1"),
        ("--fault", "503:often"),
        ("--fault", "wat"),
        ("--latency", "5"),
        ("--data", "no-such-file"),
        ("--bad",),
        ("bad",),
    ],
)
def test_a_wrong_word_is_named_and_exits_2(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 2 == called(monkeypatch, "serve", *words)
    shown = capsys.readouterr()
    said, hint = shown.err.splitlines()
    assert "" == shown.out
    assert [] == [word for word in words if word not in said]
    assert "Try: distinct-async serve --help" == hint


def test_a_file_that_is_none_is_named_with_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "world.json"
    data.write_text('{"scans": [{"touchpoint_id": "tp-1", "user_id": "user-1", "at": "noon"}]}', encoding="utf-8")
    assert 2 == called(monkeypatch, "serve", "--data", str(data))
    shown = capsys.readouterr().err
    assert str(data) in shown
    assert "`$.scans[0]`" in shown


@pytest.mark.parametrize(
    ("text", "status", "wire", "probability"),
    [("503", 503, None, 1), ("429:0.25", 429, None, 0.25), ("drip", None, "drip", 1), ("close:1", None, "close", 1)],
)
def test_a_fault_is_a_status_or_a_word_with_a_probability(
    text: str, status: int | None, wire: str | None, probability: float
) -> None:
    fault = parse_fault(text, 3)
    assert (status, wire, probability, 3) == (fault.status, fault.wire, fault.probability, fault.seed)


@pytest.mark.parametrize("text", ["", ":", "503:", "503:1.1", "503:-0.1", "503:nan", "99", "100", "600", "5o3", "٥٠٣"])
def test_what_is_no_fault_is_refused(text: str) -> None:
    with pytest.raises(Exception, match="--fault"):
        parse_fault(text, 0)


@pytest.mark.parametrize(("text", "expected"), [("50ms", 0.05), ("1.5s", 1.5), ("0ms", 0)])
def test_a_latency_has_its_unit(text: str, expected: float) -> None:
    assert expected == parse_seconds(text)


@pytest.mark.parametrize("text", ["", "5", "ms", "-1s", "1e3ms", "50 ms", "1h", ".5s"])
def test_what_is_no_latency_is_refused(text: str) -> None:
    with pytest.raises(Exception, match="--latency"):
        parse_seconds(text)


def test_its_help_loads_neither_aiohttp_nor_the_fake_vendors() -> None:
    program = "import atexit, sys; atexit.register(lambda: print(*sys.modules))"
    loaded = {*piped(changed(program), "serve", "--help").stdout.split()}
    assert {"cyclopts"} == {"cyclopts", "aiohttp", "distinct_async.testing", "distinct_async.cli.serve"} & loaded


async def test_a_sample_of_several_experiences_has_the_touchpoints_by_turns() -> None:
    with serving("--touchpoints", "3", "--scans", "60", "--experiences", "2") as (_, settings):
        async with client_of(settings) as client:
            shared = [(await client.metrics.experience(each)).touchpoints for each in ("exp-1", "exp-2")]

    assert [["tp-1", "tp-3"], ["tp-2"]] == [[each.id for each in one] for one in shared]
    assert 60 == sum(each.total_visits for one in shared for each in one)


# A sample of 22 scans that is not made before a file exists, whatever was ordered.
GATED = """
import time
from pathlib import Path
from distinct_async.testing import World
sample = World.sample
def gated(**_):
    while not Path({path!r}).exists():
        time.sleep(0.01)
    return sample(touchpoints=1, scans=22, users=3, seed=7)
World.sample = gated
"""


async def test_it_listens_at_once_and_requests_wait_for_the_sample(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with serving("--scans", "500000", "--grow", "200", command=changed(GATED.format(path=str(gate)))) as (
        process,
        settings,
    ):
        assert process.stderr is not None
        assert "making 500,000 scans; requests wait until they are ready\n" == process.stderr.readline()
        async with client_of(settings) as client:
            early = asyncio.ensure_future(client.metrics.total_visits("tp-1").collect())
            done, _ = await asyncio.wait([early], timeout=0.3)
            assert set() == done
            gate.touch()
            rows = await early
        assert re.fullmatch(r"500,000 scans are ready after \d+ s\n", process.stderr.readline())

    scans = World.sample(touchpoints=1, scans=22, users=3, seed=7).scans("tp-1")
    assert [(scan.user_id, scan.at) for scan in scans] == [(row.user_id, row.timestamp_utc) for row in rows[:22]]


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_without_a_word_while_it_makes_the_sample(number: signal.Signals, tmp_path: Path) -> None:
    command = changed(GATED.format(path=str(tmp_path / "never")))
    with serving("--scans", "10", command=command) as (process, settings):
        assert (0, "", "") == interrupted(process, settings, number)


def test_a_sample_that_cannot_be_made_ends_it_with_the_error() -> None:
    failing = "from distinct_async.testing import World\ndef fail(**_):\n    raise MemoryError\nWorld.sample = fail"
    with serving("--scans", "10", command=changed(failing)) as (process, _):
        out, err = process.communicate(timeout=20)
    assert (1, "") == (process.returncode, out)
    assert "distinct-async: this is a bug: MemoryError; --debug shows where; please report it\n" == err
