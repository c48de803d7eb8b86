"""The shapes of answers between the wire and the models; and good answers in one go, by msgspec's public API.

Rows come by the thousand. Visits are read into wire Structs, since msgspec cannot rename the fields of attrs classes;
impressions straight into our class. Where anything is not as it should be, these readers give None, and nobody knows
why: then cattrs goes over the answer as over every other one (`structure`), and says what is wrong, or that nothing is.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import attrs
import msgspec
from attrs import field, frozen

from distinct_async.models import Impression, Pagination, Visit, VisitsType

_INT64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]  # what databases and Arrow take
_REFUSALS = (msgspec.DecodeError, UnicodeDecodeError, OverflowError, RecursionError)


def wire_name(attribute: "attrs.Attribute[Any]") -> str:
    """What the field is called in JSON."""
    return str(attribute.metadata.get("wire", attribute.name))


def utc(time: datetime) -> datetime:
    """Aware UTC; without a zone it is UTC already (inferred: all samples end in Z)."""
    if time.tzinfo is UTC:
        return time
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


@frozen
class Details:
    """``totalVisitsDetails`` or ``uniqueVisitsDetails``: one page."""

    items: tuple[Visit, ...] | None
    pagination: Pagination | None


@frozen
class Total:
    """A touchpoint with ``visitsType=TOTAL``."""

    id: str
    name: str | None
    value: str | None
    count: int | None = field(metadata={"wire": "totalVisits"})
    details: Details | None = field(metadata={"wire": "totalVisitsDetails"})


@frozen
class Unique:
    """A touchpoint with ``visitsType=UNIQUE``."""

    id: str
    name: str | None
    value: str | None
    count: int | None = field(metadata={"wire": "uniqueVisits"})
    details: Details | None = field(metadata={"wire": "uniqueVisitsDetails"})


@frozen
class TotalData:
    """The ``data`` around it."""

    touchpoints: Total


@frozen
class UniqueData:
    """The ``data`` around it."""

    touchpoints: Unique


TOUCHPOINT_DATA: Mapping[VisitsType, type[TotalData] | type[UniqueData]] = {"TOTAL": TotalData, "UNIQUE": UniqueData}


@frozen
class Impressions:
    """A list of impressions."""

    impressions: tuple[Impression, ...]


def _wire(hint: Any) -> Any:
    """What msgspec reads where our type is `hint`: for an attrs class a Struct of its fields by their wire names."""
    if attrs.has(hint):
        fields = []
        for attribute in attrs.fields(hint):
            default = None if type(None) in get_args(attribute.type) else msgspec.NODEFAULT  # absent and null are alike
            name = msgspec.field(name=wire_name(attribute), default=default)
            fields.append((attribute.name, _wire(attribute.type), name))
        return msgspec.defstruct(f"_Wire{hint.__name__}", fields, gc=False)
    if get_origin(hint) is tuple:
        return list[_wire(get_args(hint)[0])]  # type: ignore[misc]  # a type made here
    if type(None) in get_args(hint):
        return Union[*map(_wire, get_args(hint))]
    return _INT64 if hint is int else hint


class _Contented(msgspec.Struct, kw_only=True, gc=False):
    """Distinct's envelope, where it does not say no."""

    status_code: Literal[200] = msgspec.field(name="statusCode", default=200)


def _visits_reader(cls: type) -> Callable[[bytes], Any]:
    envelope: Any = msgspec.defstruct("_WireEnvelope", [("data", _wire(cls))], bases=(_Contented,), gc=False)
    decode = msgspec.json.Decoder(envelope).decode

    def read(body: bytes) -> Any:
        try:
            data = decode(body).data
            touchpoint = data.touchpoints
            details = touchpoint.details
            if details is None and touchpoint.count is None:
                return None  # the other visits_type's, which `matching` recognises in the text
            rows = (details.items if details else None) or ()
            if [row.timestamp_utc.tzinfo for row in rows].count(UTC) < len(rows):
                for row in rows:
                    row.timestamp_utc = utc(row.timestamp_utc)
        except _REFUSALS:
            return None
        return data

    return read


# A whole answer, its envelope included, to a Struct that has the fields of TOUCHPOINT_DATA
VISITS_READERS: Mapping[VisitsType, Callable[[bytes], Any]] = {
    visits_type: _visits_reader(cls) for visits_type, cls in TOUCHPOINT_DATA.items()
}

_decode_impression = msgspec.json.Decoder(Impression).decode
_decode_impressions = msgspec.json.Decoder(Impressions).decode


def read_impression(text: Any) -> Impression | None:
    """An impression whose time is in UTC."""
    try:
        made = _decode_impression(text)
    except _REFUSALS:
        return None
    return made if made.scanned_at.tzinfo is UTC else None


def read_impressions(text: Any) -> Impressions | None:
    """A list of impressions whose times are in UTC."""
    try:
        made = _decode_impressions(text)
    except _REFUSALS:
        return None
    return made if all(row.scanned_at.tzinfo is UTC for row in made.impressions) else None
