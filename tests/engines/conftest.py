"""Tests of the engines, with the real ones: `nox -s tests-engines`. Where none is installed, nothing is collected."""

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from distinct_async.testing import FakeServer, World

KEY = "distinct-key-0123456789abcdef"  # without the words by which Spark blanks values
_STATUS = pytest.StashKey[int]()

collect_ignore_glob = [] if find_spec("pyspark") or find_spec("dlt") else ["test_*.py"]


@pytest.fixture
def fake(world: World) -> Iterator[FakeServer]:
    """Both vendors, in a thread: engines are synchronous, and have processes of their own."""
    with FakeServer.run_in_thread(world, api_key=KEY) as fake:
        yield fake


@pytest.fixture(scope="session")
def spark_environment() -> dict[str, str]:
    """What a driver has in its environment."""
    pytest.importorskip("pyspark", reason="pyspark is not installed: pip install 'distinct-async[spark]'")
    if not shutil.which("java"):
        pytest.skip("Java is not installed, which Spark needs: apt-get install default-jre-headless")
    return {
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "DISTINCT_API_KEY": KEY,
    }


@pytest.fixture(scope="session")
def spark(spark_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One session for all tests: it takes ten seconds to start. A task may fail twice."""
    from pyspark.sql import SparkSession  # noqa: PLC0415

    before = dict(os.environ)
    os.environ.update(spark_environment)  # which the Python processes inherit from the JVM
    try:
        builder = SparkSession.builder.master("local[2,3]")
        for name, value in {
            "spark.ui.enabled": "false",
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
            "spark.log.level": "OFF",
            "spark.sql.shuffle.partitions": "2",
        }.items():
            builder = builder.config(name, value)
        session = builder.getOrCreate()
    finally:
        os.environ.clear()
        os.environ.update(before)
    yield session
    session.stop()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Keep the exit status for `pytest_unconfigure`."""
    session.config.stash[_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End without the destructors of native libraries: deltalake with pyarrow aborts in one of 40 of them."""
    if "deltalake" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash.get(_STATUS, 1))
