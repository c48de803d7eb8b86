"""The command on a terminal: what it draws, how wide, and how Ctrl-C leaves it."""

import io
import json
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import pytest
from rich.console import Console

from distinct_async import Checkpoint
from distinct_async.cli.console import Stderr, Waiting
from distinct_async.cli.options import CommonOptions
from distinct_async.testing import FakeServer, World
from tests.cli.command import COMPARED, SMALL, changed, environment, installed

pty = pytest.importorskip("pty", reason="terminals as POSIX has them")
termios = pytest.importorskip("termios")

NEEDS_DUCKDB = pytest.mark.skipif(find_spec("duckdb") is None, reason="a job of the extra duckdb")

# A vendor that is so slow that from one draw of the bars to the next, some of the rows have come.
SLOW_WORLD = {"touchpoints": 3, "scans": 10_000, "users": 900, "seed": 7}
SLOW = f"""
{COMPARED}
from functools import partial
demo.FakeServer = partial(demo.FakeServer, latency=0.2)
sample = demo.World.sample
demo.World.sample = lambda **_: sample(**{SLOW_WORLD})
"""

# One that falls silent in the middle: what is to be interrupted is not over before.
SILENT = """
from functools import partial
from distinct_async.cli import demo
from distinct_async.cli.console import Stderr, Waiting
from distinct_async.cli.options import CommonOptions
from distinct_async.testing import Fault
demo.FakeServer = partial(demo.FakeServer, faults=[Fault(query={"offset": "10000"}, wire="hang")])
"""

pytestmark = pytest.mark.timeout(120)  # whole demos are drawn
ESCAPE = re.compile(r"\x1b\[\??[\d;]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:[\d;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[\d;]*)?m")
# Not the terminal's own colours, which its user can read on its background, but of 256, or by their parts
FIXED = re.compile(r"\x1b\[[\d;]*[34]8;[25];[\d;]*m")


