"""Decoding: strict and lenient exactly where the design says, and nothing but a model or a `DecodeError` comes out.

All goes the road that the engine takes: bytes to `dialect.read`, its payload to an entry of `structure`.
"""

from __future__ import annotations

import copy
import inspect
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distinct_async import models, structure
from distinct_async.errors import APIError, DecodeError
from distinct_async.sansio import dialect
from distinct_async.sansio.messages import Decoder, Request, Response
from distinct_async.sansio.pages import PageFacts
from distinct_async.vendors import Vendor

from .wire import responses

Json = dict[str, Any]


def same(value: object) -> object:
    return value


Make = Callable[[Any], object]

# Of each entry: the vendor, the decoder, what is made of its value, a correct body, and the type of the result
ENTRIES: dict[str, tuple[Vendor, Decoder[Any], Make, Json, type]] = {
    "experience": ("distinct", structure.EXPERIENCE, same, responses.experience(), models.ExperienceMetrics),
    "user": ("distinct", structure.USER, same, responses.user(), models.UserMetrics),
    "touchpoint": (
        "distinct",
        structure.TOUCHPOINT["TOTAL"],
        partial(structure.touchpoint, visits_type="TOTAL"),
        responses.touchpoint(),
        models.TouchpointMetrics,
    ),
    "unique": (
        "distinct",
        structure.TOUCHPOINT["UNIQUE"],
        partial(structure.touchpoint, visits_type="UNIQUE"),
        responses.touchpoint("UNIQUE"),
        models.TouchpointMetrics,
    ),
    "total_visits": ("distinct", structure.VISITS["TOTAL"], structure.visits_page, responses.touchpoint(), PageFacts),
    "unique_visits": (
        "distinct",
        structure.VISITS["UNIQUE"],
        structure.visits_page,
        responses.touchpoint("UNIQUE"),
        PageFacts,
    ),
    "impression": ("vantio", structure.IMPRESSION, same, responses.IMPRESSION, models.Impression),
    "impressions": (
        "vantio",
        structure.IMPRESSIONS,
        structure.impressions_page,
        {"impressions": [responses.IMPRESSION]},
        PageFacts,
    ),
}
EVERY_ENTRY = pytest.mark.parametrize("name", ENTRIES)
PATH = re.compile(r"\$(\.[A-Za-z_]+|\[\d+\]|\[\.\.\.\])*")  # [...]: msgspec's word for some value of an object


def received(name: str, body: bytes, *, in_one_go: bool = True) -> object:
    """What the body becomes at this entry: a model, or the error that is raised."""
    vendor, decoder, make, _, _ = ENTRIES[name]
    used = decoder if in_one_go else Decoder(lambda _: None, decoder.strict)
    reading = dialect.read(Request(vendor, name, "/", decoder=used), Response(200, {}, body))
    if reading.error is not None:
        return reading.error
    assert reading.value is not None
    return make(reading.value)


def read(name: str, body: object) -> Any:
    """The model that this JSON becomes."""
    value = received(name, json.dumps(body).encode())
    if isinstance(value, Exception):
        raise value
    return value


def wrong(name: str, body: object) -> tuple[str, ...]:
    """The paths of the error that this JSON becomes."""
    value = received(name, json.dumps(body).encode())
    assert isinstance(value, DecodeError), value
    return value.paths


def assert_whole(name: str, value: object) -> None:
    """A model of the right type with the right types all through, or a DecodeError with a path."""
    if isinstance(value, DecodeError):
        assert value.paths
        assert [] == [path for path in value.paths if not PATH.fullmatch(path)]
        assert "`$" in str(value)
        assert 1024 + 1024 >= len(value.excerpt)  # with the slack that the engine cuts off
        str(value).encode()
    elif not isinstance(value, APIError):  # an envelope may say no
        assert ENTRIES[name][4] is type(value)
        assert_typed(value)


