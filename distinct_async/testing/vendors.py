"""Both vendors without a socket: from path, query and headers to status and body.

They follow https://docs.distinct.so/docs/touchpoint-scanner-metrics-api ,
https://docs.vantio.app/api-reference/impressions/get-impression and .../list-impressions . If these are silent, the
settings of `FakeVendors` decide.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final, Literal, TypeVar
from urllib.parse import unquote

import attrs
import msgspec
from attrs.validators import in_

from distinct_async.testing.scans import Touchpoint
from distinct_async.testing.world import World

METRICS: Final = "/v3/touchpoint/metrics"
VANTIO: Final = "/api/v1/"
IMPRESSIONS: Final = "/api/v1/impressions"
PHRASES: Final = {int(status): status.phrase for status in HTTPStatus}
JSON: Final = (("Content-Type", "application/json; charset=utf-8"),)
PAGE_SIZE: Final = 50

T = TypeVar("T")


@attrs.frozen
class VendorResponse:
    """A response of a vendor."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = JSON


class VendorError(Exception):
    """An error that a vendor returns."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message


@attrs.define(eq=False)
class FakeVendors:
    """Distinct and Vantio, computed from a world. The defaults follow the plain reading of the vendors' documents.

    All settings are attributes and can be changed at any time.

    Args:
        world: The data that the vendors serve.
        api_key: The API key that Distinct accepts.
        vantio_api_key: The API key that Vantio accepts.
        max_page_size: The largest page of visits, 1 or more, to which a larger ``pageSize`` is capped; None for no cap.
        max_limit: The same for lists of Vantio ("typically 100").
        echo_page_size: The ``pagination`` of visits: the offset and page size that were used (``"real"``), those that
            were requested (``"asked"``, which hides a cap), or none (None).
        totals: Whether ``totalVisits`` and ``uniqueVisits`` are sent; ``"page"`` sends the length of the page instead.
        past_end: The response to an offset above 0 at or past the end: an empty page, or this status.
        experience_pages: Whether EXPERIENCE honours ``pageSize`` and ``offset``; the documents contradict themselves.
        ignore_offset: Whether every response is the first page.
        order: The order of visits, of a user's timestamps and of impressions: as in the world, or reversed.
    """

    world: World
    api_key: str = attrs.field(default="distinct-key-of-the-fake", kw_only=True, repr=False)
    vantio_api_key: str = attrs.field(default="sk_key_of_the_fake", kw_only=True, repr=False)
    max_page_size: int | None = attrs.field(default=None, kw_only=True)
    max_limit: int | None = attrs.field(default=100, kw_only=True)
    echo_page_size: Literal["real", "asked"] | None = attrs.field(
        default="real", kw_only=True, validator=in_(("real", "asked", None))
    )
    totals: bool | Literal["page"] = attrs.field(default=True, kw_only=True, validator=in_((True, False, "page")))
    past_end: Literal["empty", "404", "400"] = attrs.field(
        default="empty", kw_only=True, validator=in_(("empty", "404", "400"))
    )
    experience_pages: bool = attrs.field(default=False, kw_only=True)
    ignore_offset: bool = attrs.field(default=False, kw_only=True)
    order: Literal["ascending", "descending"] = attrs.field(
        default="ascending", kw_only=True, validator=in_(("ascending", "descending"))
    )

    @max_page_size.validator
    @max_limit.validator
    def _check_limit(self, setting: "attrs.Attribute[int | None]", value: int | None) -> None:
        if value is not None and value < 1:
            raise ValueError(f"{setting.name} must be at least 1, or None; got {value}")

    def respond(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> VendorResponse:
        """Return the vendor's response to a request.

        Args:
            method: The HTTP method.
            path: The path, percent-encoded; it decides which vendor responds.
            query: The decoded parameters.
            headers: The headers, case-insensitive.

        Returns:
            The response, which may be an error of the vendor.
        """
        try:
            return VendorResponse(HTTPStatus.OK, self._body(method, path, query, headers))
        except VendorError as error:
            return error_response(path, error.status, error.message)

    def _body(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> bytes:
        if method != "GET":
            raise VendorError(HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed")
        if path == METRICS:
            return self._metrics(query, headers)
        if path == IMPRESSIONS:
            return self._list_impressions(query, headers)
        folder, _, impression_id = path.rpartition("/")
        if folder != IMPRESSIONS:
            raise VendorError(HTTPStatus.NOT_FOUND, f"Cannot {method} {path}")
        # An empty id leads to the list, as on most servers
        if not impression_id:
            return self._list_impressions(query, headers)
        return self._get_impression(unquote(impression_id), headers)

    # Distinct.

    def _metrics(self, query: Mapping[str, str], headers: Mapping[str, str]) -> bytes:
        if headers.get("x-distinct-api-key") != self.api_key:
            raise VendorError(HTTPStatus.UNAUTHORIZED, "Unauthorized")
        metrics_type = _required(query, "metricsType")
        size, offset = _integer(query, "pageSize", 1, PAGE_SIZE), _integer(query, "offset", 0, 0)
        if metrics_type == "EXPERIENCE":
            data = self._experience(query, size, offset)
        elif metrics_type == "USER":
            data = self._user(query)
        elif metrics_type == "TOUCHPOINT":
            data = self._touchpoint(query, size, offset)
        else:
            raise VendorError(HTTPStatus.BAD_REQUEST, "Invalid parameter: metricsType")
        return b'{"statusCode":200,"message":"Touchpoint scanner metrics fetched successfully","data":%b}' % data

    def _experience(self, query: Mapping[str, str], size: int, offset: int) -> bytes:
        everything = self._touchpoints_of(_required(query, "experienceId"))
        size = min(size, self.max_page_size or size)
        shown = self._page(everything, size, offset) if self.experience_pages else everything
        touchpoints = [
            _names(one) | {"totalVisits": len(one.visits), "uniqueVisits": len(one.by_user)} for one in shown
        ]
        return msgspec.json.encode({"totalTouchpoints": len(everything), "touchpoints": touchpoints})

    def _user(self, query: Mapping[str, str]) -> bytes:
        everything, user_id = self._touchpoints_of(_required(query, "experienceId")), _required(query, "userId")
        step = 1 if self.order == "ascending" else -1
        touchpoints = [
            _names(one) | {"totalVisits": len(visits), "timestampsUTC": [text for _, text, _ in visits][::step]}
            for one in everything
            if (visits := one.by_user.get(user_id))
        ]
        if not touchpoints and user_id not in self.world.users:
            raise VendorError(HTTPStatus.NOT_FOUND, "User not found")
        return msgspec.json.encode({"totalTouchpoints": len(touchpoints), "touchpoints": touchpoints})

    def _touchpoint(self, query: Mapping[str, str], requested_size: int, requested_offset: int) -> bytes:
        touchpoint, visits_type = self._requested_touchpoint(query), query.get("visitsType") or "TOTAL"
        if visits_type not in {"TOTAL", "UNIQUE"}:
            raise VendorError(HTTPStatus.BAD_REQUEST, "Invalid parameter: visitsType")
        word, rows = (b"total", touchpoint.rows) if visits_type == "TOTAL" else (b"unique", touchpoint.unique_rows)
        size, offset = (
            min(requested_size, self.max_page_size or requested_size),
            0 if self.ignore_offset else requested_offset,
        )
        page = self._page(rows, size, offset)
        total = b',"%bVisits":%d' % (word, len(page if self.totals == "page" else rows)) if self.totals else b""
        echo = (offset, size) if self.echo_page_size == "real" else (requested_offset, requested_size)
        pagination = b',"pagination":{"offset":%d,"pageSize":%d}' % echo if self.echo_page_size else b""
        named = msgspec.json.encode(_names(touchpoint))[:-1]
        details = (named, total, word, b",".join(page), pagination)
        return b'{"touchpoints":%b%b,"%bVisitsDetails":{"items":[%b]%b}}}' % details

    def _requested_touchpoint(self, query: Mapping[str, str]) -> Touchpoint:
        touchpoint_id, experience_id = _required(query, "touchpointId"), query.get("experienceId")
        if experience_id and experience_id not in self.world.experiences:
            raise VendorError(HTTPStatus.NOT_FOUND, "Experience not found")
        try:
            touchpoint = self.world.touchpoint(touchpoint_id)
        except KeyError:
            raise VendorError(HTTPStatus.NOT_FOUND, "Touchpoint not found") from None
        if experience_id and touchpoint.experience_id != experience_id:
            raise VendorError(HTTPStatus.NOT_FOUND, "Touchpoint not found")
        return touchpoint

    def _touchpoints_of(self, experience_id: str) -> list[Touchpoint]:
        if experience_id not in self.world.experiences:
            raise VendorError(HTTPStatus.NOT_FOUND, "Experience not found")
        touchpoints = map(self.world.touchpoint, self.world.touchpoints)
        return [one for one in touchpoints if one.experience_id == experience_id]

    # Vantio.

    def _list_impressions(self, query: Mapping[str, str], headers: Mapping[str, str]) -> bytes:
        self._check_bearer(headers)
        limit, offset = _integer(query, "limit", 1, PAGE_SIZE), _integer(query, "offset", 0, 0)
        program_id, poster_id = query.get("programId") or None, query.get("posterId") or None
        found = self.world.find_impressions(program_id=program_id, poster_id=poster_id)
        page = self._page(found, min(limit, self.max_limit or limit), offset)
        return msgspec.json.encode({"impressions": [self.world.impression(one) for one in page]})

    def _get_impression(self, impression_id: str, headers: Mapping[str, str]) -> bytes:
        self._check_bearer(headers)
        try:
            return msgspec.json.encode(self.world.impression(impression_id))
        except KeyError:
            raise VendorError(HTTPStatus.NOT_FOUND, "Impression not found") from None

    def _check_bearer(self, headers: Mapping[str, str]) -> None:
        if headers.get("Authorization") != f"Bearer {self.vantio_api_key}":
            raise VendorError(HTTPStatus.UNAUTHORIZED, "Invalid or missing API key")

    def _page(self, rows: Sequence[T], size: int, offset: int) -> Sequence[T]:
        if self.ignore_offset:
            offset = 0
        if self.past_end != "empty" and 0 < offset >= len(rows):
            raise VendorError(int(self.past_end), "Offset is past the end")
        if self.order == "ascending":
            return rows[offset : offset + size]
        end = max(len(rows) - offset, 0)
        return rows[max(end - size, 0) : end][::-1]


def error_response(path: str, status: int, message: str) -> VendorResponse:
    """Return an error in the format of the vendor that the path belongs to."""
    # RFC 9110, 15.5.6: a 405 must list the allowed methods
    headers = (*JSON, ("Allow", "GET")) if status == HTTPStatus.METHOD_NOT_ALLOWED else JSON
    if path.startswith(VANTIO):
        return VendorResponse(status, msgspec.json.encode({"error": phrase(status), "message": message}), headers)
    return VendorResponse(status, msgspec.json.encode({"statusCode": status, "message": message}), headers)


def phrase(status: int) -> str:
    """Return the reason phrase of a status."""
    return PHRASES.get(status, "Unknown")


def _names(touchpoint: Touchpoint) -> dict[str, object]:
    return {"id": touchpoint.id, "name": touchpoint.name, "value": touchpoint.value}


def _required(query: Mapping[str, str], name: str) -> str:
    value = query.get(name)
    if not value:
        raise VendorError(HTTPStatus.BAD_REQUEST, f"Missing required parameter: {name}")
    return value


def _integer(query: Mapping[str, str], name: str, least: int, default: int) -> int:
    """Return a parameter of up to 18 decimal digits as an int."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) >= least):
        raise VendorError(HTTPStatus.BAD_REQUEST, f"Invalid parameter: {name}")
    return int(text)
