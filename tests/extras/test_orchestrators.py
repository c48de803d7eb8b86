"""The programs of docs/how-to/orchestrators.md, with stand-ins for the frameworks: what they await is run.

The real Dagster is in tests/engines. Airflow and Prefect were run by hand: they start servers, which takes a minute.
"""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.documents import ROOT, lay_out

DOCUMENT = ROOT / "docs" / "how-to" / "orchestrators.md"
ROWS: list[int] = []


def decorator(*given: Any, **_: Any) -> Any:
    """Return the function itself, with options or without."""
    return given[0] if given else lambda function: function


def awaited(*given: Any, **_: Any) -> Any:
    """A task decorator whose tasks run when they are called."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *words: ROWS.append(asyncio.run(function(*words)))

    return wrap(given[0]) if given else wrap


STAND_INS: dict[str, dict[str, Any]] = {
    "airflow_dag": {"airflow": {}, "airflow.sdk": {"dag": decorator, "task": awaited}, "pendulum": {"datetime": print}},
    "dagster_assets": {
        "dagster": {
            "asset": decorator,
            "MaterializeResult": SimpleNamespace,
            "materialize": lambda assets: SimpleNamespace(
                success=not ROWS.append(asyncio.run(assets[0]()).metadata["rows"])  # type: ignore[func-returns-value]
            ),
        }
    },
    "prefect_flow": {"prefect": {"flow": decorator, "task": decorator}},
}


@pytest.mark.usefixtures("distinct_env")
@pytest.mark.parametrize("name", STAND_INS)
def test_a_task_brings_the_database_up_to_date(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ROWS.clear()
    monkeypatch.chdir(tmp_path)
    lay_out(DOCUMENT, tmp_path)
    for module, content in STAND_INS[name].items():
        stand_in = ModuleType(module)
        vars(stand_in).update(content)
        monkeypatch.setitem(sys.modules, module, stand_in)
    code = compile((tmp_path / f"{name}.py").read_text(encoding="utf-8"), name, "exec")
    exec(code, {"__name__": "__main__"})  # noqa: S102  # a document of this repository

    rows = ROWS or [int(capsys.readouterr().out.split()[1])]
    assert rows[0] > 0
    assert (tmp_path / "warehouse.duckdb").stat().st_size > 0
