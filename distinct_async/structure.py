"""From bytes to models, with one strict cattrs converter.

Nothing is coerced: only an array is a list. The hook for classes passes to msgspec what msgspec has already decoded, a
page of rows (`shapes`). A test checks that msgspec and cattrs alone return the same models.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from types import UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import attrs
import cattrs
import msgspec
from cattrs import AttributeValidationNote, BaseValidationError, IterableValidationError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn, override

from distinct_async.errors import DecodeError
from distinct_async.models import (
    ExperienceMetrics,
    Impression,
    TouchpointMetrics,
    UserMetrics,
    Visit,
    VisitsType,
)
from distinct_async.sansio.dialect import NOT_JSON, decode_with_surrogates, excerpt, replace_surrogates
from distinct_async.sansio.messages import Reply
from distinct_async.sansio.pages import PageFacts
from distinct_async.shapes import (
    TOUCHPOINT_DATA,
    Impressions,
    Total,
    Unique,
    read_impression,
    read_impressions,
    utc,
    wire_name,
)
from distinct_async.vendors import VENDORS

T = TypeVar("T")

_SHOWN = 3  # problems in a message
_COLLECTED = 20  # the maximum in DecodeError.paths
_PATH_KEPT = 200  # characters
_WRONG = (BaseValidationError, TypeError, ValueError, KeyError)
_OFF_CALENDAR = "Expected a time within the years 1 to 9999 in UTC"
_MISSING = "missing field"


def make_converter() -> cattrs.Converter:
    """Return the converter, with all hooks."""
    converter = cattrs.Converter(detailed_validation=True)
    converter.register_structure_hook(int, _integer)
    converter.register_structure_hook(str, _text)
    converter.register_structure_hook(datetime, _time)
    converter.register_structure_hook_factory(_is_optional, _optional_factory)
    converter.register_structure_hook_func(lambda hint: hint == Mapping[str, Any], _mapping)
    converter.register_structure_hook_factory(_is_rows, _rows_factory)
    converter.register_structure_hook_factory(attrs.has, _class_factory)
    return converter


def _expected(what: str, value: object) -> TypeError:
    names = {dict: "object", list: "array", type(None): "null"}
    return TypeError(f"Expected `{what}`, got `{names.get(type(value), type(value).__name__)}`")


def _integer(value: Any, _: Any) -> int:
    if type(value) is not int:  # not isinstance: True is not a count
        raise _expected("int", value)
    if not -(2**63) <= value < 2**63:
        raise ValueError("Expected an integer of at most 64 bits")
    return value


def _text(value: Any, _: Any) -> str:
    if type(value) is not str:
        raise _expected("str", value)
    if replace_surrogates(value) != value:
        raise ValueError("Expected `str`, got half a surrogate pair")
    return value


def _free_text(value: Any, _: Any) -> str | None:
    """Return a display text; half a surrogate pair, from a text that was cut, must not make a page unreadable."""
    if value is None:
        return None
    if type(value) is not str:
        raise _expected("str", value)
    return replace_surrogates(value)


def _time(value: Any, _: Any = None) -> datetime:
    if type(value) is not str:
        raise _expected("str", value)
    try:
        return utc(msgspec.convert(value, datetime))
    except OverflowError:
        raise ValueError(_OFF_CALENDAR) from None


def _mapping(value: Any, _: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if type(value) is not dict:
        raise _expected("object", value)
    return {replace_surrogates(key): _without_surrogates(each) for key, each in value.items()}


def _without_surrogates(value: Any) -> Any:
    match value:
        case str():
            return replace_surrogates(value)
        case dict():
            return {replace_surrogates(key): _without_surrogates(each) for key, each in value.items()}
        case list():
            return [_without_surrogates(each) for each in value]
    return value


def _is_optional(hint: Any) -> bool:
    return get_origin(hint) is UnionType and type(None) in get_args(hint)


def _optional_factory(hint: Any, converter: cattrs.BaseConverter) -> Callable[[Any, Any], Any]:
    # Like the hook of cattrs, but it looks up the inner hook once instead of for each value
    (inner,) = (kind for kind in get_args(hint) if kind is not type(None))
    structure_inner = converter.get_structure_hook(inner)
    return lambda value, _: None if value is None else structure_inner(value, inner)


def _is_rows(hint: Any) -> bool:
    return get_origin(hint) is tuple and get_args(hint)[1:] == (...,)


def _rows_factory(hint: Any, converter: cattrs.BaseConverter) -> Callable[[Any, Any], Any]:
    kind = get_args(hint)[0]
    structure_row = converter.get_structure_hook(kind)

    def structure(value: Any, hint: Any) -> Any:
        if type(value) is not list:  # cattrs would iterate a dict or a str
            raise _expected("array", value)
        rows, wrong = [], []
        for index, each in enumerate(value):
            try:
                rows.append(structure_row(each, kind))
            except _WRONG as error:
                note = IterableValidationNote(f"in the row with index {index}", index, kind)
                error.__notes__ = [*getattr(error, "__notes__", ()), note]
                wrong.append(error)
                if len(wrong) == _COLLECTED:  # the loop of cattrs has no limit
                    break
        if wrong:
            raise IterableValidationError("invalid rows", wrong, hint)
        return tuple(rows)

    return structure


def _class_factory(cls: Any, converter: cattrs.BaseConverter) -> Callable[[Any, Any], Any]:
    names = {
        each.name: override(rename=wire_name(each), struct_hook=_free_text if each.metadata.get("free_text") else None)
        for each in attrs.fields(cls)
    }
    structure_dict = make_dict_structure_fn(cls, converter, **names)  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    optional = [
        wire_name(each)
        for each in attrs.fields(cls)
        if each.default is attrs.NOTHING and type(None) in get_args(hints[each.name])
    ]

    def structure(value: Any, cls: Any) -> Any:
        if isinstance(value, msgspec.Struct):  # already decoded, by `shapes`
            return msgspec.convert(value, cls, from_attributes=True)
        if type(value) is not dict:
            raise _expected("object", value)
        for name in optional:  # missing and null mean the same (B9)
            value.setdefault(name, None)
        return structure_dict(value, cls)

    return structure


_CONVERTER = make_converter()
_decode = msgspec.json.Decoder().decode


def _decoded(payload: Any) -> Any:
    if not isinstance(payload, msgspec.Raw):
        return payload
    try:
        return _decode(payload)
    except msgspec.DecodeError:
        if (value := decode_with_surrogates(bytes(payload))) is not NOT_JSON:
            return value
        raise


# --- bytes to models --------------------------------------------------------------------------------------------------


def experience(reply: Reply) -> ExperienceMetrics:
    """Return the model of a response to ``metricsType=EXPERIENCE``."""
    return _structure(reply, ExperienceMetrics)


def user(reply: Reply) -> UserMetrics:
    """Return the model of a response to ``metricsType=USER``."""
    return _structure(reply, UserMetrics)


def impression(reply: Reply) -> Impression:
    """Return one impression, with a new `metadata` for each call, so that no two callers share one."""
    return read_impression(reply.payload) or _structure(reply, Impression)


def touchpoint(reply: Reply, visits_type: VisitsType) -> TouchpointMetrics:
    """Return the model of a response to ``metricsType=TOUCHPOINT``: the touchpoint and one page of its visits."""
    data, visits = _visits_page(reply, visits_type)
    if data.count is None:
        raise _misshapen(reply, [(_place(visits_type), _MISSING)])
    total, unique = (data.count, None) if visits_type == "TOTAL" else (None, data.count)
    pagination = data.details.pagination if data.details else None
    return TouchpointMetrics(data.id, data.name, data.value, total, unique, tuple(visits), pagination)


def visits(reply: Reply, visits_type: VisitsType, *, wire: bool = False) -> PageFacts:
    """Return one page of a touchpoint's visits, and what of it matters to the walk.

    Args:
        reply: The response.
        visits_type: What was requested.
        wire: Keep msgspec's rows, which have the fields of `Visit` and cost a tenth of its memory management. Rows that
            the fast path rejects become `Visit` in any case.
    """
    data, rows = _visits_page(reply, visits_type, wire=wire)
    echo = data.details and data.details.pagination
    return PageFacts(
        rows,
        data.count,
        echo.offset if echo else None,
        echo.page_size if echo else None,
        rows[0].timestamp_utc if rows else None,
        rows[-1].timestamp_utc if rows else None,
        lambda: len({row.timestamp_utc for row in rows}) > 1,
    )


def impressions(reply: Reply) -> PageFacts:
    """One page of the impressions, and what of it matters to the walk: no total, no echo, but ids."""
    rows = (read_impressions(reply.payload) or _structure(reply, Impressions)).impressions
    first, last = (rows[0].scanned_at, rows[-1].scanned_at) if rows else (None, None)
    ids = tuple(row.id for row in rows)
    return PageFacts(rows, first=first, last=last, unmistakable=lambda: True, ids=ids)


def _visits_page(
    reply: Reply, visits_type: VisitsType, *, wire: bool = False
) -> tuple[Total | Unique, Sequence[Visit]]:
    payload: Any = reply.payload
    if wire and isinstance(payload, msgspec.Struct):
        data = cast("Total | Unique", payload.touchpoints)  # type: ignore[attr-defined]  # a Struct made in `shapes`
    else:
        data = _structure(reply, TOUCHPOINT_DATA[visits_type]).touchpoints
    if data.count != 0 and (data.details is None or data.details.items is None):
        field = "" if data.details is None else ".items"
        raise _misshapen(reply, [(f"{_place(visits_type)}Details{field}", _MISSING)])
    return data, (data.details.items if data.details else None) or ()


def _place(visits_type: VisitsType) -> str:
    return f"$.data.touchpoints.{'totalVisits' if visits_type == 'TOTAL' else 'uniqueVisits'}"


def _structure(reply: Reply, cls: type[T]) -> T:
    """Return the payload as `cls`, or raise a `DecodeError` with the paths that do not fit."""
    payload: Any = reply.payload
    root = VENDORS[reply.request.vendor].data_path
    try:
        structured: T = _CONVERTER.structure(_decoded(payload), cls)
    except (msgspec.DecodeError, BaseValidationError, TypeError, ValueError, RecursionError) as error:
        deep = isinstance(error, RecursionError)
        problems = [(root, "nested too deeply")] if deep else list(islice(_problems(error, root), _COLLECTED + 1))
    else:
        return structured
    raise _misshapen(reply, problems)


def _problems(error: BaseException, place: str) -> Iterator[tuple[str, str]]:
    """Yield each JSON path that does not fit, in wire names, and what is wrong there."""
    if isinstance(error, BaseValidationError):
        for inner in error.exceptions:
            yield from _problems(inner, place + _step(error, inner))
    elif isinstance(error, KeyError):
        yield place, _MISSING
    else:
        text, _, below = str(error).partition(" - at `$")
        missing = text.removeprefix("Object missing required field `") if text.startswith("Object missing") else ""
        path = place + below.rstrip("`") + (missing and f".{missing.rstrip('`')}")
        yield path, _MISSING if missing else text


def _step(error: BaseValidationError, inner: BaseException) -> str:
    for note in getattr(inner, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return f".{wire_name(getattr(attrs.fields(error.cl), note.name))}"
        if isinstance(note, IterableValidationNote):
            return f"[{note.index}]"
    return ""


def _misshapen(reply: Reply, problems: Sequence[tuple[str, str]]) -> DecodeError:
    texts = [f"{_MISSING}: `{path}`" if text == _MISSING else f"{text} - at `{path}`" for path, text in problems]
    shown = "; ".join(texts[:_SHOWN])
    more = f" (and {len(problems) - _SHOWN} more)" if _SHOWN < len(problems) < _COLLECTED else ""
    more = more or (" (and more)" if len(problems) >= _COLLECTED else "")
    paths = tuple(path[:_PATH_KEPT] for path, _ in problems[:_COLLECTED])
    payload = reply.payload  # JSON text, or what msgspec decoded
    body = bytes(payload) if isinstance(payload, msgspec.Raw) else json.dumps(msgspec.to_builtins(payload)).encode()
    kind = "" if shown.startswith(_MISSING) else "unexpected shape: "
    return DecodeError(f"{kind}{shown}{more}", paths=paths, excerpt=excerpt(body))
