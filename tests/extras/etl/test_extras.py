"""What is not installed is named in an error, and what is installed is loaded only where it is used."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from distinct_async import DistinctClient, errors, etl
from distinct_async.testing import FakeServer


@pytest.fixture(params=["pyarrow", "duckdb", "pytz", "vl_convert", "ua_parser"])
def hidden(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that cannot be imported; our modules that need it were never loaded."""
    for name in sorted(sys.modules, reverse=True):
        if name.startswith(
            (
                "distinct_async.etl.arrow",
                "distinct_async.etl.devices",
                "distinct_async.etl.destinations.",
                "distinct_async.etl.reports.",
            )
        ):
            parent, _, child = name.rpartition(".")
            monkeypatch.setattr(sys.modules[parent], child, sys.modules[name])  # set back at the end, as in sys.modules
            monkeypatch.delitem(sys.modules, name)
        if name.partition(".")[0] == request.param:
            monkeypatch.delitem(sys.modules, name)

    class Hidden:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name.partition(".")[0] == request.param:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(sys, "meta_path", [Hidden, *sys.meta_path])
    return str(request.param)


def consumed(batches: AsyncIterator[object]) -> Awaitable[object]:
    async def consume() -> list[object]:
        return [batch async for batch in batches]

    return consume()


Jobs = dict[str, Callable[[DistinctClient, Path], Awaitable[object]]]
ARROW: Jobs = {
    "batches": lambda client, _: consumed(etl.batches(client, "exp-1")),
    "export": lambda client, folder: etl.export(client, "exp-1", folder / "visits.jsonl"),
}
DUCKDB: Jobs = {
    "sync": lambda client, folder: etl.sync(client, "exp-1", folder / "warehouse.duckdb"),
    "sync_impressions": lambda client, folder: etl.sync_impressions(client, folder / "warehouse.duckdb"),
}
REPORT: Jobs = {"report": lambda client, folder: etl.report(client, "exp-1", folder / "report.html")}
NEEDS = {
    **dict.fromkeys(ARROW, ("arrow", {"pyarrow"})),
    **dict.fromkeys(DUCKDB, ("duckdb", {"duckdb", "pyarrow", "pytz"})),
    **dict.fromkeys(REPORT, ("report", {"duckdb", "pyarrow", "pytz", "ua_parser", "vl_convert"})),
}


@pytest.mark.parametrize("job", NEEDS)
async def test_a_job_whose_extra_is_missing_says_what_to_install(
    hidden: str, job: str, client: DistinctClient, fake: FakeServer, tmp_path: Path
) -> None:
    extra, packages = NEEDS[job]
    if hidden not in packages:
        assert await {**ARROW, **DUCKDB, **REPORT}[job](client, tmp_path) is not None
        return
    with pytest.raises(errors.ConfigurationError, match=rf'python -m pip install "distinct-async\[{extra}\]"'):
        await {**ARROW, **DUCKDB, **REPORT}[job](client, tmp_path)
    assert ([], []) == (fake.requests, os.listdir(tmp_path))  # noqa: PTH208


async def test_a_plan_needs_no_extra(hidden: str, client: DistinctClient) -> None:
    assert hidden not in sys.modules
    assert 6 == len((await etl.plan(client, "exp-1")).works)


def test_importing_the_jobs_loads_neither_pyarrow_nor_duckdb_nor_aiohttp() -> None:
    program = "import sys; from distinct_async import etl; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set() == {"pyarrow", "duckdb", "pytz", "polars", "aiohttp", "vl_convert", "ua_parser"} & {
        *done.stdout.split()
    }


def test_all_that_is_public_is_named_and_documented() -> None:
    assert sorted(etl.__all__) == etl.__all__
    assert [] == [name for name in etl.__all__ if not getattr(etl, name).__doc__]