def assert_typed(value: Any) -> None:
    hints = inspect.get_annotations(type(value))
    for field in attrs.fields(type(value)):
        inner = getattr(value, field.name)
        allowed: dict[Any, tuple[type, ...]] = {
            str: (str,),
            int: (int,),
            str | None: (str, type(None)),
            int | None: (int, type(None)),
            datetime: (datetime,),
        }
        assert type(inner) in allowed.get(hints[field.name], (type(inner),)), field
        if isinstance(inner, tuple):
            for each in inner:
                if attrs.has(type(each)):
                    assert_typed(each)
        for time in [inner, *(inner if isinstance(inner, tuple) else ())]:
            if isinstance(time, datetime):
                assert UTC is time.tzinfo


# -- the table: each place of each response, and what may stand there

REQUIRED_TEXT: list[Any] = [None, 7, 1.5, True, [], {}, "absent"]
REQUIRED_COUNT: list[Any] = [None, "3", 3.0, 1.5, True, [], {}, "", "absent"]
REQUIRED_LIST: list[Any] = [None, {}, "ab", 7, True, "absent"]
REQUIRED_TIME: list[Any] = [
    *(None, 7, 1704103200, 1.5, True, [], {}, "", "absent", "yesterday", "2024-01-01", "10:00:00Z"),
    *("2024-13-01T10:00:00Z", "2024-02-30T10:00:00Z", "2024-01-01T10:00:60Z", "2024-01-01T24:00:00Z"),
    *("0000-01-01T10:00:00Z", "10000-01-01T00:00:00Z", "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01"),
    *(
        "2024-01-01T10:00:00 Z",
        " 2024-01-01T10:00:00Z",
        "2024-01-01T10:00Z",
        "20240101T100000Z",
        "2024-W01-1T10:00:00Z",
    ),
]
OPTIONAL_TEXT: list[Any] = [7, 1.5, True, [], {}]
OPTIONAL_OBJECT: list[Any] = [7, True, "", "ab", []]
DUE: list[tuple[list[str], str, list[Any]]] = [
    (["experience", "user"], "$.data.totalTouchpoints", REQUIRED_COUNT),
    (["experience", "user"], "$.data.touchpoints", REQUIRED_LIST),
    (["experience", "user"], "$.data.touchpoints[0]", [None, [], "ab", 7]),
    (["experience", "user"], "$.data.touchpoints[0].id", REQUIRED_TEXT),
    (["experience", "user"], "$.data.touchpoints[0].name", OPTIONAL_TEXT),
    (["experience", "user"], "$.data.touchpoints[0].value", OPTIONAL_TEXT),
    (["experience", "user"], "$.data.touchpoints[0].totalVisits", REQUIRED_COUNT),
    (["experience"], "$.data.touchpoints[1].uniqueVisits", REQUIRED_COUNT),
    (["user"], "$.data.touchpoints[0].timestampsUTC", REQUIRED_LIST),
    (["user"], "$.data.touchpoints[0].timestampsUTC[1]", [one for one in REQUIRED_TIME if one != "absent"]),
    (
        ["touchpoint", "unique", "total_visits", "unique_visits"],
        "$.data.touchpoints",
        [None, [], [{}], "ab", 7, "absent"],
    ),
    (["touchpoint", "unique", "total_visits", "unique_visits"], "$.data.touchpoints.id", REQUIRED_TEXT),
    (["touchpoint", "unique", "total_visits", "unique_visits"], "$.data.touchpoints.name", OPTIONAL_TEXT),
    (["touchpoint"], "$.data.touchpoints.totalVisits", REQUIRED_COUNT),
    (["unique"], "$.data.touchpoints.uniqueVisits", REQUIRED_COUNT),
    (
        ["total_visits"],
        "$.data.touchpoints.totalVisits",
        [one for one in REQUIRED_COUNT if one not in (None, "absent")],
    ),
    (["touchpoint", "total_visits"], "$.data.touchpoints.totalVisitsDetails", [None, *OPTIONAL_OBJECT, "absent"]),
    (["unique", "unique_visits"], "$.data.touchpoints.uniqueVisitsDetails", [None, *OPTIONAL_OBJECT, "absent"]),
    (["touchpoint", "total_visits"], "$.data.touchpoints.totalVisitsDetails.items", REQUIRED_LIST),
    (["unique", "unique_visits"], "$.data.touchpoints.uniqueVisitsDetails.items", REQUIRED_LIST),
    (["touchpoint", "total_visits"], "$.data.touchpoints.totalVisitsDetails.items[2]", [None, [], "ab", 7]),
    (["touchpoint", "total_visits"], "$.data.touchpoints.totalVisitsDetails.items[1].userId", REQUIRED_TEXT),
    (["touchpoint", "total_visits"], "$.data.touchpoints.totalVisitsDetails.items[1].timestampUTC", REQUIRED_TIME),
    (["unique_visits"], "$.data.touchpoints.uniqueVisitsDetails.items[0].timestampUTC", REQUIRED_TIME),
    (["touchpoint", "total_visits"], "$.data.touchpoints.totalVisitsDetails.pagination", OPTIONAL_OBJECT),
    (["touchpoint", "total_visits"], "$.data.touchpoints.totalVisitsDetails.pagination.offset", REQUIRED_COUNT),
    (["touchpoint", "total_visits"], "$.data.touchpoints.totalVisitsDetails.pagination.pageSize", REQUIRED_COUNT),
    (["impressions"], "$.impressions", REQUIRED_LIST),
    (["impressions"], "$.impressions[0]", [None, [], "ab", 7]),
    (["impressions"], "$.impressions[0].id", REQUIRED_TEXT),
    (["impressions"], "$.impressions[0].scanned_at", REQUIRED_TIME),
    *((["impression"], f"$.{name}", REQUIRED_TEXT) for name in ("id", "poster_id", "program_id", "student_id")),
    (["impression"], "$.scanned_at", REQUIRED_TIME),
    (["impression"], "$.user_agent", OPTIONAL_TEXT),
    (["impression"], "$.ip_address", OPTIONAL_TEXT),
    (["impression"], "$.metadata", OPTIONAL_OBJECT),
]


