"""What the demo shows, in a pipe."""

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from distinct_async.cli import demo as shown
from distinct_async.cli.demo import Outcome
from distinct_async.testing import FakeServer, Scan, World
from tests.cli.command import called, installed, piped

pytestmark = pytest.mark.timeout(120)  # the demo starts processes


@pytest.fixture(scope="module")
def demo() -> subprocess.CompletedProcess[str]:
    """Run it as it is, with the variable that test runners set to get colours from their children."""
    return piped(installed(), "demo", FORCE_COLOR="1", COLUMNS="200")


@pytest.fixture(scope="module")
def world() -> World:
    """What the demo's vendors know."""
    return World.sample(touchpoints=3, scans=100_000, users=9_000, seed=7)


@pytest.fixture(scope="module")
def scans(world: World) -> Mapping[str, tuple[Scan, ...]]:
    """All scans, by the touchpoint's name."""
    return {str(world.touchpoint(one).name): world.scans(one) for one in world.touchpoints}


def section(shown: str, title: str) -> list[str]:
    """Return the lines under a heading: those that are indented."""
    lines = shown.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(title)) + 1
    end = next((number for number, line in enumerate(lines[start:], start) if line[:1].strip()), len(lines))
    return [line.strip() for line in lines[start:end] if line.strip()]


def numbers(line: str) -> list[int]:
    return [int(word.replace(",", "")) for word in line.split() if word.replace(",", "").isdigit()]


def test_it_ends_well_and_says_nothing_on_stderr(demo: subprocess.CompletedProcess[str]) -> None:
    assert (0, "") == (demo.returncode, demo.stderr)


def test_piped_lines_are_plain_and_at_most_80_wide(demo: subprocess.CompletedProcess[str]) -> None:
    assert set() == {"\x1b", "\r", "━"} & {*demo.stdout}
    assert 80 >= max(map(len, demo.stdout.splitlines()))


def test_the_experience_is_the_worlds(
    demo: subprocess.CompletedProcess[str], scans: Mapping[str, tuple[Scan, ...]]
) -> None:
    expected = [[len(each), len({scan.user_id for scan in each})] for each in scans.values()]
    _, _, *rows = section(demo.stdout, "An experience")
    assert expected == [numbers(row) for row in rows]
    assert ["54.6%", "27.2%", "18.2%"] == re.findall(r"\S+%", " ".join(rows))


def test_a_users_history_is_the_worlds(
    demo: subprocess.CompletedProcess[str], scans: Mapping[str, tuple[Scan, ...]]
) -> None:
    user_id = scans["Entry Scan"][0].user_id
    expected = []
    for name, each in scans.items():
        times = [scan.at for scan in each if scan.user_id == user_id]
        expected.append(f"{name} {len(times)} {min(times):%Y-%m-%d %H:%M} {max(times):%Y-%m-%d %H:%M}")
    call, _, *rows = section(demo.stdout, "A user")
    assert f'client.metrics.user("{user_id}", experience_id="exp-1")' == call
    assert expected == [" ".join(row.split()) for row in rows]


