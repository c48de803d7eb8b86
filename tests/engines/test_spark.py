"""The format ``distinct`` in a real Spark: rows as the world has them, whatever fails on the way."""

import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distinct_async.errors import ConfigurationError, DriftError, InvalidRequestError
from distinct_async.etl.runner import JOB_RETRY
from distinct_async.testing import FakeServer, World
from tests.extras.etl.rows import BOTH, Row, rows_of

from .conftest import KEY

pytest.importorskip("pyspark", reason="pyspark is not installed: pip install 'distinct-async[spark]'")

from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadMaxRows

from distinct_async.spark import Options, StreamReader, allot

pytestmark = [
    pytest.mark.timeout(240),  # a session starts in 10 seconds, and in 50 on a busy machine
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas"),  # which Dask brings
]

KEYS = ("touchpoint_id", "visits_type", "position", "user_id", "timestamp_utc")


@pytest.fixture
def world() -> World:
    return World.sample(touchpoints=4, scans=25_000, users=900, seed=7)


@pytest.fixture
def source(spark: Any, fake: FakeServer) -> Any:
    return spark.read.format("distinct").option("base_url", fake.url).option("experience_id", "exp-1")


def rows_in(frame: Any) -> list[Row]:
    """The rows of a data frame, sorted."""
    table = frame.select(*KEYS).toArrow()
    return sorted((*row[:-1], row[-1].astimezone(UTC)) for row in (tuple(row.values()) for row in table.to_pylist()))


def lists_asked(fake: FakeServer) -> Counter[str]:
    return Counter(request.query.get("touchpointId", "experience") for request in fake.requests)


def test_a_batch_has_every_row_of_both_types_once(source: Any, world: World) -> None:
    frame = source.option("visits_type", "both").option("numPartitions", 3).load()
    assert sorted(rows_of(world, *BOTH)) == rows_in(frame)
    names = {
        (row.experience_id, row.touchpoint_id, row.touchpoint_name)
        for row in frame.select(*frame.columns[:3]).distinct().collect()
    }
    assert {("exp-1", each, world.touchpoint(each).name) for each in world.touchpoints} == names


def test_a_path_is_the_experience_and_the_default_is_every_scan(spark: Any, fake: FakeServer, world: World) -> None:
    frame = spark.read.format("distinct").option("base_url", fake.url).load("exp-1")
    assert len(rows_of(world)) == frame.count()
    assert 12 < len(rows_of(world)) == frame.where("visits_type = 'TOTAL'").count()  # filters work without pushdown


def test_a_view_in_sql_reads_the_same(spark: Any, fake: FakeServer, world: World) -> None:
    options = f"experience_id 'exp-1', base_url '{fake.url}', touchpoint_ids '[\"tp-2\"]'"
    spark.sql(f"CREATE OR REPLACE TEMPORARY VIEW scans USING distinct OPTIONS ({options})")
    (row,) = spark.sql("SELECT count(*) AS n, max(position) AS last FROM scans").collect()
    assert (len(world.scans("tp-2")), len(world.scans("tp-2")) - 1) == (row.n, row.last)


def test_only_the_touchpoints_that_are_named_are_requested(source: Any, fake: FakeServer, world: World) -> None:
    frame = source.option("touchpoint_ids", "tp-4, tp-2").load()
    assert sorted(row for row in rows_of(world) if row[0] in {"tp-2", "tp-4"}) == rows_in(frame)
    assert {"experience", "tp-2", "tp-4"} == {*lists_asked(fake)}


def test_the_limit_of_requests_counts_for_all_tasks_together(source: Any, fake: FakeServer, world: World) -> None:
    def quicken() -> None:
        while fake.max_in_flight < 3:
            time.sleep(0.01)
        fake.latency = 0.02

    fake.latency = 0.3  # until the tasks meet: one may start seconds after the other
    threading.Thread(target=quicken, daemon=True).start()
    frame = source.option("numPartitions", 2).option("max_concurrency", 4).option("page_size", 250).load()
    assert len(rows_of(world)) == frame.count()
    assert 2 < fake.max_in_flight <= 4
    assert {"250"} == {each.query["pageSize"] for each in fake.requests if "touchpointId" in each.query}


def test_an_empty_experience_is_an_empty_frame(source: Any, fake: FakeServer) -> None:
    fake.world = World.sample(touchpoints=2, scans=0, users=1)
    assert 0 == source.load().count()


def test_a_task_that_fails_is_repeated_and_gives_the_same_rows(source: Any, fake: FakeServer, world: World) -> None:
    fake.fail(query={"touchpointId": "tp-2", "offset": "1000"}, status=400, times=1)
    assert sorted(rows_of(world)) == rows_in(source.load())
    assert [400] == [each.status for each in fake.requests if each.status != 200]


