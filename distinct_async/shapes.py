"""The shapes of responses between JSON and the models, and fast readers for valid responses.

msgspec decodes visits into Structs with the wire names, because it cannot rename the fields of attrs classes, and
impressions into the model. The readers return None on any mismatch; the caller falls back to cattrs (`structure`),
which reads leniently and reports what is wrong.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

import attrs
import msgspec
from attrs import field, frozen

from distinct_async.models import ExperienceMetrics, Impression, Pagination, UserMetrics, Visit, VisitsType

_INT64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]  # the range of databases and Arrow
T = TypeVar("T")

_MISMATCHES = (msgspec.DecodeError, UnicodeDecodeError, OverflowError, RecursionError)


def wire_name(attribute: "attrs.Attribute[Any]") -> str:
    """Return the name of a field in JSON."""
    return str(attribute.metadata.get("wire", attribute.name))


def utc(time: datetime) -> datetime:
    """Return an aware time in UTC; a time without a zone is in UTC (docs/explanation/vendors.md, A22)."""
    if time.tzinfo is UTC:
        return time
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


@frozen
class Details:
    """One page of visits: ``totalVisitsDetails`` or ``uniqueVisitsDetails``."""

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
    """The ``data`` of a response to ``visitsType=TOTAL``."""

    touchpoints: Total


@frozen
class UniqueData:
    """The ``data`` of a response to ``visitsType=UNIQUE``."""

    touchpoints: Unique


TOUCHPOINT_DATA: Mapping[VisitsType, type[TotalData] | type[UniqueData]] = {"TOTAL": TotalData, "UNIQUE": UniqueData}


@frozen
class ImpressionsPage:
    """A list of impressions."""

    impressions: tuple[Impression, ...]


def _wire_type(hint: Any) -> Any:
    """Return the type that msgspec decodes for a type of a shape; for an attrs class, a Struct with the wire names."""
    if attrs.has(hint):
        fields = []
        for attribute in attrs.fields(hint):
            default = None if type(None) in get_args(attribute.type) else msgspec.NODEFAULT  # B9: null is missing
            wire_field = msgspec.field(name=wire_name(attribute), default=default)
            fields.append((attribute.name, _wire_type(attribute.type), wire_field))
        return msgspec.defstruct(f"_Wire{hint.__name__}", fields, gc=False, kw_only=True)
    if get_origin(hint) is tuple:
        return list[_wire_type(get_args(hint)[0])]  # type: ignore[misc]  # a type made here
    if type(None) in get_args(hint):
        return Union[*map(_wire_type, get_args(hint))]
    return _INT64 if hint is int else hint


class _SuccessEnvelope(msgspec.Struct, kw_only=True, gc=False):
    """Distinct's envelope of a successful response."""

    status_code: Literal[200] = msgspec.field(name="statusCode", default=200)


def _envelope_decoder(cls: type) -> Callable[[bytes], Any]:
    """Return what decodes a complete response to a Struct whose `data` has the fields of `cls`."""
    envelope: Any = msgspec.defstruct("_WireEnvelope", [("data", _wire_type(cls))], bases=(_SuccessEnvelope,), gc=False)
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(envelope).decode
    return decode


def _make_visits_reader(cls: type) -> Callable[[bytes], Any]:
    decode = _envelope_decoder(cls)

    def read(body: bytes) -> Any:
        try:
            data = decode(body).data
            touchpoint = data.touchpoints
            details = touchpoint.details
            if touchpoint.count != 0 and (details is None or details.items is None):
                return None  # perhaps the other visits_type, which `sansio.matching` recognises
            rows = (details.items if details else None) or ()
            if [row.timestamp_utc.tzinfo for row in rows].count(UTC) < len(rows):
                for row in rows:
                    row.timestamp_utc = utc(row.timestamp_utc)
        except _MISMATCHES:
            return None
        return data

    return read


# From a complete response, with its envelope, to a Struct with the fields of TOUCHPOINT_DATA
VISITS_READERS: Mapping[VisitsType, Callable[[bytes], Any]] = {
    visits_type: _make_visits_reader(cls) for visits_type, cls in TOUCHPOINT_DATA.items()
}


@frozen
class _ModelReader(Generic[T]):
    """Decodes a response to a model; to None on any mismatch, also if one of its times is not in UTC."""

    decode: Callable[[bytes], T]
    times: Callable[[T], Iterable[datetime]] = lambda _: ()

    def __call__(self, body: bytes) -> T | None:
        try:
            model = self.decode(body)
        except _MISMATCHES:
            return None
        for time in self.times(model):
            if time.tzinfo is not UTC:
                return None
        return model


def _make_model_decoder(cls: type[T]) -> Callable[[bytes], T]:
    decode = _envelope_decoder(cls)
    return lambda body: msgspec.convert(decode(body).data, cls, from_attributes=True)


read_experience: _ModelReader[ExperienceMetrics] = _ModelReader(_make_model_decoder(ExperienceMetrics))
read_user: _ModelReader[UserMetrics] = _ModelReader(
    _make_model_decoder(UserMetrics), lambda user: [time for each in user.touchpoints for time in each.timestamps_utc]
)
read_impressions: _ModelReader[ImpressionsPage] = _ModelReader(
    msgspec.json.Decoder(ImpressionsPage).decode, lambda page: [each.scanned_at for each in page.impressions]
)
_decode_impression = msgspec.json.Decoder(Impression).decode


def read_impression(body: bytes) -> Impression | None:
    """Return an impression, as a `_ModelReader` would with one call more."""
    try:
        impression = _decode_impression(body)
    except _MISMATCHES:
        return None
    return impression if impression.scanned_at.tzinfo is UTC else None
