"""The command ``report``: its file, its row, and its exit codes."""

import json
import sys
from pathlib import Path

import pytest

from distinct_async.testing import FakeServer, World
from tests.cli.command import Command, installed
from tests.extras.etl.reading import Page

pytestmark = pytest.mark.usefixtures("distinct_env")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def test_a_report_is_written_and_a_row_says_what_it_shows(
    command: Command, distinct_world: World, distinct_server: FakeServer, tmp_path: Path
) -> None:
    file, warehouse = tmp_path / "report.html", tmp_path / "warehouse.duckdb"
    words = ("--timezone", "Europe/Berlin", "--program", "prog_exp-1")
    assert 0 == command("report", "exp-1", "-o", file, "--warehouse", warehouse, *words)
    visitors = len(distinct_world.users)
    expected = {"file": str(file), "timezone": "Europe/Berlin", "visits": 1000, "visitors": visitors}
    assert {**expected, "missing": 0, "complete": True} == json.loads(command.out)
    assert "" == command.err
    assert 11 == len(Page(file).titles)

    distinct_server.requests.clear()
    days = ("--from", "2026-06-06", "--until", "2026-06-07")
    assert 0 == command("report", "exp-1", "-o", file, "--warehouse", warehouse, "--offline", "--interactive", *days)
    scans = [scan for one in distinct_world.touchpoints for scan in distinct_world.scans(one)]
    expected = {"visits": sum(scan.at.day in {6, 7} for scan in scans), "timezone": "UTC"}
    assert expected == {name: json.loads(command.out)[name] for name in expected}
    assert "script" in Page(file).elements
    assert [] == distinct_server.requests


def test_without_impressions_the_report_says_what_is_missing(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    assert 0 == command("report", "exp-1", "-o", file, "--no-impressions")
    assert "The warehouse has no impressions, so there are no devices" == Page(file).titles[-1]
    assert "They need a Vantio key, in VANTIO_API_KEY." in Page(file).text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--offline"], "--offline reads a warehouse"),
        (["--from", "2026-06-02", "--until", "2026-06-01"], "--from 2026-06-02 is after --until 2026-06-01"),
        (["--timezone", "Mars/Olympus"], "'Mars/Olympus' is unknown"),
        (["--from", "yesterday"], "yesterday"),
        (["--warehouse", "report.html"], "lead to one file"),
        (["--warehouse", "none.duckdb", "--offline"], "none.duckdb does not exist"),
    ],
)
def test_an_invalid_option_is_exit_2_before_anything_is_sent(
    command: Command,
    distinct_server: FakeServer,
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert 2 == command("report", "exp-1", "-o", "report.html", *words)
    assert said in command.err
    assert ([], []) == (distinct_server.requests, list(tmp_path.iterdir()))


@pytest.mark.skipif(sys.platform == "win32", reason="terminals as POSIX has them")
@pytest.mark.timeout(60)  # a process that draws
def test_offline_a_terminal_shows_no_requests(command: Command, tmp_path: Path) -> None:
    from tests.cli.test_console import lines, on_terminal  # noqa: PLC0415  # it is skipped where there are none

    file, warehouse = tmp_path / "report.html", tmp_path / "warehouse.duckdb"
    assert 0 == command("sync", "exp-1", warehouse)
    words = ("report", "exp-1", "-o", str(file), "--warehouse", str(warehouse), "--offline")
    code, drawn = on_terminal(installed(), 200, words=words)
    assert (0, ["file", str(file)]) == (code, [line.split()[0] for line in lines(drawn) if line])