def on_terminal(
    command: list[str],
    columns: int,
    *,
    words: Sequence[str] = ("demo",),
    interrupt_at: str | None = None,
    stdout: IO[bytes] | None = None,
    **variables: str,
) -> tuple[int, str]:
    """Return the exit code and all that was drawn; with Ctrl-C as soon as a pattern appears."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    drawn = b""
    with subprocess.Popen(
        [*command, *words], stdin=theirs, stdout=stdout or theirs, stderr=theirs, env=environment(**variables)
    ) as process:
        os.close(theirs)
        try:
            while chunk := read(ours):
                drawn += chunk
                if interrupt_at is not None and re.search(interrupt_at, ESCAPE.sub("", drawn.decode(errors="ignore"))):
                    interrupt_at = None
                    process.send_signal(signal.SIGINT)
        except BaseException:
            process.kill()  # which would wait forever for somebody who reads
            raise
    os.close(ours)
    return process.returncode, drawn.decode("utf-8")


def read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # so Linux says that the other side is closed
        return b""


def lines(drawn: str) -> list[str]:
    """Return every line ever drawn, overdrawn ones too, without escape codes."""
    return re.split(r"[\r\n]+", ESCAPE.sub("", drawn))


def test_it_is_at_most_80_wide_and_its_bars_are_live() -> None:
    code, drawn = on_terminal(changed(SLOW), 80)
    seen = re.findall(r"(?:Entry Scan|Exit Scan|Main Stage) +━.* ([\d,]+) visits", "\n".join(lines(drawn)))
    world = World.sample(**SLOW_WORLD)
    ends = {f"{len(world.scans(each)):,}" for each in world.touchpoints}
    assert 0 == code
    assert 80 >= max(map(len, lines(drawn)))
    assert ends <= {*seen}
    assert {*seen} - {"0", *ends}, "nothing between the beginnings and the ends"
    assert COLOUR.search(drawn)
    assert None is FIXED.search(drawn)


def test_a_wide_terminal_is_not_filled() -> None:
    code, drawn = on_terminal(changed(SMALL), 200)
    assert 0 == code
    assert 80 >= max(map(len, lines(drawn)))


def test_in_60_columns_nothing_is_wrapped_or_cut_and_no_color_means_no_colour() -> None:
    code, drawn = on_terminal(changed(SMALL), 60, NO_COLOR="1")
    assert 0 == code
    assert 60 >= max(map(len, lines(drawn)))
    assert "The main job, on sample data: 3 touchpoints, 100,000 scans." in lines(drawn)
    assert [] == [line for line in lines(drawn) if "…" in line]
    assert None is COLOUR.search(drawn)
    assert "━" in drawn


def test_in_40_columns_no_figure_is_cut() -> None:
    code, drawn = on_terminal(changed(SMALL), 40, NO_COLOR="1")
    shown = lines(drawn)
    assert (0, []) == (code, [line for line in shown if "…" in line or "━" in line])
    assert {10} == {len(day) for day in re.findall(r"\b2026-[\d-]+", drawn)}
    assert [["300"] * 3] == [line.split()[1:4] for line in shown if line.startswith("All ") and "300" in line]
    assert "  client.metrics.total_visits(...).run(on_progress=...)" in shown  # in one piece, to be copied


def test_ctrl_c_ends_it_quietly_and_gives_the_cursor_back() -> None:
    code, drawn = on_terminal(changed(SILENT), 80, interrupt_at=" visits ")
    assert 130 == code
    assert "Traceback" not in drawn
    assert "Unique visitors" not in drawn
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")


@pytest.mark.usefixtures("distinct_env")
def test_rows_are_a_table_no_wider_than_the_terminal_and_nothing_is_cut(distinct_world: World) -> None:
    distinct_world.add_touchpoint("tp-9", "The door behind the second bar, left of the stage", "Q" * 50)
    code, drawn = on_terminal(installed(), 80, words=("touchpoints", "exp-1"))
    assert 0 == code
    assert 80 >= max(map(len, lines(drawn)))
    assert (50, False) == (drawn.count("Q"), "…" in drawn)
    assert ["total_visits", f"{len(distinct_world.scans('tp-1'))}"] in [line.split() for line in lines(drawn)]


@pytest.mark.usefixtures("distinct_env")
@pytest.mark.parametrize("columns", [30, 80])
def test_an_id_is_in_one_piece_however_narrow_the_terminal(columns: int, distinct_world: World) -> None:
    user = "user-" + "0123456789" * 4
    distinct_world.add_scan("tp-1", user, "2024-01-01T10:00:00Z")
    agent = "Mozilla/5.0 (X11; Linux x86_64) Gecko Firefox"
    distinct_world.add_impression("imp_9", poster_id="poster_1", user_agent=agent)
    for words, expected in (
        (("visits", "tp-1", "--limit", "2000", "--format", "table"), user),
        (("impression", "imp_9"), f"user_agent   {agent}"),
    ):
        code, drawn = on_terminal(installed(), columns, words=words, NO_COLOR="1")
        found = " ".join(lines(drawn)).split()
        assert (0, True) == (code, " ".join(expected.split()) in " ".join(found))
        assert set() == {"Moz", "Gec", "Fire"} & {*found}


@pytest.mark.usefixtures("distinct_env")
def test_a_bar_of_a_file_stays_on_the_screen_once(tmp_path: Path, distinct_world: World) -> None:
    total = len(distinct_world.scans("tp-1"))
    words = ("visits", "tp-1", "-o", str(tmp_path / "rows.csv"), "--page-size", "20")
    code, drawn = on_terminal(installed(), 80, words=words)
    kept = ESCAPE.sub("", re.sub(r"[^\n]*\x1b\[2K", "", drawn))  # what nothing was drawn over
    assert 0 == code
    assert [f"{total} of {total} visits"] == re.findall(rf"\d+ of {total} visits", kept)


@pytest.mark.usefixtures("distinct_env")
def test_in_40_columns_progress_is_figures_in_one_line(tmp_path: Path, distinct_world: World) -> None:
    total = len(distinct_world.scans("tp-1"))
    words = ("visits", "tp-1", "-o", str(tmp_path / "rows.csv"), "--page-size", "20")
    # However busy the machine is, no silence is explained in between
    command = changed("from distinct_async.cli import console\nconsole._SILENT_SECONDS = 60.0")
    code, drawn = on_terminal(command, 40, words=words)
    shown = [line.strip() for line in lines(drawn) if line.strip()]
    assert 0 == code
    assert re.fullmatch(rf"{total} of {total} visits +0 retries", shown[-1])
    assert [] == [line for line in shown if not re.fullmatch(rf"\d+( of {total})? visits( +0 retries)?", line)]


@pytest.mark.usefixtures("distinct_env")
def test_in_40_columns_the_fields_of_an_impression_are_not_wider() -> None:
    code, drawn = on_terminal(installed(), 40, words=("impression", "imp_000001"), NO_COLOR="1")
    shown = lines(drawn)
    assert (0, True) == (code, 40 >= max(map(len, shown)))
    assert 'metadata     {"device_type": "mobile",' in shown


def test_a_silence_is_explained_unless_all_rows_have_come() -> None:
    waiting = Waiting(90)
    waiting.since -= 5
    assert "attempt 1: no response for 5 s, 85 s left" == waiting.describe()
    waiting.respond(complete=True)
    waiting.since -= 5
    assert "" == waiting.describe()
    waiting.retry(1, "ServerError", 0)
    assert waiting.describe().startswith("attempt 1 failed (ServerError), attempt 2: no response for ")
    waiting.respond()
    waiting.since -= 5
    assert "attempt 1: no response for 5 s, 85 s left" == waiting.describe()

    stderr = Stderr(CommonOptions(), 90, job=True)
    stderr.console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with stderr.progress("visits") as move:
        for rows, complete in ((2, False), (3, True)):
            move(rows, 3, 0)
            assert complete is stderr.waiting.complete


@pytest.mark.usefixtures("distinct_env")
def test_a_message_breaks_between_words(distinct_env: FakeServer) -> None:
    distinct_env.fail(status=404, body='{"statusCode": 404, "message": "the touchpoint was not found anywhere"}')
    code, drawn = on_terminal(installed(), 40, words=("visits", "tp-nowhere"), NO_COLOR="1")
    said = [line.rstrip() for line in lines(drawn[drawn.index("distinct-async:") :])]
    assert (3, "distinct-async: 404 Not Found: the") == (code, said[0])
    assert "touchpoint was not found anywhere" == said[1]
    assert 40 >= max(len(line) for line in said if "(" not in line)  # that is one word, which is longer


@pytest.mark.usefixtures("distinct_env")
@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)], ids=["colour", "none"])
def test_doctor_and_errors_are_coloured_unless_that_is_unwanted(no_color: str, coloured: bool) -> None:  # noqa: FBT001
    _, drawn = on_terminal(installed(), 200, words=("doctor", "--experience", "exp-none"), NO_COLOR=no_color)
    assert coloured is ("\x1b[32mok" in drawn)
    assert coloured is ("\x1b[1;31mwrong" in drawn)
    _, drawn = on_terminal(installed(), 80, words=("touchpoints", "exp-none"), NO_COLOR=no_color)
    assert coloured is ("\x1b[1;31mdistinct-async:" in drawn)


@pytest.mark.usefixtures("distinct_env")
def test_in_60_columns_the_gaps_of_a_table_are_what_gives_way(distinct_world: World) -> None:
    code, drawn = on_terminal(installed(), 60, words=("touchpoints", "exp-1"))
    assert 0 == code
    table = [line.split() for line in lines(drawn) if line]
    head = table.index(["id", "name", "value", "total_visits", "unique_visits"])  # how wide a gap is, rich decides
    assert 1 + len(distinct_world.touchpoints) == len(table[head:])


@pytest.mark.usefixtures("distinct_env")
def test_in_50_columns_touchpoints_whose_names_have_two_words_are_blocks() -> None:
    code, drawn = on_terminal(installed(), 50, words=("touchpoints", "exp-1", "--quiet"), NO_COLOR="1")
    assert (0, "id              tp-1", "name            Entry Scan") == (code, *lines(drawn)[:2])
    assert "…" not in drawn


@pytest.mark.usefixtures("distinct_env")
def test_a_table_of_visits_leaves_a_note_and_no_bar(distinct_world: World) -> None:
    code, drawn = on_terminal(installed(), 80, words=("visits", "tp-1"), NO_COLOR="1")
    more = len(distinct_world.scans("tp-1")) - 20
    assert (0, None) == (code, COLOUR.search(drawn))
    assert f"and {more:,} more: --limit shows more, --format jsonl or -o FILE takes all" in lines(drawn)
    assert 20 == len(re.findall(r"^user-\d+ +\S+Z *$", "\n".join(lines(drawn)), re.MULTILINE))


def test_progress_is_on_stderr_and_ctrl_c_reports_where_to_go_on(
    distinct_env: FakeServer, distinct_world: World, tmp_path: Path
) -> None:
    target, checkpoint = tmp_path / "rows", tmp_path / "checkpoint"
    words = ("visits", "tp-1", "--page-size", "5", "--checkpoint", str(checkpoint))
    distinct_env.fail(status=503, nth=3)
    distinct_env.fail(wire="hang", query={"offset": "200"})  # till then it draws on
    progress = rf"━ +\d+ of {len(distinct_world.scans('tp-1'))} visits +[\d,]+/s +\d\d:\d\d left +1 retry"
    with target.open("wb") as stdout:
        code, drawn = on_terminal(installed(), 80, words=words, stdout=stdout, interrupt_at=progress)
    assert 130 == code
    assert 80 >= max(len(line) for line in lines(drawn) if "distinct-async: " not in line)
    rows = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    position = Checkpoint.from_json(checkpoint.read_text(encoding="utf-8")).position
    assert 0 < len(rows) == position < len(distinct_world.scans("tp-1"))
    said = " ".join(" ".join(lines(drawn)).split())
    assert f"{position} visits were written; the same command continues after row {position}" in said

    distinct_env.faults.clear()
    with target.open("ab") as stdout:
        code, drawn = on_terminal(installed(), 80, words=(*words, "--quiet"), stdout=stdout)
    assert (0, "") == (code, drawn)
    expected = [scan.user_id for scan in distinct_world.scans("tp-1")]
    assert expected == [json.loads(line)["user_id"] for line in target.read_text(encoding="utf-8").splitlines()]


@pytest.mark.usefixtures("distinct_env")
def test_debug_shows_our_log_and_no_key(distinct_server: FakeServer) -> None:
    with open(os.devnull, "wb") as stdout:  # noqa: PTH123  # no path
        code, drawn = on_terminal(installed(), 80, words=("visits", "tp-3", "--debug"), stdout=stdout)
    assert 0 == code
    assert [] != [line for line in lines(drawn) if line.startswith("debug: metrics.total_visits: ")]
    assert distinct_server.api_key not in drawn


@pytest.mark.usefixtures("distinct_env")
@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv"])
def test_vendors_texts_cannot_move_the_cursor(form: str, distinct_world: World) -> None:
    distinct_world.add_touchpoint("tp-9", "a\x1b[2Jb\x9b31mc\x7fd\u202ee", experience_id="exp-1")
    code, drawn = on_terminal(installed(), 80, words=("touchpoints", "exp-1", "--format", form))
    assert 0 == code
    assert set() == {"\x9b", "\x7f", "\u202e"} & {*drawn}
    assert "\x1b[2J" not in drawn
    if form == "jsonl":
        last = [line for line in lines(drawn) if line.startswith("{")][-1]
        assert "a\x1b[2Jb\x9b31mc\x7fd\u202ee" == json.loads(last)["name"]


@pytest.mark.parametrize(
    "words",
    [
        ("touchpoints", "exp-1"),
        ("visits", "tp-1", "--format", "jsonl"),
        ("impression", "imp_000001"),
        pytest.param(("sync", "exp-1", "w.duckdb"), marks=NEEDS_DUCKDB, id="sync"),
        ("doctor",),
    ],
)
def test_a_server_that_hangs_is_seen_to_be_waited_for(
    words: tuple[str, ...], distinct_env: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    distinct_env.fail(wire="hang")
    waits = r"attempt 1: no response for \d+ s, [1-9]\d* s left"
    code, drawn = on_terminal(installed(), 80, words=words, interrupt_at=waits)
    assert 130 == code
    assert re.search(waits, "\n".join(lines(drawn)))


def test_a_retry_is_shown_with_the_attempt_that_failed(distinct_env: FakeServer) -> None:
    distinct_env.fail(status=503, headers={"Retry-After": "40"})
    waits = r"attempt 1 failed \(ServerError\), attempt 2 in \d\d s, \d+ s left"
    code, drawn = on_terminal(installed(), 80, words=("user", "user-1", "--experience", "exp-1"), interrupt_at=waits)
    assert 130 == code
    assert re.search(waits, "\n".join(lines(drawn)))
