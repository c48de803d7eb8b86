"""The table of touchpoints on a terminal: shares, visits per visitor, bars and a total."""

import re

import pytest

from distinct_async.cli.output import _ENCODERS
from distinct_async.cli.reading import TOUCHPOINT_LAYOUT
from distinct_async.models import TouchpointSummary


def shown(*rows: TouchpointSummary, width: int, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    table = _ENCODERS["table"](TOUCHPOINT_LAYOUT, terminal=True)
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
