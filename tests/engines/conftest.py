"""Tests of the engines, with the real ones: `nox -s tests-engines`. Where none is installed, nothing is collected."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from distinct_async.testing import FakeServer, World

if TYPE_CHECKING:
    from tests.extras.etl.rows import Row

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
def postgres(postgres_server: str) -> str:
    """The URL of an empty database in Postgres."""
    dbapi = pytest.importorskip("adbc_driver_postgresql.dbapi", reason="adbc-driver-postgresql is not installed")
    name = f"test_{os.urandom(4).hex()}"
    with dbapi.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}").close()
    return f"{postgres_server.rpartition('/')[0]}/{name}"


def rows_in_postgres(url: str, table: str) -> "list[Row]":
    """The rows of a table."""
    from adbc_driver_postgresql.dbapi import connect  # noqa: PLC0415

    from tests.extras.etl.rows import rows_in  # noqa: PLC0415 - it needs DuckDB, which `tests` has not

    with connect(url) as connection, connection.execute(f"SELECT * FROM {table}") as cursor:  # noqa: S608
        return rows_in(cursor.fetch_arrow_table())


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a Postgres server that is ours alone."""
    found = shutil.which("pg_ctl") or max(map(str, Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")), default=None)
    if found is None:
        pytest.skip("Postgres is not installed: apt-get install postgresql")
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to other users
        if user:
            shutil.chown(folder, user)

        def control(*words: str) -> None:
            command = [found, *words, "-s", "-D", f"{folder}/data"]
            subprocess.run(command, check=True, cwd=folder, user=user, stdout=subprocess.DEVNULL)

        control("initdb", "-o", "--username=qr --auth=trust --no-sync")
        control("start", "-w", "-l", f"{folder}/log", "-o", f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off")
        try:
            yield f"postgresql://qr:any@127.0.0.1:{port}/postgres"
        finally:
            control("stop", "-m", "immediate")


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, str]]:
    """What AWS's clients read in the environment, for the server of this test, with an empty bucket."""
    boto3 = pytest.importorskip("boto3", reason="moto is not installed: pip install 'moto[s3,server]'")
    from moto.server import ThreadedMotoServer  # noqa: PLC0415

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=variables["AWS_ENDPOINT_URL"], **keys).create_bucket(Bucket="bucket")
    yield variables
    server.stop()


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