def python_workers() -> set[int]:
    """The Python processes of the executor: children of a daemon, which is a child of the JVM."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found[int(folder.name)] = (
                (folder / "stat").read_text().rpartition(")")[2].split()[1],
                (folder / "cmdline").read_bytes(),
            )
        except OSError:
            continue  # it has ended
    mine = {os.getpid()}
    while more := {pid for pid, (parent, _) in found.items() if int(parent) in mine} - mine:
        mine |= more
    daemons = {pid for pid in mine if b"pyspark.daemon" in found.get(pid, ("", b""))[1]}
    return {pid for pid in daemons if int(found[pid][0]) in daemons}


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found in /proc")
def test_a_task_whose_process_is_killed_is_repeated(source: Any, fake: FakeServer, world: World) -> None:
    fake.fail(query={"touchpointId": "tp-3", "offset": "1000"}, wire="hang", times=1)

    def kill() -> None:
        while not any(
            each.query.get("offset") == "1000" and each.query["touchpointId"] == "tp-3" for each in fake.requests
        ):
            time.sleep(0.01)
        for worker in python_workers():
            os.kill(worker, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        assert sorted(rows_of(world)) == rows_in(source.load())
    finally:
        killer.join()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"status": 401}, "AuthenticationError: 401 Unauthorized.*check the API key"),
        ({"status": 403}, "PermissionDeniedError: 403 Forbidden.*IP address on the key's allowlist"),
        ({"body": b"[]"}, r"DecodeError: .+ \[metrics\.total_visits\(touchpoint_id='tp-2'"),
    ],
    ids=str,
)
def test_what_a_task_meets_ends_the_query_with_a_message_that_says_what_to_do(
    fault: dict[str, Any], message: str, source: Any, fake: FakeServer
) -> None:
    fake.fail(query={"touchpointId": "tp-2"}, **fault)
    with pytest.raises(Exception, match=f"(?s){message}"):
        source.load().count()


def test_rows_that_are_removed_after_planning_end_the_query_with_drift(
    source: Any, fake: FakeServer, world: World
) -> None:
    def shrink(body: bytes) -> bytes:
        world.shrink(3, "tp-1")
        return body

    fake.fail(query={"metricsType": "EXPERIENCE"}, body=shrink, times=1)
    with pytest.raises(Exception, match=r"DriftError: touchpoint 'tp-1'.*rows have moved.*run the query again"):
        source.load().count()
    assert len(rows_of(world)) == source.load().count()


# Options.


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"api_key": KEY}, "option 'api_key' is refused, because Spark logs options; set the environment variable"),
        ({"Authorization": KEY}, "option 'authorization' is refused"),
        ({"foo": KEY}, "unknown option 'foo'; known are experience_id, visits_type,"),
        ({"page_size": KEY}, "option page_size must be a whole number"),
        ({"visits_type": KEY}, "option visits_type must be TOTAL, UNIQUE or both"),
        ({"touchpoint_ids": f"[{KEY}"}, "option touchpoint_ids must be ids with commas between"),
        ({"allow_http": KEY}, "option allow_http must be true or false"),
        ({"key_file": KEY}, "option key_file: the file cannot be read: No such file"),
        ({"base_url": KEY}, "base_url must be like https://host"),
        ({"path": KEY}, "the path and the option experience_id differ"),
        ({"paths": f'["{KEY}"]'}, "load() takes one experience; for several, make a frame of each"),
        ({"experience_id": ""}, "the option experience_id is missing"),
        ({"numPartitions": "0"}, "numPartitions must be at least 1, got 0"),
        ({"maxRowsPerTrigger": "0"}, "maxRowsPerTrigger must be at least 1, got 0"),
        ({"prefetch": "0"}, "prefetch must be at least 1, got 0"),
        ({"rate_limit": "0"}, "rate_limit must be > 0 requests per second"),
        ({"timeout": "-1"}, "timeout must be > 0 seconds"),
        ({"max_concurrency": "2"}, "max_concurrency=2 is less than numPartitions=4"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_option_that_is_wrong_is_named_without_its_value(given: dict[str, str], message: str) -> None:
    with pytest.raises((InvalidRequestError, ConfigurationError), match=re.escape(message)) as caught:
        Options.parse({"experience_id": "exp-1", **given})
    assert KEY not in str(caught.value)
    assert caught.value.__context__ is None


def test_tasks_share_the_limits_and_the_key_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"DISTINCT_API_KEY={KEY}\nDISTINCT_BASE_URL=https://elsewhere.example", "utf-8")
    texts = {"NUMPARTITIONS": "3", "Rate_Limit": "6", "key_file": str(tmp_path / "key"), "path": "exp-1"}
    options = Options.parse(texts)
    settings = options.make_client(3)._engine.core.settings
    assert (16 // 3, 2.0) == (settings.max_concurrency, settings.rate_limit)
    assert ("https://elsewhere.example", KEY) == (settings.base_urls["distinct"], settings.key("distinct").value)
    assert "https://b.example" == options.make_client(3, "https://b.example").base_urls["distinct"]
    assert 100 == Options.parse({"path": "exp-1", "numPartitions": "100"}).max_concurrency
    assert KEY.encode() not in pickle.dumps(options)


def test_options_reach_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTINCT_API_KEY", KEY)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    texts = {
        "path": "exp-1",
        "timeout": "7",
        "deadline": "70",
        "base_url": "http://vendor.example",
        "allow_http": "True",
    }
    client = Options.parse({**texts, "trust_env": "true"}).make_client()
    assert (7, 70, JOB_RETRY) == (client.timeouts.attempt, client.deadline, client.retry)
    assert "http://127.0.0.1:9" == client._engine.core.settings.proxies["distinct"]
    assert (
        Options.parse({**texts, "trust_env": "FALSE"}).make_client()._engine.core.settings.proxies["distinct"] is None
    )
    with pytest.raises(ConfigurationError, match=r"plain http to vendor\.example"):
        Options.parse({**texts, "allow_http": "false"})


def test_a_micro_batch_takes_as_much_of_each_list() -> None:
    assert {"a": 2, "b": 4, "c": 4} == allot({"a": 2, "b": 50, "c": 90}, 10)


@given(st.dictionaries(st.text(), st.integers(0, 50)), st.integers(1, 120))
def test_a_micro_batch_takes_all_that_fits_and_no_list_more_than_it_has(new: dict[str, int], limit: int) -> None:
    shares = allot(new, limit)
    assert min(limit, sum(new.values())) == sum(shares.values())
    assert all(0 <= shares[key] <= new[key] for key in new)
    assert new == allot(new, None)


def test_without_spark_the_module_that_spark_looks_for_has_no_format() -> None:
    program = "import sys; sys.modules['pyspark'] = None; import pyspark_distinct; print(dir(pyspark_distinct))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "DefaultSource" not in done.stdout


# The stream.


class Query:
    """A stream into Parquet files, with Spark's checkpoint."""

    def __init__(self, spark: Any, fake: FakeServer, folder: Path, **options: object) -> None:
        self.spark, self.fake, self.folder = spark, fake, folder
        self.options = {"base_url": fake.url, "experience_id": "exp-1", **options}

    def run(self, **options: object) -> list[int]:
        """Read all that is there now, and return the rows of each micro-batch."""
        stream = self.spark.readStream.format("distinct").options(**{**self.options, **options}).load()
        writer = stream.writeStream.format("parquet").option("path", str(self.folder / "rows"))
        writer = writer.option("checkpointLocation", str(self.folder / "checkpoint")).trigger(availableNow=True)
        rows: list[int] = []
        chances = 3
        while chances:
            query = writer.start()
            try:
                query.awaitTermination()
                break
            except Exception as error:
                chances -= 1
                if not chances or "Python worker failed to connect back" not in str(error):
                    raise  # Spark gives its process 10 seconds to start, which a busy machine may need
            finally:
                query.stop()
                rows += [each["numInputRows"] for each in query.recentProgress if each["numInputRows"]]
        return rows

    def rows(self) -> list[Row]:
        return rows_in(self.spark.read.parquet(str(self.folder / "rows")))


