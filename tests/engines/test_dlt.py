"""The dlt source, loaded by a real dlt into DuckDB, Postgres and files: every row once, also if it is killed."""

import shutil
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from distinct_async import DistinctClient
from distinct_async.errors import DriftError, InvalidRequestError
from distinct_async.etl import VisitList
from distinct_async.models import TouchpointSummary
from distinct_async.testing import FakeServer, World
from tests.documents import BLOCK, ROOT
from tests.extras.etl.rows import BOTH, KEYS, Row, rows_in, rows_of

from .conftest import KEY, rows_in_postgres
from .kills import posix_only, run_with_kills

dlt = pytest.importorskip("dlt", reason="dlt is not installed: pip install 'distinct-async[dlt]'")

from dlt.common.storages.load_package import PackageStorage  # noqa: E402
from dlt.pipeline.exceptions import PipelineStepFailed  # noqa: E402

from distinct_async.dlt import _RebuiltLists, distinct  # noqa: E402

pytestmark = [
    pytest.mark.timeout(240),
    # Of dlt 1.31 and its dependencies
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]


@pytest.fixture
def world() -> World:
    return World.sample(touchpoints=3, scans=1_500, users=90, seed=7)


@pytest.fixture(autouse=True)
def _environment(fake: FakeServer, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
    monkeypatch.setenv("DISTINCT_API_KEY", KEY)
    monkeypatch.setenv("VANTIO_API_KEY", fake.vantio_api_key)
    monkeypatch.setenv("DISTINCT_BASE_URL", fake.url)
    monkeypatch.setenv("VANTIO_BASE_URL", fake.url)


@pytest.fixture
def run(here: Path) -> Callable[..., Any]:
    """Run the source into DuckDB, or another destination."""

    def run(*ids: str, destination: Any = None, options: Any = None, **arguments: Any) -> Any:
        destination = destination or dlt.destinations.duckdb(str(here / "qr.duckdb"))
        pipeline = dlt.pipeline(
            "qr", destination=destination, dataset_name="scans", pipelines_dir=str(here / "pipelines")
        )
        return pipeline.run(distinct(list(ids) or "exp-1", **arguments), **(options or {}))

    return run


def asked(question: str) -> list[Any]:
    with duckdb.connect("qr.duckdb", read_only=True) as database:
        return database.execute(question).fetchall()


TABLES = {"TOTAL": "visits", "UNIQUE": "unique_visits"}


def loaded_into_postgres(url: str) -> list[Row]:
    return sorted(row for table in TABLES.values() for row in rows_in_postgres(url, f"scans.{table}"))


def loaded(*kinds: str) -> list[Row]:
    rows = [
        row
        for kind in kinds or BOTH
        for row in asked(f"SELECT {', '.join(KEYS)} FROM scans.{TABLES[kind]}")  # noqa: S608
    ]
    return sorted((*row[:4], row[4].astimezone(UTC)) for row in rows)


def test_each_run_loads_what_is_new_and_every_row_once(run: Callable[..., Any], fake: FakeServer, world: World) -> None:
    run()
    assert sorted(rows_of(world, *BOTH)) == loaded()
    impressions = {(each, world.impression(each)["user_agent"]) for each in world.impressions}
    assert impressions == {*asked("SELECT id, user_agent FROM scans.impressions")}
    touchpoints = {(each, world.touchpoint(each).name, len(world.scans(each))) for each in world.touchpoints}
    assert touchpoints == {*asked("SELECT touchpoint_id, name, total_visits FROM scans.touchpoints")}

    fake.requests.clear()
    run()
    assert {None: 3} == Counter(each.query.get("touchpointId") for each in fake.requests if "metrics" in each.path)
    world.grow(300)
    run()
    assert sorted(rows_of(world, *BOTH)) == loaded()
    assert len(world.impressions) == asked("SELECT count(*) FROM scans.impressions")[0][0]
    assert 3 == asked("SELECT count(*) FROM scans.touchpoints")[0][0]


def test_several_experiences_and_one_type(run: Callable[..., Any], world: World) -> None:
    world.add_touchpoint("tp-other", "Elsewhere", experience_id="exp-2")
    world.grow(20, "tp-other")
    run("exp-1", "exp-2", visits_type="TOTAL", page_size=100)
    world.grow(20, "tp-other")
    run("exp-1", "exp-2", visits_type="TOTAL")
    assert sorted(rows_of(world) + rows_of(world, experience_id="exp-2")) == loaded("TOTAL")
    assert [] == asked("SELECT 1 FROM information_schema.tables WHERE table_name = 'unique_visits'")


@pytest.mark.parametrize("table_format", ["parquet", "delta"])
def test_files_have_every_row_once(table_format: str, run: Callable[..., Any], world: World) -> None:
    pytest.importorskip("deltalake", reason="deltalake is not installed")
    options = {"table_format": "delta"} if table_format == "delta" else {"loader_file_format": "parquet"}
    for _ in range(3):
        world.grow(50)
        run(destination=dlt.destinations.filesystem("lake"), options=options)
    rows = [row for table in ("visits", "unique_visits") for row in rows_in_files(table_format, table)]
    assert sorted(rows_of(world, *BOTH)) == sorted(rows)


def rows_in_files(table_format: str, table: str) -> list[Row]:
    import deltalake  # noqa: PLC0415

    folder = f"lake/scans/{table}"
    dataset = deltalake.DeltaTable(folder).to_pyarrow_dataset() if table_format == "delta" else pq.read_table(folder)
    return rows_in(dataset.to_table() if table_format == "delta" else dataset)


def test_postgres_has_every_row_once(run: Callable[..., Any], world: World, postgres: str) -> None:
    for options in ({}, {"on_drift": "rebuild"}, {}):
        world.grow(50)
        run(destination=dlt.destinations.postgres(postgres), **options)
    assert sorted(rows_of(world, *BOTH)) == loaded_into_postgres(postgres)


def test_rows_that_have_moved_end_the_run_and_leave_the_tables_until_a_rebuild(
    run: Callable[..., Any], world: World
) -> None:
    run()
    before = loaded()
    world.insert("tp-1", 3, "user-new", datetime(2026, 6, 1, tzinfo=UTC))
    world.grow(10)
    for _ in range(2):
        with pytest.raises(Exception, match=r"touchpoint 'tp-1'.*no longer match the server.*on_drift='rebuild'"):
            run()
        assert before == loaded()
    run(on_drift="rebuild")  # as the message says
    assert sorted(rows_of(world, *BOTH)) == loaded()
    world.grow(10)
    run()
    assert sorted(rows_of(world, *BOTH)) == loaded()


def test_rebuild_replaces_only_the_lists_whose_rows_have_moved(run: Callable[..., Any], world: World) -> None:
    run(on_drift="rebuild")
    world.insert("tp-1", 3, "user-new", datetime(2026, 6, 1, tzinfo=UTC))
    world.shrink(100, "tp-2")  # rows beyond the new end are deleted
    world.grow(5, "tp-3")
    run(on_drift="rebuild")
    assert sorted(rows_of(world, *BOTH)) == loaded()
    run(on_drift="rebuild")
    assert sorted(rows_of(world, *BOTH)) == loaded()


def test_a_list_that_moves_after_some_of_its_new_rows_ends_the_run() -> None:
    state: dict[str, str] = {}
    rebuilt, touchpoint = _RebuiltLists("exp-1", state), TouchpointSummary("tp-1", None, None, 9, 9)
    moved = VisitList(touchpoint, "TOTAL", experience_id="exp-1")
    rebuilt.note(moved)
    state["TOTAL tp-1"] = "of some rows"
    with pytest.raises(DriftError, match=r"touchpoint 'tp-1'.*run the pipeline again"):
        rebuilt.note(moved)


def test_a_run_that_fails_loads_nothing_and_the_next_one_everything(
    run: Callable[..., Any], fake: FakeServer, world: World
) -> None:
    fault = fake.fail(query={"touchpointId": "tp-3"}, status=401)
    with pytest.raises(Exception, match=r"401 Unauthorized.*check the API key") as caught:
        run()
    assert KEY not in str(caught.value)
    fake.faults.remove(fault)
    run()
    assert sorted(rows_of(world, *BOTH)) == loaded()


def test_touchpoints_and_impressions_have_the_patience_of_a_job(fake: FakeServer) -> None:
    fake.fail(query={"metricsType": "EXPERIENCE"}, status=503, times=4)
    fake.fail(path="/api/v1/impressions", status=503, times=4)
    source = distinct("exp-1").with_resources("touchpoints", "impressions")
    dlt.pipeline("other", pipelines_dir="other").extract(source)
    assert 8 == sum(each.status == 503 for each in fake.requests)


def test_keys_come_from_dlt_s_secrets_and_stay_out_of_its_files(
    run: Callable[..., Any],
    here: Path,
    world: World,
    fake: FakeServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("DISTINCT_API_KEY")
    monkeypatch.delenv("VANTIO_API_KEY")
    monkeypatch.setenv("RUNTIME__LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("SOURCES__DISTINCT__API_KEY", KEY)
    monkeypatch.setenv("SOURCES__DISTINCT__VANTIO_API_KEY", fake.vantio_api_key)
    info = run()
    assert len(world.impressions) == asked("SELECT count(*) FROM scans.impressions")[0][0]
    output = "".join(capfd.readouterr()) + str(info) + str(info.pipeline.last_trace.asdict())
    files = b"".join(path.read_bytes() for path in here.rglob("*") if path.is_file())
    assert "load" in output
    assert b"visits" in files
    for key in (KEY, fake.vantio_api_key):
        assert key not in output
        assert key.encode() not in files


def test_without_a_key_of_vantio_there_are_no_impressions(
    run: Callable[..., Any], fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VANTIO_API_KEY")
    run()
    assert [] == asked("SELECT 1 FROM information_schema.tables WHERE table_name = 'impressions'")
    with pytest.raises(Exception, match=r"no API key for vantio.*VANTIO_API_KEY"):
        dlt.pipeline("other", pipelines_dir="other").extract(distinct("exp-1").with_resources("impressions"))
    assert [] == [each for each in fake.requests if "impressions" in each.path]


def test_the_touchpoints_of_all_experiences_are_read_by_one_client(fake: FakeServer) -> None:
    fake.world = World.sample(touchpoints=6, scans=300, users=30, experiences=6)
    fake.latency = 0.02
    clients = list[DistinctClient]()

    def make_client() -> DistinctClient:
        clients.append(DistinctClient(KEY, base_url=fake.url, max_concurrency=1))
        return clients[-1]

    ids = [f"exp-{number}" for number in range(1, 7)]
    source = distinct(ids, client=make_client).with_resources("touchpoints")
    dlt.pipeline("other", pipelines_dir="other").extract(source)
    assert (6, 1, 2) == (len(fake.requests), fake.max_in_flight, len(clients))  # one looks for the key of Vantio


def test_a_factory_makes_the_clients(run: Callable[..., Any], fake: FakeServer) -> None:
    fake.latency = 0.01
    run(client=partial(DistinctClient, KEY, base_url=fake.url, max_concurrency=1), visits_type="TOTAL", page_size=100)
    assert {"100"} == {each.query["pageSize"] for each in fake.requests if "touchpointId" in each.query}
    assert fake.max_in_flight <= 3  # one in each resource


def test_visits_are_appended_and_merged_only_to_rebuild() -> None:
    assert "append" == distinct("exp-1").visits.write_disposition
    assert "merge" == distinct("exp-1", on_drift="rebuild").visits.write_disposition["disposition"]


def test_an_invalid_argument_is_refused_at_once(fake: FakeServer) -> None:
    with pytest.raises(InvalidRequestError, match="page_size must be at least 1"):
        distinct("exp-1", page_size=0)
    assert [] == fake.requests


(_BLOCK,) = (
    each for each in BLOCK.findall((ROOT / "docs/how-to/warehouses.md").read_text(encoding="utf-8")) if "rmtree" in each
)
REMOVE_LEFTOVERS = _BLOCK[_BLOCK.index("for load_id") :]

SCRIPT = f"""
import shutil
from pathlib import Path
import dlt
from distinct_async.dlt import distinct

pipeline = dlt.pipeline("qr", destination=DESTINATION, dataset_name="scans", pipelines_dir="p")
{REMOVE_LEFTOVERS}pipeline.run(distinct("exp-1", page_size=20))  # after a crash it first loads what is pending
pipeline.run(distinct("exp-1", page_size=20))
"""


@pytest.mark.parametrize("removed", [(), ("new_jobs",)])
def test_the_folder_that_dlt_leaves_behind_can_be_removed_and_every_row_comes_once(
    removed: tuple[str, ...], run: Callable[..., Any], world: World, monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    """The block of the how-to; if the second run does not fail any more, dlt has mended it, and the block can go."""
    delete = PackageStorage.delete_package

    def interrupted(storage: PackageStorage, load_id: str, **options: Any) -> None:
        package = Path(storage.storage.make_full_path(storage.get_package_path(load_id)))
        if package.parent.name == "extracted":
            for each in removed:
                shutil.rmtree(package / each)
            raise OSError
        delete(storage, load_id, **options)

    run()
    world.grow(50)
    with monkeypatch.context() as patched:
        patched.setattr(PackageStorage, "delete_package", interrupted)
        with pytest.raises(PipelineStepFailed):
            run()
    with pytest.raises(PipelineStepFailed):
        run()
    pipeline = dlt.pipeline("qr", pipelines_dir=str(here / "pipelines"))
    exec(REMOVE_LEFTOVERS, {"pipeline": pipeline, "shutil": shutil, "Path": Path})  # noqa: S102
    run()
    run()
    assert sorted(rows_of(world, *BOTH)) == loaded()


@posix_only
@pytest.mark.parametrize("name", ["duckdb", "postgres"])
async def test_a_pipeline_that_is_killed_and_run_again_has_every_row_once(
    name: str, fake: FakeServer, world: World, request: pytest.FixtureRequest
) -> None:
    fake.latency = 0.002
    url = request.getfixturevalue(name) if name == "postgres" else "qr.duckdb"

    def check() -> None:
        assert sorted(rows_of(world, *BOTH)) == (loaded() if name == "duckdb" else loaded_into_postgres(url))
        world.grow(100)

    script = SCRIPT.replace("DESTINATION", f"dlt.destinations.{name}({url!r})")
    await run_with_kills(script, fake, check, requests=200)