def changed(body: Json, path: str, value: object) -> Json:
    """A copy of the response with another value at the path, or none."""
    *way, last = [int(step) if step.isdigit() else step for step in re.findall(r"\w+", path)]
    body = copy.deepcopy(body)
    place: Any = body
    for step in way:
        place = place[step]
    if value == "absent":
        del place[last]
    else:
        place[last] = value
    return body


@pytest.mark.parametrize(("names", "path", "values"), [pytest.param(*row, id=f"{row[0][0]} {row[1]}") for row in DUE])
def test_what_may_not_stand_there_is_named_by_its_path(names: list[str], path: str, values: list[Any]) -> None:
    for name in names:
        sample = ENTRIES[name][3]
        for value in values:
            assert (path,) == wrong(name, changed(sample, path, value)), value


ALIKE: list[tuple[list[str], str]] = [
    (["experience", "user"], "$.data.touchpoints[0].name"),
    (["experience", "user"], "$.data.touchpoints[0].value"),
    (["touchpoint", "unique"], "$.data.touchpoints.name"),
    (["touchpoint", "unique"], "$.data.touchpoints.value"),
    (["touchpoint", "total_visits"], "$.data.touchpoints.totalVisitsDetails.pagination"),
    (["total_visits"], "$.data.touchpoints.totalVisits"),
    (["impression"], "$.user_agent"),
    (["impression"], "$.ip_address"),
    (["impression"], "$.metadata"),
]


@pytest.mark.parametrize(("names", "path"), [pytest.param(*row, id=f"{row[0][0]} {row[1]}") for row in ALIKE])
def test_what_may_be_absent_may_be_null_alike(names: list[str], path: str) -> None:
    for name in names:
        sample = ENTRIES[name][3]
        assert read(name, changed(sample, path, "absent")) == read(name, changed(sample, path, None))
        assert read(name, sample) != read(name, changed(sample, path, None))


