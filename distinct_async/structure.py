"""From bytes to models: each response type has one `Decoder`, and all of them share one strict cattrs converter.

Nothing is coerced: only an array is a list. A decoder's fast path is msgspec in one pass (`shapes`); what that rejects
goes to the converter, which reports where a response is wrong. Tests check that both return the same models.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import attrs
import cattrs
import msgspec
from cattrs import AttributeValidationNote, BaseValidationError, IterableValidationError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn, override

from distinct_async.errors import DecodeError
from distinct_async.models import (
    ExperienceMetrics,
    Impression,
    Pagination,
    TouchpointMetrics,
    UserMetrics,
    Visit,
    VisitsType,
)
from distinct_async.sansio.dialect import NOT_JSON, decode_with_surrogates, excerpt, replace_surrogates
from distinct_async.sansio.messages import Decoder
from distinct_async.sansio.pages import PageFacts
from distinct_async.shapes import (
    TOUCHPOINT_DATA,
    VISITS_READERS,
    ImpressionsPage,
    TotalData,
    UniqueData,
    read_experience,
    read_impression,
    read_impressions,
    read_user,
    utc,
    wire_name,
)

T = TypeVar("T")

_SHOWN = 3  # problems in a message
_COLLECTED = 20  # the maximum in DecodeError.paths
_PATH_KEPT = 200  # characters
_WRONG = (BaseValidationError, TypeError, ValueError, KeyError, msgspec.MsgspecError)  # no ValueError before 0.20
_OFF_CALENDAR = "Expected a time within the years 1 to 9999 in UTC"
_MISSING = "missing field"


def make_converter() -> cattrs.Converter:
    """Return the converter, with all hooks."""
    converter = cattrs.Converter(detailed_validation=True)
    converter.register_structure_hook(int, _integer)
    converter.register_structure_hook(str, _text)
    converter.register_structure_hook(datetime, _time)
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
        if type(value) is not dict:
            raise _expected("object", value)
        for name in optional:  # missing and null mean the same (B9)
            value.setdefault(name, None)
        return structure_dict(value, cls)

    return structure


_CONVERTER = make_converter()
VisitsData = TotalData | UniqueData
"""The data of a TOUCHPOINT response; from the fast path a Struct with the same fields."""
_decode = msgspec.json.Decoder().decode


def _decoded(payload: msgspec.Raw) -> Any:
    try:
        return _decode(payload)
    except msgspec.DecodeError:
        if (value := decode_with_surrogates(bytes(payload))) is not NOT_JSON:
            return value
        raise


# --- decoders ---------------------------------------------------------------------------------------------------------


def _strictly(cls: type[T], root: str, require: Callable[[Any], tuple[str, str] | None] | None = None) -> Any:
    """Return the strict side of a decoder.

    Args:
        cls: What to make of the payload.
        root: The JSON path of the payload in the response.
        require: Returns place and reason of what is missing although its field is optional.
    """

    def decode(payload: msgspec.Raw) -> T:
        try:
            structured: T = _CONVERTER.structure(_decoded(payload), cls)
        except (msgspec.DecodeError, BaseValidationError, TypeError, ValueError, RecursionError) as error:
            deep = isinstance(error, RecursionError)
            problems = [(root, "nested too deeply")] if deep else list(islice(_problems(error, root), _COLLECTED + 1))
        else:
            if require is None or (missing := require(structured)) is None:
                return structured
            problems = [missing]
        raise _misshapen(payload, problems)

    return decode


def _missing_rows(visits_type: VisitsType, data: TotalData | UniqueData) -> tuple[str, str] | None:
    """The list may be missing only if the total is 0."""
    touchpoint = data.touchpoints
    if touchpoint.count == 0 or (touchpoint.details is not None and touchpoint.details.items is not None):
        return None
    return f"{_place(visits_type)}Details{'' if touchpoint.details is None else '.items'}", _MISSING


def _missing_total(visits_type: VisitsType, data: TotalData | UniqueData) -> tuple[str, str] | None:
    """A model of one touchpoint has its total; a walk does without it."""
    missing = _missing_rows(visits_type, data)
    return missing or ((_place(visits_type), _MISSING) if data.touchpoints.count is None else None)


def _place(visits_type: VisitsType) -> str:
    return f"$.data.touchpoints.{'totalVisits' if visits_type == 'TOTAL' else 'uniqueVisits'}"


def _with_total(read: Callable[[bytes], VisitsData | None]) -> Callable[[bytes], VisitsData | None]:
    def read_with_total(body: bytes) -> VisitsData | None:
        data = read(body)
        return data if data is not None and data.touchpoints.count is not None else None

    return read_with_total


EXPERIENCE: Decoder[ExperienceMetrics] = Decoder(read_experience, _strictly(ExperienceMetrics, "$.data"))
USER: Decoder[UserMetrics] = Decoder(read_user, _strictly(UserMetrics, "$.data"))
VISITS: Mapping[VisitsType, Decoder[VisitsData]] = {
    kind: Decoder(VISITS_READERS[kind], _strictly(cls, "$.data", partial(_missing_rows, kind)))
    for kind, cls in TOUCHPOINT_DATA.items()
}
TOUCHPOINT: Mapping[VisitsType, Decoder[VisitsData]] = {
    kind: Decoder(_with_total(VISITS_READERS[kind]), _strictly(cls, "$.data", partial(_missing_total, kind)))
    for kind, cls in TOUCHPOINT_DATA.items()
}
IMPRESSION: Decoder[Impression] = Decoder(read_impression, _strictly(Impression, "$"))
IMPRESSIONS: Decoder[ImpressionsPage] = Decoder(read_impressions, _strictly(ImpressionsPage, "$"))


# --- values to models and pages ---------------------------------------------------------------------------------------


def touchpoint(data: VisitsData, visits_type: VisitsType) -> TouchpointMetrics:
    """Return a touchpoint and one page of its visits."""
    read, rows = data.touchpoints, _rows(data, lean=False)
    total, unique = (read.count, None) if visits_type == "TOTAL" else (None, read.count)
    pagination = read.details.pagination if read.details else None
    if pagination is not None:
        pagination = Pagination(pagination.offset, pagination.page_size)
    return TouchpointMetrics(read.id, read.name, read.value, total, unique, tuple(rows), pagination)


def visits_page(data: VisitsData, *, lean: bool = False) -> PageFacts:
    """Return one page of a touchpoint's visits, and what of it matters to the walk.

    Args:
        data: What a decoder of `VISITS` made of the response.
        lean: Keep msgspec's rows, which have the fields of `Visit` and cost a tenth of its memory management; only what
            the fast path refuses becomes `Visit` all the same.
    """
    rows, details = _rows(data, lean=lean), data.touchpoints.details
    echo = details and details.pagination
    return PageFacts(
        rows,
        data.touchpoints.count,
        echo.offset if echo else None,
        echo.page_size if echo else None,
        rows[0].timestamp_utc if rows else None,
        rows[-1].timestamp_utc if rows else None,
        lambda: len({row.timestamp_utc for row in rows}) > 1,
    )


def _rows(data: VisitsData, *, lean: bool) -> Sequence[Visit]:
    rows = (data.touchpoints.details.items if data.touchpoints.details else None) or ()
    if not rows or lean or type(rows[0]) is Visit:
        return rows
    return msgspec.convert(rows, tuple[Visit, ...], from_attributes=True)


def impressions_page(read: ImpressionsPage) -> PageFacts:
    """Return one page of impressions, and what of it matters to the walk: no total, no echo, but ids."""
    rows = read.impressions
    first, last = (rows[0].scanned_at, rows[-1].scanned_at) if rows else (None, None)
    ids = tuple(row.id for row in rows)
    return PageFacts(rows, first=first, last=last, unmistakable=lambda: True, ids=ids)


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


def _misshapen(payload: msgspec.Raw, problems: Sequence[tuple[str, str]]) -> DecodeError:
    texts = [f"{_MISSING}: `{path}`" if text == _MISSING else f"{text} - at `{path}`" for path, text in problems]
    shown = "; ".join(texts[:_SHOWN])
    more = f" (and {len(problems) - _SHOWN} more)" if _SHOWN < len(problems) < _COLLECTED else ""
    more = more or (" (and more)" if len(problems) >= _COLLECTED else "")
    paths = tuple(path[:_PATH_KEPT] for path, _ in problems[:_COLLECTED])
    kind = "" if shown.startswith(_MISSING) else "unexpected shape: "
    return DecodeError(f"{kind}{shown}{more}", paths=paths, excerpt=excerpt(bytes(payload)))
