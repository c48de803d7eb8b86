"""What of the database does not show in a sync."""

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from distinct_async import Checkpoint, errors
from distinct_async.etl.destinations import Chunk
from distinct_async.etl.destinations.duckdb import DuckDBDestination
from distinct_async.etl.plans import Plan, VisitList
from distinct_async.models import TouchpointSummary, Visit
from distinct_async.sansio.pages import Question

from .rows import asked

WORK = VisitList(
    TouchpointSummary(id="tp-1", name=None, value=None, total_visits=9, unique_visits=4), "TOTAL", experience_id="exp-1"
)
PLAN = Plan("exp-1", (WORK,), 1)
VISIT = Visit("user-1", datetime(2026, 6, 1, tzinfo=UTC))


def chunk(start: int) -> Chunk:
    """One row."""
    checkpoint = Checkpoint(Question("metrics.total_visits", {"touchpoint_id": "tp-1"}), start + 1, "digest")
    return Chunk(WORK, start, rebuild=False, checkpoint=checkpoint, visits=[VISIT])


def test_of_two_syncs_in_one_process_the_one_that_is_behind_is_refused(tmp_path: Path) -> None:
    database = tmp_path / "warehouse.duckdb"
    first, second = DuckDBDestination(database), DuckDBDestination(database)
    assert {} == first.begin(PLAN) == second.begin(PLAN)
    first.write([chunk(0)])
    with pytest.raises(errors.StorageError, match="another sync or connection in this process"):
        second.write([chunk(0)])
    first.write([chunk(1)])
    first.close()
    second.close()
    assert [(0,), (1,)] == asked(database, "SELECT position FROM visits ORDER BY ALL")
    assert 2 == first.rows("exp-1")


def test_a_transaction_that_fails_leaves_rows_and_checkpoint_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "warehouse.duckdb"
    warehouse = DuckDBDestination(database)
    warehouse.begin(PLAN)
    warehouse.write([chunk(0)])
    monkeypatch.setattr("distinct_async.etl.destinations.duckdb._CHECKPOINTS_COLUMNS", {})
    with pytest.raises(ValueError, match="zip"):  # our own mistake: not hidden, and undone
        warehouse.write([chunk(1)])
    warehouse.close()
    assert [(1, 1)] == asked(database, "SELECT position, (SELECT count(*) FROM visits) FROM checkpoints")


def test_rows_that_are_too_large_for_arrow_are_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise pa.ArrowCapacityError("array cannot contain more than 2147483646 bytes")

    warehouse = DuckDBDestination(tmp_path / "warehouse.duckdb")
    warehouse.begin(PLAN)
    monkeypatch.setattr("distinct_async.etl.destinations.duckdb.record_batch", refuse)
    with pytest.raises(errors.StorageError, match=r"warehouse\.duckdb: array cannot contain"):
        warehouse.write([chunk(0)])
    warehouse.close()
    assert [(0,)] == asked(tmp_path / "warehouse.duckdb", "SELECT count(*) FROM visits")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("limit", ["1 GiB", "777777777 B", "-1"])
def test_what_its_owner_has_set_is_set_again(tmp_path: Path, limit: str, threads: int) -> None:
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as notebook:
        notebook.execute(f"SET memory_limit = '{limit}'; SET threads = {threads}")
        settings = "SELECT current_setting('memory_limit'), current_setting('threads')"
        expected = notebook.execute(settings).fetchall()
        for _ in range(2):
            warehouse = DuckDBDestination(tmp_path / "warehouse.duckdb")
            warehouse.begin(PLAN)
            assert [("48.0 MiB", 1)] == notebook.execute(settings).fetchall()
            warehouse.close()
            assert expected == notebook.execute(settings).fetchall()


@pytest.mark.parametrize(("first_lists", "last_lists"), [(0, 0), (28_000, 0), (0, 28_000)])
def test_the_last_of_two_syncs_at_once_does_not_set_again_what_the_first_has_set(
    tmp_path: Path, first_lists: int, last_lists: int
) -> None:
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as notebook:
        notebook.execute("SET memory_limit = '1 GiB'; SET threads = 2")
        settings = "SELECT current_setting('memory_limit'), current_setting('threads')"
        first, last = (DuckDBDestination(tmp_path / "warehouse.duckdb") for _ in range(2))
        for warehouse, lists in ((first, first_lists), (last, last_lists)):
            warehouse.begin(PLAN)
            warehouse._limit_memory(lists)
        assert ("60.0 MiB" if first_lists or last_lists else "48.0 MiB", 1) == notebook.execute(settings).fetchone()
        for warehouse in (first, last):
            warehouse.close()
        assert ("1.0 GiB", 2) == notebook.execute(settings).fetchone()


def test_the_more_lists_are_stored_the_more_memory_there_is_for_their_index(tmp_path: Path) -> None:
    warehouse = DuckDBDestination(tmp_path / "warehouse.duckdb")
    warehouse.begin(PLAN)
    connection = warehouse._database.connection
    values = "'exp-2', number, 'TOTAL', 0, 0, false, NULL, NULL, now()"
    connection.execute(f"INSERT INTO checkpoints SELECT {values} FROM range(200_000) lists(number)")  # noqa: S608
    warehouse._limit_memory(1)
    assert ("52.0 MiB",) == connection.execute("SELECT current_setting('memory_limit')").fetchone()
    warehouse.close()


def test_settings_that_cannot_be_set_again_do_not_keep_the_database_open(tmp_path: Path) -> None:
    database = tmp_path / "warehouse.duckdb"
    warehouse = DuckDBDestination(database)
    warehouse.begin(PLAN)
    warehouse._owner_settings = ("much", 2)
    warehouse.close()
    with duckdb.connect(str(database), read_only=True) as reader:
        assert [(1,)] == reader.execute("SELECT count(*) FROM runs").fetchall()