@pytest.fixture
def query(spark: Any, fake: FakeServer, tmp_path: Path) -> Query:
    return Query(spark, fake, tmp_path)


def test_a_stream_is_exact_while_lists_grow_between_its_runs(query: Query, fake: FakeServer, world: World) -> None:
    assert [len(rows_of(world, *BOTH))] == query.run(visits_type="both")
    assert sorted(rows_of(world, *BOTH)) == query.rows()

    fake.requests.clear()
    assert [] == query.run(visits_type="both")
    assert {"experience": 1} == lists_asked(fake)

    world.grow(300, "tp-2")
    fake.requests.clear()
    query.run()  # of one type only: the other keeps its place
    assert {"experience": 1, "tp-2": 2} == lists_asked(fake)  # a small request, and a page
    query.run(visits_type="both")
    assert sorted(rows_of(world, *BOTH)) == query.rows()


def test_micro_batches_have_at_most_the_rows_that_are_allowed(query: Query, world: World) -> None:
    counts = query.run(maxRowsPerTrigger=6_000)
    assert (len(rows_of(world)), 5) == (sum(counts), len(counts))
    assert max(counts) <= 6_000
    assert sorted(rows_of(world)) == query.rows()


def test_available_now_leaves_what_comes_later_to_the_next_run(query: Query, fake: FakeServer, world: World) -> None:
    before = len(rows_of(world))

    def grow(body: bytes) -> bytes:
        world.grow(500)
        return body

    fake.fail(query={"touchpointId": "tp-1", "pageSize": "500"}, body=grow, times=1)  # while the first one is read
    assert before == sum(query.run(maxRowsPerTrigger=13_000))
    assert 500 == sum(query.run())
    assert sorted(rows_of(world)) == query.rows()