def test_texts_may_be_empty_and_counts_large() -> None:
    summary = {"id": "", "name": "", "value": "", "totalVisits": 2**62, "uniqueVisits": 0}
    metrics = read("experience", responses.distinct({"totalTouchpoints": 10**18, "touchpoints": [summary]}))
    assert models.TouchpointSummary("", "", "", 2**62, 0) == metrics.touchpoints[0]


def test_all_that_is_wrong_is_in_the_paths_and_the_first_of_it_in_the_message() -> None:
    row = {"id": 5, "name": 5, "value": 5, "totalVisits": "5", "uniqueVisits": None}
    body = responses.distinct({"totalTouchpoints": None, "touchpoints": [row]})
    value = received("experience", json.dumps(body).encode())
    assert isinstance(value, DecodeError)
    assert 6 == len(value.paths) == len(set(value.paths))
    assert [True] * 3 + [False] * 3 == [path in str(value) for path in value.paths]
    assert "(and 3 more)" in str(value)


def test_all_that_is_wrong_with_a_page_is_reported_its_rows_by_the_first_that_is_wrong() -> None:
    below = "$.data.touchpoints"
    body = responses.touchpoint()
    wrongs: dict[str, object] = {
        f"{below}.id": None,
        f"{below}.totalVisits": "3",
        f"{below}.totalVisitsDetails.items[1].userId": 5,
        f"{below}.totalVisitsDetails.pagination.offset": True,
    }
    for path, value in wrongs.items():
        body = changed(body, path, value)
    assert set(wrongs) == set(wrong("total_visits", body))


VISITS = ("touchpoint", "unique", "total_visits", "unique_visits")


@pytest.mark.parametrize("name", VISITS)
def test_a_good_page_is_read_in_one_go(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialect, "_ENVELOPE_DECODER", None)  # the way to another
    details = f"$.data.touchpoints.{'unique' if 'unique' in name else 'total'}VisitsDetails"
    body = ENTRIES[name][3]
    for path in ("$.data.touchpoints.name", "$.data.touchpoints.value", f"{details}.pagination"):
        for value in (None, "absent"):
            assert_whole(name, read(name, changed(body, path, value)))
    for time in ("2024-01-01T10:00:00", "2024-01-01T10:00:00+02:00"):
        assert_whole(name, read(name, changed(body, f"{details}.items[0].timestampUTC", time)))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ('"3"', "Expected `int`, got `str`"),
        ("true", "Expected `int`, got `bool`"),
        ("1.0", "Expected `int`, got `float`"),
        ("null", "Expected `int`, got `null`"),
        ("[]", "Expected `int`, got `array`"),
        ("{}", "Expected `int`, got `object`"),
        ("NaN", "$"),
        ("1e400", "$"),
        ("9" * 5000, "$"),
        ("-", "$"),
    ],
    ids=lambda text: text[:12],
)
def test_what_was_expected_and_what_came_is_reported(bad: str, said: str) -> None:
    body = b'{"data": {"totalTouchpoints": %b, "touchpoints": []}}' % bad.encode()
    value = received("experience", body)
    assert isinstance(value, DecodeError)
    assert said in str(value)
    assert_whole("experience", value)


# -- arbitrary JSON and arbitrary bytes

WORDS = [
    *("data", "statusCode", "message", "id", "name", "value", "touchpoints", "totalTouchpoints", "totalVisits"),
    *("uniqueVisits", "totalVisitsDetails", "uniqueVisitsDetails", "items", "pagination", "userId", "timestampUTC"),
    *("timestampsUTC", "impressions", "scanned_at", "metadata"),
]


def json_values(floats: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    """Arbitrary JSON, in which the vendors' words stand more often than chance would have it."""
    return st.recursive(
        st.none() | st.booleans() | st.integers() | floats | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=3), inner, max_size=5)
        ),
        max_leaves=12,
    )


