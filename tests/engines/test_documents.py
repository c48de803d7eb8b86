"""The how-tos for engines, read as a user would: each block is a script, in an empty folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from distinct_async.testing import FakeServer
from tests.documents import BLOCK, ENGINES, ROOT

pytestmark = pytest.mark.timeout(240)

# Not in the dependency group: Daft needs an older pyarrow than the others, and Ray takes a minute.
UNLOCKED = ("daft", "ray")

SCRIPTS = [
    pytest.param(fence[1], id=f"{Path(name).name} line {text.count(chr(10), 0, fence.start(1))}")
    for name in ENGINES
    for text in [(ROOT / name).read_text(encoding="utf-8")]
    for fence in BLOCK.finditer(text)
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_block_of_a_document_runs_in_a_file_of_its_own(
    script: str, fake: FakeServer, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    for name in UNLOCKED:
        if f"import {name}\n" in script:
            pytest.importorskip(name, reason=f"{name} is not installed; the block was run by hand")
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    variables = {
        "DISTINCT_API_KEY": fake.api_key,
        "DISTINCT_BASE_URL": fake.url,
        "DLT_DATA_DIR": str(tmp_path / "dlt"),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        **(request.getfixturevalue("spark_environment") if "pyspark" in script else {}),
        **(request.getfixturevalue("s3") if '"s3"' in script else {}),
        **({"POSTGRES_URL": request.getfixturevalue("postgres")} if "POSTGRES_URL" in script else {}),
    }
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    # deltalake with pyarrow aborts in one of 40 exits, also in a script without this library, after all is done
    aborted = -signal.SIGABRT, "terminate called without an active exception\n"
    if "deltalake" not in script or aborted != (done.returncode, done.stderr):
        assert 0 == done.returncode, done.stderr
    if "print(" in script:
        assert f"{sum(len(fake.world.scans(each)) for each in fake.world.touchpoints)}" in done.stdout