def test_each_walk_is_one_line_with_its_pages(
    demo: subprocess.CompletedProcess[str], scans: Mapping[str, tuple[Scan, ...]]
) -> None:
    expected = [[len(each), -(-len(each) // 500), 0] for each in scans.values()]
    assert expected == [numbers(line) for line in section(demo.stdout, "Every visit")[1:]]


def test_unique_visitors_are_the_worlds(
    demo: subprocess.CompletedProcess[str], scans: Mapping[str, tuple[Scan, ...]]
) -> None:
    visits, visitors = len(scans["Entry Scan"]), len({scan.user_id for scan in scans["Entry Scan"]})
    line = f"{visitors:,} visitors at Entry Scan, {visits / visitors:.1f} visits each"
    assert line == section(demo.stdout, "Unique visitors")[-1]


def test_the_impression_is_the_worlds(demo: subprocess.CompletedProcess[str], world: World) -> None:
    call, *rows = section(demo.stdout, "An impression")
    expected = world.impression("imp_000001")
    shown = dict(row.split(maxsplit=1) for row in rows)
    assert 'client.impressions.get("imp_000001")' == call
    assert [expected["poster_id"], expected["program_id"]] == [shown["Poster"], shown["Program"]]


def test_hand_written_loops_lose_rows_and_the_killed_command_loses_none(
    demo: subprocess.CompletedProcess[str], scans: Mapping[str, tuple[Scan, ...]]
) -> None:
    total = len(scans["Main Stage"])
    pages = -(-total // 500)
    kept = sum(min(200, total - 500 * page) for page in range(pages))
    *_, short, empty, library, killed, _, verdict = section(demo.stdout, "A server that misbehaves")
    assert [[200, total - 200, 0], [kept, total - kept, 0], [total, 0, 0]] == [
        numbers(line)[:3] for line in (short, empty, library)
    ]
    assert 0 < numbers(killed)[0] < total
    assert f"A naive loop lost {total - kept:,} rows; this one lost 0." == verdict


def test_a_database_is_synced_twice_and_the_second_time_asks_only_for_what_is_new(
    demo: subprocess.CompletedProcess[str], scans: Mapping[str, tuple[Scan, ...]]
) -> None:
    call, *rows = section(demo.stdout, "A database that stays up to date")
    assert 'etl.sync(client, "exp-1", "warehouse.duckdb")' == call
    if not all(map(find_spec, ("duckdb", "pyarrow", "pytz"))):
        assert "Not shown: this job needs an extra:" == rows[0]
        assert rows[1].startswith('python -m pip install "distinct-async[')
        return
    _, first, later = map(numbers, rows)
    assert sum(len(each) + len({scan.user_id for scan in each}) for each in scans.values()) == first[0]
    assert [100, True, 3] == [later[0], 100 <= later[1] <= 200, later[2]]


def test_the_check_compares_rows_walked_declared_and_in_the_world(
    demo: subprocess.CompletedProcess[str], scans: Mapping[str, tuple[Scan, ...]]
) -> None:
    counts = [*map(len, scans.values()), 100_000, len({scan.user_id for scan in scans["Entry Scan"]})]
    _, *rows, decision = section(demo.stdout, "Check: ")
    assert [[count] * 3 for count in counts] == [numbers(row) for row in rows]
    assert ["equal"] * 5 == [row.split()[-1] for row in rows]
    assert "It holds: 100,000 rows, none lost, none repeated." == decision


def found(monkeypatch: pytest.MonkeyPatch, library: Outcome) -> None:
    """Let the comparison find this, without its processes."""

    async def compare(*_: object) -> tuple[Outcome, Outcome, Outcome, int]:
        return library, library, library, 50

    monkeypatch.setattr(shown, "compare", compare)


@pytest.fixture
def _compared(monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, Outcome(100, 0, 0))


@pytest.mark.parametrize(("lost", "repeated", "code"), [(0, 0, 0), (1, 0, 1), (0, 1, 1)])
def test_a_row_that_the_killed_command_lost_or_repeated_is_exit_code_1(
    lost: int, repeated: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = World.sample(touchpoints=3, scans=300, users=40)
    monkeypatch.setattr(World, "sample", lambda **_: small)
    found(monkeypatch, Outcome(100, lost, repeated))
    assert code == called(monkeypatch, "demo")
    assert "It holds: 300 rows" in capsys.readouterr().out


@pytest.mark.usefixtures("_compared")
@pytest.mark.parametrize(
    "lie", [lambda true: true[1:], lambda true: true[::-1], lambda true: true * 2], ids=["lost", "moved", "doubled"]
)
def test_a_check_that_does_not_hold_says_so_and_exits_1(
    lie: Callable[[tuple[Scan, ...]], tuple[Scan, ...]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small, scans = World.sample(touchpoints=3, scans=300, users=40), World.scans
    monkeypatch.setattr(World, "sample", lambda **_: small)
    monkeypatch.setattr(World, "scans", lambda world, one: lie(scans(world, one)))
    assert 1 == called(monkeypatch, "demo")
    _, *rows, decision = section(capsys.readouterr().out, "Check: ")
    assert ["differ"] * 4 + ["equal"] == [row.split()[-1] for row in rows]
    assert decision.startswith("It does not hold")


@pytest.mark.usefixtures("_compared")
def test_a_total_that_was_declared_otherwise_does_not_pass_the_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small, tell = World.sample(touchpoints=3, scans=300, users=40), FakeServer._experience

    def tell_and_grow(fake: FakeServer, *asked: Any) -> bytes:
        text = tell(fake, *asked)
        fake.world.grow(1, "tp-2")
        return text

    monkeypatch.setattr(World, "sample", lambda **_: small)
    monkeypatch.setattr(FakeServer, "_experience", tell_and_grow)
    assert 1 == called(monkeypatch, "demo")
    _, *rows, _ = section(capsys.readouterr().out, "Check: ")
    assert ["equal", "differ", "equal", "differ", "equal"] == [row.split()[-1] for row in rows]


def test_it_says_how_to_do_the_same_with_real_keys(demo: subprocess.CompletedProcess[str]) -> None:
    text = " ".join(section(demo.stdout, "The same with your own keys"))
    assert "DISTINCT_API_KEY=" in text
    assert "VANTIO_API_KEY=" in text
    assert "Vantio is a second service, with a key of its own" in text


def test_it_ends_with_the_path_of_a_report(demo: subprocess.CompletedProcess[str]) -> None:
    packages = ("duckdb", "pyarrow", "pytz", "ua_parser", "vl_convert")
    if not all(map(find_spec, packages)):
        assert "distinct-async-" not in demo.stdout
        return
    file = Path(demo.stdout.split()[-1])
    assert "Peak: " in file.read_text(encoding="utf-8")
    shutil.rmtree(file.parent)