def test_rows_that_have_moved_stop_the_query_on_every_run_and_leave_the_target(query: Query, world: World) -> None:
    query.run()
    before = query.rows()
    world.insert("tp-1", 5, "user-new", datetime(2026, 6, 1, tzinfo=UTC))
    for _ in range(2):
        with pytest.raises(Exception, match=r"DriftError.*touchpoint 'tp-1'.*start over, with another checkpoint"):
            query.run()
        assert before == query.rows()


@pytest.fixture
def make_reader(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], StreamReader]:
    """Make what Spark makes in its Python processes."""
    monkeypatch.setenv("DISTINCT_API_KEY", KEY)
    texts = {"path": "exp-1", "base_url": fake.url}
    return lambda touchpoint_ids: StreamReader(Options.parse({**texts, "touchpoint_ids": touchpoint_ids}))


def read_counts(reader: StreamReader, start: dict[str, str], end: dict[str, str]) -> Counter[str]:
    """How many rows of each touchpoint a micro-batch has."""
    batches = [batch for part in reader.partitions(start, end) for batch in reader.read(part)]
    return Counter(each for batch in batches for each in batch["touchpoint_id"].to_pylist())


def test_a_row_that_is_inserted_before_a_micro_batch_is_read_stops_it(
    make_reader: Callable[[str], StreamReader], world: World
) -> None:
    reader = make_reader("tp-1")
    end = reader.latestOffset({}, ReadMaxRows(1_000))
    assert {"tp-1": 1_000} == read_counts(reader, {}, end)
    assert {"tp-1": 500} == read_counts(reader, end, reader.latestOffset(end, ReadMaxRows(500)))
    world.insert("tp-1", 3, "user-new", world.scans("tp-1")[3].at)  # in the order of times: only the last row shows it
    with pytest.raises(DriftError, match="start over, with another checkpointLocation"):
        read_counts(reader, {}, end)


def test_a_micro_batch_is_repeated_after_a_restart_with_lists_that_are_not_selected_any_more(
    make_reader: Callable[[str], StreamReader], world: World
) -> None:
    counts = {each: len(world.scans(each)) for each in ("tp-1", "tp-4")}
    reader = make_reader("tp-1, tp-4")
    start = reader.latestOffset({}, ReadAllAvailable())
    assert counts == read_counts(make_reader("tp-4"), {}, start)
    world.grow(7, "tp-1")
    end = reader.latestOffset(start, ReadAllAvailable())
    assert {"tp-1": 7} == read_counts(make_reader("tp-4"), start, end)
    assert start["TOTAL tp-4"] == end["TOTAL tp-4"]


def test_a_list_that_shrank_since_it_was_planned_is_planned_again(
    make_reader: Callable[[str], StreamReader], world: World
) -> None:
    reader = make_reader("tp-1")
    reader.prepareForTriggerAvailableNow()
    world.shrink(1, "tp-1")
    with pytest.raises(DriftError, match="is gone since the list was planned; the next micro-batch plans again"):
        reader.latestOffset({}, ReadAllAvailable())


def test_a_list_that_shrank_stops_the_query(query: Query, world: World) -> None:
    query.run()
    world.shrink(3, "tp-1")
    with pytest.raises(Exception, match=r"DriftError.*rows that were read are gone.*start over"):
        query.run()


def test_the_checkpoint_of_another_experience_is_refused(query: Query, world: World) -> None:
    query.run(touchpoint_ids="tp-4")
    world.add_touchpoint("tp-other", experience_id="exp-2")
    with pytest.raises(Exception, match=r"CheckpointError.*belongs to experience 'exp-1', not to 'exp-2'"):
        query.run(experience_id="exp-2")
