"""The command: called in this process, or as a process of its own, as it is or changed before it starts."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from distinct_async.cli import main

# The demo's comparison starts processes and kills one, which one test needs.
COMPARED = """
from distinct_async.cli import demo
async def compare(*_):
    return (*[demo.Outcome(100, 0, 0)] * 3, 50)
demo.compare = compare
"""

# As many scans as the demo has take time, and most tests need no numbers.
SMALL = f"""
{COMPARED}
from distinct_async.testing import World
sample = World.sample
World.sample = lambda **_: sample(touchpoints=3, scans=300, users=40, seed=7)
"""

_DECIDING = ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES")


def called(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["distinct-async", *words])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # which the command sets
    return main()


class Command:
    """The command, called in this process; `out` and `err` are those of the last call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self.out = self.err = ""

    def __call__(self, *words: object) -> int:
        code = called(self._monkeypatch, *map(str, words))
        self.out, self.err = self._capsys.readouterr()
        return code


def installed() -> list[str]:
    found = shutil.which("distinct-async", path=str(Path(sys.executable).parent))
    assert found is not None
    return [found]


def changed(program: str) -> list[str]:
    start = "import sys; from distinct_async.cli import main; sys.exit(main())"
    return [sys.executable, "-c", f"{program}\n{start}"]


def through(shell: str) -> list[str]:
    """The installed command as "$@" in a line of the shell."""
    return ["sh", "-c", shell, "sh", *installed()]


def piped(command: list[str], *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *words], capture_output=True, encoding="utf-8", env=environment(**variables), check=False
    )


def environment(**variables: str) -> dict[str, str]:
    """Return ours, without what decides over colours and widths."""
    kept = {name: value for name, value in os.environ.items() if name not in _DECIDING}
    return {**kept, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **variables}
