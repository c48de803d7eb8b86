"""`distinct-async visits` with `--last`, `--since` and `--until`."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from distinct_async.testing import FakeServer, World
from tests.cli.command import Command

pytestmark = pytest.mark.usefixtures("distinct_env")
OPENING = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture(autouse=True)
def _scans(distinct_world: World) -> None:
    """Visits to tp-x: two in each hour of two days, at the same minute; its list is tp-x, and tp-down's is reversed."""
    distinct_world.add_touchpoint("tp-x")
    distinct_world.add_touchpoint("tp-down")
    distinct_world.add_touchpoint("tp-empty")
    for number in range(96):
        at = OPENING + timedelta(hours=number // 2)
        distinct_world.add_scan("tp-x", f"user-{number}", at)
        distinct_world.add_scan("tp-down", f"user-{number}", OPENING - timedelta(hours=number))


def users(command: Command) -> list[int]:
    return [int(json.loads(line)["user_id"].removeprefix("user-")) for line in command.out.splitlines()]


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (range(91, 96), ["--last", 5]),
        (range(91, 93), ["--last", 5, "--limit", 2]),
        (range(96), ["--last", 1000]),
        (range(48, 96), ["--since", "2026-06-02"]),
        (range(48), ["--until", "2026-06-02T00:00:00Z"]),
        (range(20, 24), ["--since", "2026-06-01T10:00:00Z", "--until", "2026-06-01T12:00:00"]),
        (range(20, 24), ["--since", "2026-06-01T12:00:00+02:00", "--until", "2026-06-01T11:59:59Z"]),
        (range(20, 23), ["--since", "2026-06-01T10:00:00Z", "--until", "2026-06-02", "--limit", 3]),
        ([], ["--since", "2026-06-02", "--until", "2026-06-01"]),
        ([], ["--since", "2027-01-01"]),
        (range(96), ["--since", "2020-01-01", "--until", "2030-01-01", "--visits-type", "UNIQUE"]),
    ],
    ids=str,
)
def test_visits_of_a_period_are_those_within_it(expected: range, words: list[object], command: Command) -> None:
    assert 0 == command("visits", "tp-x", *words)
    assert [*expected] == users(command)


def test_a_period_is_found_by_few_small_requests(command: Command, distinct_server: FakeServer) -> None:
    distinct_server.requests.clear()
    assert 0 == command("visits", "tp-x", "--since", "2026-06-01T10:00:00Z", "--until", "2026-06-01T11:00:00Z")
    small = [each for each in distinct_server.requests if each.query.get("pageSize") == "1"]
    assert [20, 21] == users(command)
    assert 2 + 2 * 7 >= len(small) >= len(distinct_server.requests) - 1


@pytest.mark.parametrize(
    ("rows", "said", "words"),
    [
        (20, "and 28 more: --limit shows more", ["--until", "2026-06-02"]),
        (30, "and 18 more: --limit shows more", ["--until", "2026-06-02", "--limit", 30]),
        (4, "", ["--since", "2026-06-01T10:00:00Z", "--until", "2026-06-01T12:00:00"]),
        (0, "no visits\n", ["--since", "2026-06-02", "--until", "2026-06-01"]),
        (30, "", ["--last", 30]),
    ],
    ids=str,
)
def test_a_table_says_how_many_more_are_in_the_period(
    rows: int, said: str, words: list[object], command: Command
) -> None:
    assert 0 == command("visits", "tp-x", *words, "--format", "table")
    assert (rows, said) == (command.out.count("user-"), command.err.partition(", --format")[0])


@pytest.mark.parametrize("option", ["--since", "--until"])
def test_a_list_that_is_not_sorted_oldest_first_is_refused(option: str, command: Command) -> None:
    assert 2 == command("visits", "tp-down", option, "2026-05-30")
    assert "need visits sorted oldest-first, and these are not; read all of them" in command.err
    assert "" == command.out


def test_a_period_of_an_empty_list_is_empty(command: Command) -> None:
    assert 0 == command("visits", "tp-empty", "--since", "2026-05-30")
    assert ("", "") == (command.out, command.err)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("--since yesterday: not a time like 2026-06-01", ["--since", "yesterday"]),
        ("--until 2026-13-01: not a time", ["--until", "2026-13-01"]),
        ("--since 0001-01-01T00:00:00+10:00: not a time", ["--since", "0001-01-01T00:00:00+10:00"]),
        ("--last and --offset contradict each other", ["--last", 5, "--offset", 3]),
        ("cannot be combined with --last, --offset or --checkpoint", ["--since", "2026-06-01", "--last", 3]),
        ("cannot be combined with --last, --offset or --checkpoint", ["--until", "2026-06-01", "--checkpoint", "c"]),
        ("Must be >= 1", ["--last", 0]),
    ],
    ids=str,
)
def test_options_that_cannot_be_meant_are_refused_before_any_request(
    said: str, words: list[object], command: Command, distinct_server: FakeServer
) -> None:
    distinct_server.requests.clear()
    assert 2 == command("visits", "tp-x", *words)
    assert (True, []) == (said in command.err, distinct_server.requests)