JSON = json_values(st.floats())  # NaN and Infinity too, which are no JSON, but are sent as if they were
TRUE_JSON = json_values(st.floats(allow_nan=False, allow_infinity=False))
TIMES = st.one_of(
    st.datetimes().map(lambda time: f"{time.isoformat()}Z"),
    st.datetimes().map(datetime.isoformat),
    st.tuples(st.datetimes(), st.integers(-1439, 1439)).map(
        lambda both: f"{both[0].isoformat()}{'-' if both[1] < 0 else '+'}{abs(both[1]) // 60:02}:{abs(both[1]) % 60:02}"
    ),
    st.from_regex(r"\A\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{0,12})?([Zz]|[+-]\d\d:?\d\d)?\Z"),
    st.sampled_from(
        [
            *("0001-01-01T00:00:00+00:01", "0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59-00:01"),
            *("9999-12-31T23:59:59.9999999Z", "2024-01-01t10:00:00z", "2024-01-01 10:00:00Z", "2024-01-01T10:00:00,5Z"),
            *("2024-01-01T10:00:00.123456789+05:30", "2024-12-31T23:59:59.9999995Z", "2024-01-01T10:00:00+24:00"),
            *("2024-01-01T10:00:00-00:00", "2024-06-30T23:59:60Z", "2024-01-01T10:00:00Z ", ""),
        ]
    ),
)


def every_place(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from every_place(inner, (*place, key))


@st.composite
def nearly(draw: st.DrawFn, name: str) -> object:
    """The sample, with one or two places put to something else, or left out."""
    body: Any = copy.deepcopy(ENTRIES[name][3])
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.sampled_from(list(every_place(body))))
        if not place:
            return draw(JSON)
        *way, last = place
        target = body
        for step in way:
            target = target[step]
        if draw(st.booleans()):
            target[last] = draw(JSON | TIMES)
        else:
            del target[last]
    return body


@EVERY_ENTRY
@settings(max_examples=50)
@given(body=JSON)
def test_arbitrary_json_becomes_a_model_or_a_decode_error(name: str, body: object) -> None:
    assert_whole(name, received(name, json.dumps(body).encode()))


@EVERY_ENTRY
@settings(max_examples=70)
@given(data=st.data())
def test_a_sample_with_something_wrong_becomes_a_model_or_a_decode_error(name: str, data: st.DataObject) -> None:
    body = data.draw(nearly(name))
    assert_whole(
        name, received(name, json.dumps(body, ensure_ascii=data.draw(st.booleans())).encode(errors="surrogatepass"))
    )


@EVERY_ENTRY
@settings(max_examples=50)
@given(body=st.binary())
@example(body=b"\xef\xbb\xbf{}")
@example(body=b'{"data": "\xff"}')
@example(body=b'{"id": "\\ud800"}')
@example(body=b'{"data": {"touchpoints": "\\q"}}')
@example(body=b"[" * 100_000)
@example(body=b'{"data":' * 100_000)
@example(body=b"[" * 100_000 + b"]" * 100_000)
@example(body=b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
@example(body=b'{"data": 1e999999}')
@example(body=b"0" * 10_000)
def test_arbitrary_bytes_become_a_model_or_a_decode_error(name: str, body: bytes) -> None:
    assert_whole(name, received(name, body))


@EVERY_ENTRY
@settings(max_examples=70)
@given(data=st.data())
def test_a_sample_with_broken_bytes_becomes_a_model_or_a_decode_error(name: str, data: st.DataObject) -> None:
    body = json.dumps(ENTRIES[name][3]).encode()
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, min(len(body), start + 9)))
    patch = data.draw(
        st.binary(max_size=4) | st.sampled_from([b'"', b"{", b"[", b"\\", b"\\ud800", b"\xed\xa0\x80", b"null"])
    )
    assert_whole(name, received(name, body[:start] + patch + body[end:]))


