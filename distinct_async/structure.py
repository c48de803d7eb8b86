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

_MAX_SHOWN = 3  # problems in a message
_MAX_PROBLEMS = 20  # the maximum in DecodeError.paths
_MAX_PATH_LENGTH = 200  # characters
# MsgspecError is no ValueError before 0.20
_STRUCTURE_ERRORS = (BaseValidationError, TypeError, ValueError, KeyError, msgspec.MsgspecError)
_TIME_OUT_OF_RANGE = "Expected a time within the years 1 to 9999 in UTC"
_MISSING_FIELD = "missing field"


def make_converter() -> cattrs.Converter:
    """Return the converter, with all hooks."""
    converter = cattrs.Converter(detailed_validation=True)
    converter.register_structure_hook(int, _structure_int)
    converter.register_structure_hook(str, _structure_str)
    converter.register_structure_hook(datetime, _structure_time)
    converter.register_structure_hook_func(lambda hint: hint == Mapping[str, Any], _structure_mapping)
    converter.register_structure_hook_factory(_is_tuple_of_rows, _make_rows_hook)
    converter.register_structure_hook_factory(attrs.has, _make_class_hook)
    return converter


def _type_error(expected: str, value: object) -> TypeError:
    names = {dict: "object", list: "array", type(None): "null"}
    return TypeError(f"Expected `{expected}`, got `{names.get(type(value), type(value).__name__)}`")


def _structure_int(value: Any, _: Any) -> int:
    if type(value) is not int:  # not isinstance: True is not a count
        raise _type_error("int", value)
    if not -(2**63) <= value < 2**63:
        raise ValueError("Expected an integer of at most 64 bits")
    return value


def _structure_str(value: Any, _: Any) -> str:
    if type(value) is not str:
        raise _type_error("str", value)
    if replace_surrogates(value) != value:
        raise ValueError("Expected `str`, got half a surrogate pair")
    return value


def _structure_free_text(value: Any, _: Any) -> str | None:
    """Return a display text; half a surrogate pair, from a text that was cut, must not make a page unreadable."""
    if value is None:
        return None
    if type(value) is not str:
        raise _type_error("str", value)
    return replace_surrogates(value)


def _structure_time(value: Any, _: Any = None) -> datetime:
    if type(value) is not str:
        raise _type_error("str", value)
    try:
        return utc(msgspec.convert(value, datetime))
    except OverflowError:
        raise ValueError(_TIME_OUT_OF_RANGE) from None


