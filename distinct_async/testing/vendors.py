"""Both vendors without a socket: a path, a query and headers in, status and body out.

The contracts are those of https://docs.distinct.so/docs/touchpoint-scanner-metrics-api ,
https://docs.vantio.app/api-reference/impressions/get-impression and .../list-impressions ; where they are silent, the
settings of `FakeVendors` choose.
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
class Reply:
    """What goes back to the client."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = JSON


class Refusal(Exception):  # noqa: N818 - a refusal is what the vendors call an error
    """The vendor says no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message


@attrs.define(eq=False)
class FakeVendors:
    """Distinct and Vantio, computed from a world; the defaults are the plain reading of their documents.

    All settings may be changed at any time, as attributes.

    Args:
        world: what the vendors know.
        api_key: the key that Distinct accepts.
        vantio_api_key: the key that Vantio accepts.
        max_page_size: the largest page of visits, 1 or more; larger wishes are cut to it. None: no limit.
        max_limit: the same for Vantio's lists ("typically 100").
        echo_page_size: the `pagination` beside visits shows the offset and page size that were used (`"real"`), those
            that were asked for (`"asked"`, which hides a limit), or is left out (None).
        totals: whether `totalVisits` or `uniqueVisits` stands beside the visits; `"page"` puts the page's own count.
        past_end: what an offset above 0 and at or past the end gets: an empty page, or that status.
        experience_pages: whether EXPERIENCE honours `pageSize` and `offset`; the document says both.
        ignore_offset: answer every page as the first.
        order: of visits, of a user's timestamps and of impressions, as the world lists them or turned round.
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
            raise ValueError(f"{setting.name} is 1 or more, or None")

    def answer(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        """What the vendor of that path (as it was sent, percent signs and all) says to a request."""
        try:
            return Reply(HTTPStatus.OK, self._body(method, path, query, headers))
        except Refusal as no:
            return refused(path, no.status, no.message)

    def _body(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> bytes:
        if method != "GET":
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed")
        if path == METRICS:
            return self._metrics(query, headers)
        if path == IMPRESSIONS:
            return self._list_impressions(query, headers)
        folder, _, impression_id = path.rpartition("/")
        if folder != IMPRESSIONS:
            raise Refusal(HTTPStatus.NOT_FOUND, f"Cannot {method} {path}")
        # An empty id leads to the list, as it does at most servers.
        if not impression_id:
            return self._list_impressions(query, headers)
        return self._get_impression(unquote(impression_id), headers)

    # Distinct.

    def _metrics(self, query: Mapping[str, str], headers: Mapping[str, str]) -> bytes:
        if headers.get("x-distinct-api-key") != self.api_key:
            raise Refusal(HTTPStatus.UNAUTHORIZED, "Unauthorized")
        metrics_type = _required(query, "metricsType")
        size, offset = _whole(query, "pageSize", 1, PAGE_SIZE), _whole(query, "offset", 0, 0)
        if metrics_type == "EXPERIENCE":
            data = self._experience(query, size, offset)
        elif metrics_type == "USER":
            data = self._user(query)
        elif metrics_type == "TOUCHPOINT":
            data = self._touchpoint(query, size, offset)
        else:
            raise Refusal(HTTPStatus.BAD_REQUEST, "Invalid parameter: metricsType")
        return b'{"statusCode":200,"message":"Touchpoint scanner metrics fetched successfully","data":%b}' % data

    def _experience(self, query: Mapping[str, str], size: int, offset: int) -> bytes:
        everything = self._touchpoints_of(_required(query, "experienceId"))
        size = min(size, self.max_page_size or size)
        shown = self._cut(everything, size, offset) if self.experience_pages else everything
        touchpoints = [
            _naming(one) | {"totalVisits": len(one.visits), "uniqueVisits": len(one.by_user)} for one in shown
        ]
        return msgspec.json.encode({"totalTouchpoints": len(everything), "touchpoints": touchpoints})

    def _user(self, query: Mapping[str, str]) -> bytes:
        everything, user_id = self._touchpoints_of(_required(query, "experienceId")), _required(query, "userId")
        step = 1 if self.order == "ascending" else -1
        touchpoints = [
            _naming(one) | {"totalVisits": len(visits), "timestampsUTC": [text for _, text, _ in visits][::step]}
            for one in everything
            if (visits := one.by_user.get(user_id))
        ]
        if not touchpoints and user_id not in self.world.users:
            raise Refusal(HTTPStatus.NOT_FOUND, "User not found")
        return msgspec.json.encode({"totalTouchpoints": len(touchpoints), "touchpoints": touchpoints})

    def _touchpoint(self, query: Mapping[str, str], asked_size: int, asked_offset: int) -> bytes:
        touchpoint, visits_type = self._touchpoint_asked_for(query), query.get("visitsType") or "TOTAL"
        if visits_type not in {"TOTAL", "UNIQUE"}:
            raise Refusal(HTTPStatus.BAD_REQUEST, "Invalid parameter: visitsType")
        word, rows = (b"total", touchpoint.rows) if visits_type == "TOTAL" else (b"unique", touchpoint.unique_rows)
        size, offset = min(asked_size, self.max_page_size or asked_size), 0 if self.ignore_offset else asked_offset
        page = self._cut(rows, size, offset)
        total = b',"%bVisits":%d' % (word, len(page if self.totals == "page" else rows)) if self.totals else b""
        echo = (offset, size) if self.echo_page_size == "real" else (asked_offset, asked_size)
        pagination = b',"pagination":{"offset":%d,"pageSize":%d}' % echo if self.echo_page_size else b""
        named = msgspec.json.encode(_naming(touchpoint))[:-1]
        details = (named, total, word, b",".join(page), pagination)
        return b'{"touchpoints":%b%b,"%bVisitsDetails":{"items":[%b]%b}}}' % details

    def _touchpoint_asked_for(self, query: Mapping[str, str]) -> Touchpoint:
        touchpoint_id, experience_id = _required(query, "touchpointId"), query.get("experienceId")
        if experience_id and experience_id not in self.world.experiences:
            raise Refusal(HTTPStatus.NOT_FOUND, "Experience not found")
        try:
            touchpoint = self.world.touchpoint(touchpoint_id)
        except KeyError:
            raise Refusal(HTTPStatus.NOT_FOUND, "Touchpoint not found") from None
        if experience_id and touchpoint.experience_id != experience_id:
            raise Refusal(HTTPStatus.NOT_FOUND, "Touchpoint not found")
        return touchpoint

    def _touchpoints_of(self, experience_id: str) -> list[Touchpoint]:
        if experience_id not in self.world.experiences:
            raise Refusal(HTTPStatus.NOT_FOUND, "Experience not found")
        touchpoints = map(self.world.touchpoint, self.world.touchpoints)
        return [one for one in touchpoints if one.experience_id == experience_id]

    # Vantio.

    def _list_impressions(self, query: Mapping[str, str], headers: Mapping[str, str]) -> bytes:
        self._check_bearer(headers)
        limit, offset = _whole(query, "limit", 1, PAGE_SIZE), _whole(query, "offset", 0, 0)
        program_id, poster_id = query.get("programId") or None, query.get("posterId") or None
        found = self.world.find_impressions(program_id=program_id, poster_id=poster_id)
        page = self._cut(found, min(limit, self.max_limit or limit), offset)
        return msgspec.json.encode({"impressions": [self.world.impression(one) for one in page]})

    def _get_impression(self, impression_id: str, headers: Mapping[str, str]) -> bytes:
        self._check_bearer(headers)
        try:
            return msgspec.json.encode(self.world.impression(impression_id))
        except KeyError:
            raise Refusal(HTTPStatus.NOT_FOUND, "Impression not found") from None

    def _check_bearer(self, headers: Mapping[str, str]) -> None:
        if headers.get("Authorization") != f"Bearer {self.vantio_api_key}":
            raise Refusal(HTTPStatus.UNAUTHORIZED, "Invalid or missing API key")

    def _cut(self, rows: Sequence[T], size: int, offset: int) -> Sequence[T]:
        """The page of that size and offset."""
        if self.ignore_offset:
            offset = 0
        if self.past_end != "empty" and 0 < offset >= len(rows):
            raise Refusal(int(self.past_end), "Offset is past the end")
        if self.order == "ascending":
            return rows[offset : offset + size]
        end = max(len(rows) - offset, 0)
        return rows[max(end - size, 0) : end][::-1]


def refused(path: str, status: int, message: str) -> Reply:
    """A refusal in the words of the vendor whose path it is."""
    # RFC 9110, 15.5.6: a 405 must say which methods there are.
    headers = (*JSON, ("Allow", "GET")) if status == HTTPStatus.METHOD_NOT_ALLOWED else JSON
    if path.startswith(VANTIO):
        return Reply(status, msgspec.json.encode({"error": phrase(status), "message": message}), headers)
    return Reply(status, msgspec.json.encode({"statusCode": status, "message": message}), headers)


def phrase(status: int) -> str:
    """The words that go with a status."""
    return PHRASES.get(status, "Unknown")


def _naming(touchpoint: Touchpoint) -> dict[str, object]:
    return {"id": touchpoint.id, "name": touchpoint.name, "value": touchpoint.value}


def _required(query: Mapping[str, str], name: str) -> str:
    value = query.get(name)
    if not value:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"Missing required parameter: {name}")
    return value


def _whole(query: Mapping[str, str], name: str, least: int, default: int) -> int:
    """A whole number written in plain digits; 18 of them are as many as any server needs."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) >= least):
        raise Refusal(HTTPStatus.BAD_REQUEST, f"Invalid parameter: {name}")
    return int(text)