@EVERY_ENTRY
def test_deep_nesting_where_nobody_looks_is_read_or_refused(name: str) -> None:
    for depth in (10, 500, 5_000, 200_000):
        deep = b'{"unknown": ' + b"[" * depth + b"]" * depth + b", " + json.dumps(ENTRIES[name][3]).encode()[1:]
        assert_whole(name, received(name, deep))


# -- two roads: in one go by msgspec, and by cattrs alone


def comparable(value: object) -> object:
    """What can be compared of what came out."""
    if isinstance(value, DecodeError):
        return str(value), value.paths
    if isinstance(value, APIError):
        return type(value), value.status
    return (value, value.unmistakable()) if isinstance(value, PageFacts) else value


@pytest.mark.parametrize("name", ENTRIES)
@settings(max_examples=150)
@given(data=st.data())
def test_both_roads_of_an_answer_lead_to_the_same(name: str, data: st.DataObject) -> None:
    body = json.dumps(data.draw(nearly(name))).encode()
    quick = received(name, body)
    assert comparable(received(name, body, in_one_go=False)) == comparable(quick)


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("zone", ["", "+00:00", "-00:00", "+05:30"])
def test_both_roads_lead_to_the_same_from_every_zone(name: str, zone: str) -> None:
    body = json.dumps(ENTRIES[name][3]).replace('0:00Z"', f'0:00{zone}"').encode()
    quick = received(name, body)
    assert comparable(received(name, body, in_one_go=False)) == comparable(quick)
    assert ENTRIES[name][4] is type(quick)


@pytest.mark.parametrize("status", ["404", '"404"', "500", '"200"', "null", "[]", "200.0"])
def test_an_envelope_that_says_something_else_is_looked_at_more_closely(status: str) -> None:
    body = json.dumps(responses.touchpoint()).replace('"statusCode": 200', f'"statusCode": {status}').encode()
    assert comparable(received("total_visits", body, in_one_go=False)) == comparable(received("total_visits", body))
    expected = APIError if status.strip('"') in {"404", "500"} else PageFacts
    assert isinstance(received("total_visits", body), expected)


# -- the rows of a page: the hook that hands over to msgspec, and cattrs row by row

ROWS = st.lists(
    st.fixed_dictionaries(
        {"userId": st.text(max_size=9) | TRUE_JSON, "timestampUTC": TIMES | TRUE_JSON}, optional={"unknown": TRUE_JSON}
    )
    | st.fixed_dictionaries({"userId": st.text(max_size=9), "timestampUTC": TIMES})
    | st.fixed_dictionaries({}, optional={"userId": st.text(max_size=9), "timestampUTC": TIMES})
    | TRUE_JSON,
    max_size=5,
)
GOOD_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "userId": st.text(max_size=9),
            "timestampUTC": st.one_of(
                st.datetimes().map(datetime.isoformat),
                st.tuples(
                    st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)),  # noqa: DTZ001 - the zone comes as text
                    st.sampled_from(["Z", "z", "", "+00:00", "-00:00", "+05:30", "-23:59", "+23:59"]),
                ).map(lambda both: both[0].isoformat() + both[1]),
            ),
        }
    ),
    max_size=9,
)


CATTRS = structure.make_converter()


def by_msgspec(rows: list[Any]) -> list[models.Visit] | DecodeError:
    """The visits of a page, as the entries read them."""
    details = {"items": rows, "pagination": {"offset": 0, "pageSize": 50}}
    data = {"touchpoints": {"id": "tp-1", "totalVisits": len(rows), "totalVisitsDetails": details}}
    value = received("total_visits", json.dumps(responses.distinct(data)).encode())
    if isinstance(value, DecodeError):
        return value
    assert isinstance(value, PageFacts)
    return list(value.items)