def _structure_mapping(value: Any, _: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if type(value) is not dict:
        raise _type_error("object", value)
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


def _is_tuple_of_rows(hint: Any) -> bool:
    return get_origin(hint) is tuple and get_args(hint)[1:] == (...,)


def _make_rows_hook(hint: Any, converter: cattrs.BaseConverter) -> Callable[[Any, Any], Any]:
    row_type = get_args(hint)[0]
    structure_row = converter.get_structure_hook(row_type)

    def structure(value: Any, hint: Any) -> Any:
        if type(value) is not list:  # cattrs would iterate a dict or a str
            raise _type_error("array", value)
        rows, errors = [], []
        for index, each in enumerate(value):
            try:
                rows.append(structure_row(each, row_type))
            except _STRUCTURE_ERRORS as error:
                note = IterableValidationNote(f"in the row with index {index}", index, row_type)
                error.__notes__ = [*getattr(error, "__notes__", ()), note]
                errors.append(error)
                if len(errors) == _MAX_PROBLEMS:  # the loop of cattrs has no limit
                    break
        if errors:
            raise IterableValidationError("invalid rows", errors, hint)
        return tuple(rows)

    return structure


def _make_class_hook(cls: Any, converter: cattrs.BaseConverter) -> Callable[[Any, Any], Any]:
    names = {
        each.name: override(
            rename=wire_name(each), struct_hook=_structure_free_text if each.metadata.get("free_text") else None
        )
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
            raise _type_error("object", value)
        for name in optional:  # missing and null mean the same (B9)
            value.setdefault(name, None)
        return structure_dict(value, cls)

    return structure


_CONVERTER = make_converter()
VisitsData = TotalData | UniqueData
"""The data of a TOUCHPOINT response; from the fast path a Struct with the same fields."""
_decode_json = msgspec.json.Decoder().decode


def _decode_payload(payload: msgspec.Raw) -> Any:
    try:
        return _decode_json(payload)
    except msgspec.DecodeError:
        if (value := decode_with_surrogates(bytes(payload))) is not NOT_JSON:
            return value
        raise


# --- decoders ---------------------------------------------------------------------------------------------------------


def _strict_decoder(cls: type[T], root: str, require: Callable[[Any], tuple[str, str] | None] | None = None) -> Any:
    """Return the strict side of a decoder.

    Args:
        cls: What to make of the payload.
        root: The JSON path of the payload in the response.
        require: Returns place and reason of what is missing although its field is optional.
    """

    def decode(payload: msgspec.Raw) -> T:
        try:
            structured: T = _CONVERTER.structure(_decode_payload(payload), cls)
        except (msgspec.DecodeError, BaseValidationError, TypeError, ValueError, RecursionError) as error:
            too_deep = isinstance(error, RecursionError)
            found = [(root, "nested too deeply")] if too_deep else _find_problems(error, root)
            problems = list(islice(found, _MAX_PROBLEMS + 1))
        else:
            if require is None or (missing := require(structured)) is None:
                return structured
            problems = [missing]
        raise _decode_error(payload, problems)

    return decode


def _missing_rows(visits_type: VisitsType, data: TotalData | UniqueData) -> tuple[str, str] | None:
    """The list may be missing only if the total is 0."""
    touchpoint = data.touchpoints
    if touchpoint.count == 0 or (touchpoint.details is not None and touchpoint.details.items is not None):
        return None
    return f"{_json_path(visits_type)}Details{'' if touchpoint.details is None else '.items'}", _MISSING_FIELD


def _missing_total(visits_type: VisitsType, data: TotalData | UniqueData) -> tuple[str, str] | None:
    """A model of one touchpoint has its total; a walk does without it."""
    missing = _missing_rows(visits_type, data)
    return missing or ((_json_path(visits_type), _MISSING_FIELD) if data.touchpoints.count is None else None)


def _json_path(visits_type: VisitsType) -> str:
    return f"$.data.touchpoints.{'totalVisits' if visits_type == 'TOTAL' else 'uniqueVisits'}"


def _require_total(read: Callable[[bytes], VisitsData | None]) -> Callable[[bytes], VisitsData | None]:
    def read_with_total(body: bytes) -> VisitsData | None:
        data = read(body)
        return data if data is not None and data.touchpoints.count is not None else None

    return read_with_total


EXPERIENCE: Decoder[ExperienceMetrics] = Decoder(read_experience, _strict_decoder(ExperienceMetrics, "$.data"))
USER: Decoder[UserMetrics] = Decoder(read_user, _strict_decoder(UserMetrics, "$.data"))
VISITS: Mapping[VisitsType, Decoder[VisitsData]] = {
    visits_type: Decoder(
        VISITS_READERS[visits_type], _strict_decoder(cls, "$.data", partial(_missing_rows, visits_type))
    )
    for visits_type, cls in TOUCHPOINT_DATA.items()
}
TOUCHPOINT: Mapping[VisitsType, Decoder[VisitsData]] = {
    visits_type: Decoder(
        _require_total(VISITS_READERS[visits_type]),
        _strict_decoder(cls, "$.data", partial(_missing_total, visits_type)),
    )
    for visits_type, cls in TOUCHPOINT_DATA.items()
}
IMPRESSION: Decoder[Impression] = Decoder(read_impression, _strict_decoder(Impression, "$"))
IMPRESSIONS: Decoder[ImpressionsPage] = Decoder(read_impressions, _strict_decoder(ImpressionsPage, "$"))


# --- values to models and pages ---------------------------------------------------------------------------------------


def touchpoint(data: VisitsData, visits_type: VisitsType) -> TouchpointMetrics:
    """Return a touchpoint and one page of its visits."""
    summary, rows = data.touchpoints, _visit_rows(data, lean=False)
    total, unique = (summary.count, None) if visits_type == "TOTAL" else (None, summary.count)
    pagination = summary.details.pagination if summary.details else None
    if pagination is not None:
        pagination = Pagination(pagination.offset, pagination.page_size)
    return TouchpointMetrics(summary.id, summary.name, summary.value, total, unique, tuple(rows), pagination)


def visits_page(data: VisitsData, *, lean: bool = False) -> PageFacts:
    """Return one page of a touchpoint's visits, and what of it matters to the walk.

    Args:
        data: What a decoder of `VISITS` made of the response.
        lean: Keep msgspec's rows, which have the fields of `Visit` and cost a tenth of its memory management; only what
            the fast path refuses becomes `Visit` all the same.
    """
    rows, details = _visit_rows(data, lean=lean), data.touchpoints.details
    echoed = details and details.pagination
    return PageFacts(
        rows,
        data.touchpoints.count,
        echoed.offset if echoed else None,
        echoed.page_size if echoed else None,
        rows[0].timestamp_utc if rows else None,
        rows[-1].timestamp_utc if rows else None,
        lambda: len({row.timestamp_utc for row in rows}) > 1,
    )


def _visit_rows(data: VisitsData, *, lean: bool) -> Sequence[Visit]:
    rows = (data.touchpoints.details.items if data.touchpoints.details else None) or ()
    if not rows or lean or type(rows[0]) is Visit:
        return rows
    return msgspec.convert(rows, tuple[Visit, ...], from_attributes=True)


def impressions_page(page: ImpressionsPage) -> PageFacts:
    """Return one page of impressions, and what of it matters to the walk: no total, no echo, but ids."""
    rows = page.impressions
    first, last = (rows[0].scanned_at, rows[-1].scanned_at) if rows else (None, None)
    ids = tuple(row.id for row in rows)
    return PageFacts(rows, first=first, last=last, unmistakable=lambda: True, ids=ids)


def _find_problems(error: BaseException, path: str) -> Iterator[tuple[str, str]]:
    """Yield each JSON path that does not fit, in wire names, and what is wrong there."""
    if isinstance(error, BaseValidationError):
        for nested in error.exceptions:
            yield from _find_problems(nested, path + _path_step(error, nested))
    elif isinstance(error, KeyError):
        yield path, _MISSING_FIELD
    else:
        text, _, subpath = str(error).partition(" - at `$")
        missing = text.removeprefix("Object missing required field `") if text.startswith("Object missing") else ""
        path = path + subpath.rstrip("`") + (missing and f".{missing.rstrip('`')}")
        yield path, _MISSING_FIELD if missing else text


def _path_step(error: BaseValidationError, nested: BaseException) -> str:
    for note in getattr(nested, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return f".{wire_name(getattr(attrs.fields(error.cl), note.name))}"
        if isinstance(note, IterableValidationNote):
            return f"[{note.index}]"
    return ""


def _decode_error(payload: msgspec.Raw, problems: Sequence[tuple[str, str]]) -> DecodeError:
    texts = [
        f"{_MISSING_FIELD}: `{path}`" if text == _MISSING_FIELD else f"{text} - at `{path}`" for path, text in problems
    ]
    shown_problems = "; ".join(texts[:_MAX_SHOWN])
    omitted = f" (and {len(problems) - _MAX_SHOWN} more)" if _MAX_SHOWN < len(problems) < _MAX_PROBLEMS else ""
    omitted = omitted or (" (and more)" if len(problems) >= _MAX_PROBLEMS else "")
    paths = tuple(path[:_MAX_PATH_LENGTH] for path, _ in problems[:_MAX_PROBLEMS])
    prefix = "" if shown_problems.startswith(_MISSING_FIELD) else "unexpected shape: "
    return DecodeError(f"{prefix}{shown_problems}{omitted}", paths=paths, excerpt=excerpt(bytes(payload)))
