"""The command on a terminal: what it draws, how wide, and how Ctrl-C leaves it."""

import os
import re
import signal
import subprocess

import pytest

from tests.cli.command import SMALL, changed, environment, installed

pty = pytest.importorskip("pty", reason="terminals as POSIX has them")
termios = pytest.importorskip("termios")

ESCAPE = re.compile(r"\x1b\[\??[\d;]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:[\d;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[\d;]*)?m")


def on_terminal(
    command: list[str], columns: int, *, interrupt_at: str | None = None, **variables: str
) -> tuple[int, str]:
    """Return the exit code and all that was drawn; with Ctrl-C as soon as a text appears."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    drawn = b""
    with subprocess.Popen(
        [*command, "demo"], stdin=theirs, stdout=theirs, stderr=theirs, env=environment(**variables)
    ) as process:
        os.close(theirs)
        while chunk := read(ours):
            drawn += chunk
            if interrupt_at is not None and interrupt_at.encode() in drawn:
                interrupt_at = None
                process.send_signal(signal.SIGINT)
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
    code, drawn = on_terminal(installed(), 80)
    seen = re.findall(r"(?:Entry Scan|Exit Scan|Main Stage) +━.* ([\d,]+) visits", "\n".join(lines(drawn)))
    assert 0 == code
    assert 80 >= max(map(len, lines(drawn)))
    assert {"54,561", "27,223", "18,216"} <= {*seen}
    assert {*seen} - {"0", "54,561", "27,223", "18,216"}, "nothing between the beginnings and the ends"
    assert COLOUR.search(drawn)


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


def test_ctrl_c_ends_it_quietly_and_gives_the_cursor_back() -> None:
    code, drawn = on_terminal(installed(), 80, interrupt_at=" visits ")
    assert 130 == code
    assert "Traceback" not in drawn
    assert "Unique visitors" not in drawn
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")
