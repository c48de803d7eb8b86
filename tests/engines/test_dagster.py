"""The program for Dagster of docs/how-to/orchestrators.md, with the real Dagster."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distinct_async.testing import FakeServer
from tests.documents import ROOT, lay_out


@pytest.mark.timeout(120)
def test_an_asset_brings_the_database_up_to_date(fake: FakeServer, tmp_path: Path) -> None:
    pytest.importorskip("dagster", reason="dagster is not installed")
    lay_out(ROOT / "docs" / "how-to" / "orchestrators.md", tmp_path)
    keys = {"DISTINCT_API_KEY": fake.api_key, "DISTINCT_BASE_URL": fake.url}
    files = {"DAGSTER_HOME": str(tmp_path), "DAGSTER_DISABLE_TELEMETRY": "1"}
    command, env = [sys.executable, "dagster_assets.py"], os.environ | keys | files
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    assert "RUN_SUCCESS" in done.stderr

    import duckdb  # noqa: PLC0415 - `tests` has it not

    with duckdb.connect(tmp_path / "warehouse.duckdb", read_only=True) as database:
        counts = database.execute("SELECT count(*) FROM visits").fetchall()
    assert [(sum(len(fake.world.scans(each)) for each in fake.world.touchpoints),)] == counts