def by_cattrs(rows: list[Any]) -> list[models.Visit | None]:
    """The same through plain cattrs, row by row; None for one that is refused."""
    found: list[models.Visit | None] = []
    for row in rows:
        try:
            found.append(CATTRS.structure(msgspec.json.decode(json.dumps(row)), models.Visit))
        except Exception:  # noqa: BLE001 - whatever it says, it is a refusal
            found.append(None)
    return found


@settings(max_examples=200)
@given(rows=ROWS | GOOD_ROWS)
@example(
    rows=[
        {"userId": "u", "timestampUTC": "2024-01-01T10:00:00Z"},
        {"userId": "u", "timestampUTC": "0001-01-01T00:00:00+01:00"},
    ]
)
@example(rows=[{"userId": "u", "timestampUTC": "2024-01-01T10:00:00.5+01:00"}, {"userId": 5, "timestampUTC": ""}])
@example(rows=[{"userId": None, "timestampUTC": "2024-01-01T10:00:00Z"}])
@example(rows=[{"userId": True, "timestampUTC": 1704103200}])
def test_both_roads_to_a_visit_lead_to_the_same(rows: list[Any]) -> None:
    plain, fast = by_cattrs(rows), by_msgspec(rows)
    if isinstance(fast, DecodeError):
        refused = {int(number) for path in fast.paths for number in re.findall(r"items\[(\d+)\]", path)}
        assert {number for number, row in enumerate(plain) if row is None} == refused
    else:
        assert plain == fast
        assert [UTC] * len(fast) == [row.timestamp_utc.tzinfo for row in fast]
        assert {models.Visit} >= {type(row) for row in fast}


@settings(max_examples=50)
@given(rows=GOOD_ROWS)
def test_good_rows_are_good_on_both_roads(rows: list[Any]) -> None:
    expected = [datetime.fromisoformat(row["timestampUTC"].upper()) for row in rows]
    utc = [time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC) for time in expected]
    assert [models.Visit(row["userId"], time) for row, time in zip(rows, utc, strict=True)] == by_msgspec(rows)
    assert by_cattrs(rows) == by_msgspec(rows)


MOMENT = datetime(2024, 1, 1, 10, tzinfo=UTC)
READ_TIMES = {
    "2024-01-01T10:00:00Z": MOMENT,
    "2024-01-01T10:00:00z": MOMENT,
    "2024-01-01t10:00:00Z": MOMENT,
    "2024-01-01T10:00:00": MOMENT,
    "2024-01-01T10:00:00+00:00": MOMENT,
    "2024-01-01T10:00:00-00:00": MOMENT,
    "2024-01-01T12:30:00+02:30": MOMENT,
    "2023-12-31T23:00:00-11:00": MOMENT,
    "2024-01-01T10:00:00.5Z": MOMENT + timedelta(microseconds=500_000),
    "2024-01-01T10:00:00.000001Z": MOMENT + timedelta(microseconds=1),
    "2024-01-01T10:00:00.123456789Z": MOMENT + timedelta(microseconds=123_457),
    "2024-01-01T10:00:00.25": MOMENT + timedelta(microseconds=250_000),
    "0001-01-01T00:00:00Z": datetime(1, 1, 1, tzinfo=UTC),
    "9999-12-31T23:59:59Z": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
}


@pytest.mark.parametrize("text", READ_TIMES)
def test_a_time_is_read_alike_everywhere_and_comes_out_in_utc(text: str) -> None:
    rows = by_msgspec([{"userId": "u", "timestampUTC": text}])
    assert isinstance(rows, list)
    user = read("user", changed(responses.user(), "$.data.touchpoints[0].timestampsUTC", [text]))
    times = [
        rows[0].timestamp_utc,
        user.touchpoints[0].timestamps_utc[0],
        read("impression", responses.IMPRESSION | {"scanned_at": text}).scanned_at,
    ]
    assert [READ_TIMES[text]] * 3 == times
    assert [UTC] * 3 == [time.tzinfo for time in times]


# -- the facts of a page


