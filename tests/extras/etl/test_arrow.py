"""`etl.arrow`: the rows that the fast path reads and those that the strict path reads are the same in Arrow."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distinct_async import structure
from distinct_async.errors import DecodeError
from distinct_async.etl.arrow import group_chunks, record_batch
from distinct_async.etl.destinations import Chunk
from distinct_async.etl.plans import VisitList
from distinct_async.models import TouchpointSummary, Visit, VisitsType
from distinct_async.sansio.checkpoints import Checkpoint, Question

WORK = VisitList(TouchpointSummary("tp-1", None, None, 9, 4), "TOTAL", experience_id="exp-1")
ZONES = st.sampled_from(["Z", "z", "+00:00", "-00:00", "+05:30", "-12:00", "+14:00", "+0530", "-03", "+23:59"])
FRACTIONS = st.text("0123456789", max_size=9).map(lambda digits: f".{digits}" if digits else "")
MOMENTS = st.builds(
    "{:04}-{:02}-{:02}{}{:02}:{:02}:{:02}".format,
    st.sampled_from([1, 1969, 1970, 2024, 9999]) | st.integers(1, 9999),
    st.sampled_from([1, 12]) | st.integers(1, 12),
    st.sampled_from([1, 28, 31]),
    st.sampled_from("Tt "),
    st.sampled_from([0, 23]) | st.integers(0, 23),
    st.sampled_from([0, 59]),
    st.sampled_from([0, 59, 60]),
)
TIMES = st.builds("".join, st.tuples(MOMENTS, FRACTIONS, ZONES))
ROWS = st.lists(st.fixed_dictionaries({"userId": st.text(max_size=5), "timestampUTC": TIMES}), max_size=5)


def arrow(rows: Any, start: int) -> pa.RecordBatch:
    checkpoint = Checkpoint(Question("metrics.total_visits", {"touchpoint_id": "tp-1"}), start + len(rows), "digest")
    batch = record_batch([Chunk(WORK, start, rebuild=False, checkpoint=checkpoint, visits=list(rows))])
    batch.validate(full=True)
    return batch


def read_twice(visits_type: VisitsType, data: Any) -> tuple[Any, Any]:
    """Return the rows of the fast path, None if it refuses, and of the strict path, None if it raises."""
    payload = msgspec.json.encode(data)
    fast = structure.VISITS[visits_type].fast(b'{"statusCode":200,"message":"","data":' + payload + b"}")
    try:
        strict = structure.VISITS[visits_type].strict(msgspec.Raw(payload))
    except DecodeError:
        strict = None
    return _rows(fast), _rows(strict)


def _rows(data: Any) -> Any:
    return None if data is None else structure.visits_page(data, lean=True).items


@given(ROWS, st.integers(0, 10**9))
@example([{"userId": "u", "timestampUTC": "0001-01-01T00:00:00Z"}], 0)
@example([{"userId": "u", "timestampUTC": "9999-12-31T23:59:59.999999Z"}], 0)
@example([{"userId": "u", "timestampUTC": "2026-01-01T00:00:00.999999999Z"}], 0)
@example([{"userId": "u", "timestampUTC": "1969-12-31T23:59:59.000001Z"}], 0)
@example([{"userId": "u", "timestampUTC": "1969-12-31T23:59:59Z"}], 0)
@example([{"userId": "u", "timestampUTC": "2106-02-07T06:28:15Z"}], 0)
@example([{"userId": "u", "timestampUTC": "2106-02-07T06:28:16Z"}], 0)
@example([{"userId": '","', "timestampUTC": "2026-01-01T00:00:00+05:30"}], 0)
def test_both_paths_are_the_same_in_arrow(rows: list[dict[str, str]], start: int) -> None:
    details = {"items": rows, "pagination": {"offset": 0, "pageSize": 50}}
    data = {"touchpoints": {"id": "tp-1", "name": None, "value": None, "totalVisits": 9, "totalVisitsDetails": details}}
    fast, strict = read_twice("TOTAL", data)
    if strict is None:
        assert fast is None
        return
    expected = arrow(strict, start)
    if fast is not None:
        assert expected.equals(arrow(fast, start), check_metadata=True)
    assert [visit.timestamp_utc.astimezone(UTC) for visit in strict] == expected["timestamp_utc"].to_pylist()
    assert list(range(start, start + len(rows))) == expected["position"].to_pylist()
    assert [row["userId"] for row in rows] == expected["user_id"].to_pylist()


@pytest.mark.parametrize("visits_type", ["TOTAL", "UNIQUE"])
def test_both_paths_of_the_vendors_sample_are_the_same_in_arrow(visits_type: VisitsType) -> None:
    sample = Path(__file__).parents[2] / "samples" / f"touchpoint_{visits_type.lower()}.json"
    fast, strict = read_twice(visits_type, json.loads(sample.read_bytes())["data"])
    assert arrow(strict, 0).equals(arrow(fast, 0), check_metadata=True)
    assert len(arrow(fast, 0))


@pytest.mark.parametrize("count", [0, 1, 499, 500, 65_535, 65_536])
@pytest.mark.parametrize("microseconds", [0, 1])
def test_as_many_times_as_rows_come_in_their_order(count: int, microseconds: int) -> None:
    first = datetime(2038, 1, 19, 3, 14, 7, microseconds, tzinfo=UTC)
    visits = [Visit("u", first + timedelta(seconds=row)) for row in range(count)]
    assert pa.array([visit.timestamp_utc for visit in visits], pa.timestamp("us", "UTC")) == arrow(visits, 0)[-1]


@pytest.mark.parametrize("place", [0, 499, 999])
@pytest.mark.parametrize(
    "odd", ["2026-01-01T00:00:00.000001Z", "1969-12-31T23:59:59Z", "2106-02-07T06:28:16Z", "0001-01-01T00:00:00Z"]
)
def test_one_odd_time_among_many_is_the_same_in_arrow(odd: str, place: int) -> None:
    visits = [Visit("u", datetime(2026, 1, 1, tzinfo=UTC))] * 1000
    visits[place] = Visit("u", datetime.fromisoformat(odd))
    assert [visit.timestamp_utc for visit in visits] == arrow(visits, 0)["timestamp_utc"].to_pylist()


def test_short_lists_share_groups_and_each_group_has_rows_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distinct_async.etl.arrow._MIN_BATCH_ROWS", 5)
    checkpoint = Checkpoint(Question("metrics.total_visits", {"touchpoint_id": "tp-1"}), 9, "digest")
    visit = Visit("u", datetime(2026, 1, 1, tzinfo=UTC))
    chunks = [
        Chunk(WORK, 0, rebuild=False, checkpoint=checkpoint, visits=[visit] * rows)
        for rows in (2, 2, 2, 0, 7, 1, 3, 0, 1, 0)
    ]
    groups = [[len(each.visits) for each in group] for group in group_chunks(chunks)]
    assert [[2, 2, 2], [0, 7], [1, 3, 0, 1], [0]] == groups
