"""Whether a response belongs to its request: what it says about itself is compared with what was requested.

After an unsolicited response on a kept-alive connection, or behind a cache that ignores the query, a request gets the
response to another one. It is well-formed, so nothing else would notice. Only positive evidence counts: a response
without an id, or of no known shape, is left to `structure`, which says what is wrong with it.

Ids are compared as exact strings. The fields are those of the vendors' sample responses
(https://docs.distinct.so/docs/touchpoint-scanner-metrics-api, "Response";
https://docs.vantio.app/api-reference/impressions/get-impression). Responses about an experience or a user have no id
of it; only their shapes tell them apart.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec
from attrs import frozen

_MAX_ID_SHOWN = 80  # characters of the other id in a message


@frozen
class Mismatch:
    """A response that belongs to another request; its connection is out of step.

    Attributes:
        text: What was requested and what came instead. Empty if whoever reads the payload reports it better, as a wrong
            shape or a page at a wrong offset; then the attempt counts as a success.
    """

    text: str = ""


Check = Callable[[Any], Mismatch | None]
"""Takes the payload of a 2xx response: JSON text as `msgspec.Raw`, or what the decoder's fast path made of it."""

ResponseShape = Literal["experience", "user", "touchpoint"]


def touchpoint(touchpoint_id: str, visits_type: str, walk: bool, offset: int, payload: Any) -> Mismatch | None:  # noqa: ANN401, FBT001
    """Check a TOUCHPOINT response: its id, its visits type and the offset that it echoes.

    Args:
        touchpoint_id: The requested touchpoint.
        visits_type: ``"TOTAL"`` or ``"UNIQUE"``.
        walk: Whether a walk reads the response. It handles a wrong offset itself.
        offset: The requested offset.
        payload: See `Check`; the other arguments are bound by `partial`.
    """
    requested_type = visits_type.lower()
    if isinstance(payload, msgspec.Raw):
        if (mismatch := shape("touchpoint")(payload)) is not None:
            return mismatch
        fields = _decode_fields(_decode_fields(payload).get("touchpoints"))
        details = _decode_fields(fields.get(f"{requested_type}VisitsDetails"))
        echoed_id = _decode_value(fields.get("id"))
        echoed_offset = _decode_value(_decode_fields(details.get("pagination")).get("offset"))
        other_type = "unique" if requested_type == "total" else "total"
        types = requested_type, other_type
        types_present = {each for each in types if f"{each}Visits" in fields or f"{each}VisitsDetails" in fields}
    else:
        details, echoed_id = payload.touchpoints.details, payload.touchpoints.id
        other_type, types_present = "", {requested_type}
        echoed_offset = details.pagination.offset if details and details.pagination else None
    if isinstance(echoed_id, str) and echoed_id != touchpoint_id:
        return _id_mismatch("touchpoint", touchpoint_id, echoed_id)
    if types_present == {other_type}:
        return Mismatch()
    if isinstance(echoed_offset, int) and echoed_offset != offset:
        return Mismatch("" if walk else f"requested offset {offset}, but the server returned offset {echoed_offset}")
    return None


def shape(expected: ResponseShape) -> Check:
    """Return the check of a Distinct response that compares its shape only.

    Args:
        expected: Whether touchpoints with totals, touchpoints with times, or one touchpoint was requested.
    """

    def check_shape(payload: Any) -> Mismatch | None:  # noqa: ANN401
        is_other_shape = isinstance(payload, msgspec.Raw) and _find_shape(payload) not in {expected, None}
        return Mismatch() if is_other_shape else None

    return check_shape


def _find_shape(payload: Any) -> ResponseShape | None:  # noqa: ANN401
    touchpoints = _decode_fields(payload).get("touchpoints")
    if "id" in _decode_fields(touchpoints):
        return "touchpoint"
    rows = _decode_value(touchpoints)
    row = rows[0] if isinstance(rows, list) and rows else None
    if not isinstance(row, dict) or ("uniqueVisits" in row) == ("timestampsUTC" in row):
        return None
    return "experience" if "uniqueVisits" in row else "user"


def impression(impression_id: str, payload: Any) -> Mismatch | None:  # noqa: ANN401
    """Check one impression's response: its id.

    Args:
        impression_id: The requested impression.
        payload: See `Check`; the other argument is bound by `partial`.
    """
    fields = _decode_fields(payload) if isinstance(payload, msgspec.Raw) else {}
    echoed_id = _decode_value(fields.get("id")) if isinstance(payload, msgspec.Raw) else payload.id
    if isinstance(echoed_id, str) and echoed_id != impression_id:
        return _id_mismatch("impression", impression_id, echoed_id)
    return Mismatch() if "id" not in fields and "impressions" in fields else None


def impressions(payload: Any) -> Mismatch | None:  # noqa: ANN401
    """Check a response with a list of impressions. A filter that the server ignores is not noticed."""
    fields = _decode_fields(payload) if isinstance(payload, msgspec.Raw) else {}
    return Mismatch() if "id" in fields and "impressions" not in fields else None


def _id_mismatch(noun: str, expected: str, echoed_id: str) -> Mismatch:
    shown = echoed_id if len(echoed_id) <= _MAX_ID_SHOWN else f"{echoed_id[:_MAX_ID_SHOWN]}..."
    return Mismatch(f"requested {noun} {expected!r}, but the response is for {noun} {shown!r}")


_FIELDS_DECODER = msgspec.json.Decoder(dict[str, msgspec.Raw])
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _decode_fields(text: Any) -> Mapping[str, msgspec.Raw]:  # noqa: ANN401
    try:
        return _FIELDS_DECODER.decode(text) if text is not None else {}
    except _DECODE_ERRORS:
        return {}


def _decode_value(text: msgspec.Raw | None) -> object:
    try:
        return msgspec.json.decode(text) if text is not None else None
    except _DECODE_ERRORS:
        return None