def test_the_facts_of_a_page_of_visits() -> None:
    facts = read("total_visits", responses.touchpoint(offset=1))
    times = [datetime(2024, 1, day, 10, tzinfo=UTC) for day in (2, 3)]
    assert (3, 1, 50, *times) == (facts.total, facts.echo_offset, facts.echo_size, facts.first, facts.last)
    assert (2, True) == (len(facts.items), facts.unmistakable())
    same = {"userId": "u", "timestampUTC": "2024-01-01T10:00:00Z"}
    path = "$.data.touchpoints.totalVisitsDetails.items"
    assert not read("total_visits", changed(responses.touchpoint(), path, [same, same])).unmistakable()
    empty = read("total_visits", changed(responses.touchpoint(), path, []))
    assert (0, None, None, False) == (len(empty.items), empty.first, empty.last, empty.unmistakable())


def test_the_facts_of_a_page_of_impressions() -> None:
    facts = read("impressions", {"impressions": [responses.IMPRESSION]})
    time = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)
    assert (None, None, None, time, time) == (facts.total, facts.echo_offset, facts.echo_size, facts.first, facts.last)
    assert facts.unmistakable()
    empty = read("impressions", {"impressions": []})
    assert (0, None, None) == (len(empty.items), empty.first, empty.last)


def test_an_error_keeps_the_beginning_of_the_body_and_shows_none_of_it() -> None:
    body = responses.IMPRESSION | {"id": 5, "user_agent": "Agent of a visitor" * 500}
    value = received("impression", json.dumps(body).encode())
    assert isinstance(value, DecodeError)
    assert (1024 + 1024, True) == (len(value.excerpt), "Agent of a visitor" in value.excerpt)
    assert "Agent of a visitor" not in str(value) + repr(value)


# -- the models


@pytest.mark.parametrize(
    "model", [getattr(models, name) for name in models.__all__ if name not in {"VisitsType", "to_dict"}]
)
def test_a_model_is_frozen_and_slotted_and_its_names_are_the_wires_in_snake_case(model: Any) -> None:
    assert hasattr(model, "__slots__")
    assert not hasattr(model.__new__(model), "__dict__")
    for field in attrs.fields(model):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(model.__new__(model), field.name, 1)
        wire = field.metadata.get("wire", field.name)
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", wire).lower()
        if field.name not in {"visits", "pagination"}:
            assert field.name == snake


def test_personal_data_of_an_impression_is_in_no_repr_and_metadata_in_no_hash() -> None:
    one = read("impression", responses.IMPRESSION)
    other = read("impression", responses.IMPRESSION | {"metadata": {"other": []}})
    assert [] == [word for word in ("Mozilla", "192.168", "campus_center") if word in repr(one)]
    assert hash(one) == hash(other)
    assert one != other


@EVERY_ENTRY
def test_every_good_response_is_read_by_the_fast_path(name: str) -> None:
    decoder, body = ENTRIES[name][1], json.dumps(ENTRIES[name][3]).encode()
    assert decoder.fast(body) is not None


@pytest.mark.parametrize(("visits_type", "name"), [("TOTAL", "totalVisits"), ("UNIQUE", "uniqueVisits")])
def test_the_list_of_a_touchpoint_without_visits_may_be_missing_on_both_paths(
    visits_type: models.VisitsType, name: str
) -> None:
    payload = {"touchpoints": {"id": "tp-1", "name": None, "value": None, name: 0}}
    decoder = structure.TOUCHPOINT[visits_type]
    fast = decoder.fast(msgspec.json.encode({"statusCode": 200, "data": payload}))
    strict = decoder.strict(msgspec.Raw(msgspec.json.encode(payload)))

    assert fast is not None
    assert structure.touchpoint(fast, visits_type) == structure.touchpoint(strict, visits_type)
    with pytest.raises(DecodeError, match="missing field"):
        decoder.strict(msgspec.Raw(msgspec.json.encode({"touchpoints": payload["touchpoints"] | {name: 1}})))
