"""Correct responses of both vendors, as documented, and the bytes that carry an response."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Json = dict[str, Any]
Headers = Iterable[tuple[str, str]]

VISITS = [
    {"userId": "user-1", "timestampUTC": "2024-01-01T10:00:00Z"},
    {"userId": "user-2", "timestampUTC": "2024-01-02T10:00:00Z"},
    {"userId": "user-1", "timestampUTC": "2024-01-03T10:00:00Z"},
]
IMPRESSION: Json = {
    "id": "imp_123abc",
    "poster_id": "poster_123abc",
    "program_id": "prog_123abc",
    "student_id": "user_123abc",
    "scanned_at": "2024-01-15T10:30:00Z",
    "user_agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15",
    "ip_address": "192.168.1.1",
    "metadata": {"device_type": "mobile", "location": "campus_center", "referrer": "direct"},
}


def distinct(data: Any) -> Json:
    return {"statusCode": 200, "message": "Touchpoint scanner metrics fetched successfully", "data": data}


def experience() -> Json:
    entry = {"id": "tp-1", "name": "Entry Scan", "value": "entry_scan", "totalVisits": 3, "uniqueVisits": 2}
    leave = {"id": "tp-2", "name": "Exit Scan", "value": "exit_scan", "totalVisits": 1, "uniqueVisits": 1}
    return distinct({"totalTouchpoints": 2, "touchpoints": [entry, leave]})


def user() -> Json:
    times = ["2024-01-01T10:00:00Z", "2024-01-03T10:00:00Z"]
    entry = {"id": "tp-1", "name": "Entry Scan", "value": "entry_scan", "totalVisits": 2, "timestampsUTC": times}
    return distinct({"totalTouchpoints": 2, "touchpoints": [entry]})


def touchpoint(visits_type: str = "TOTAL", *, offset: int = 0) -> Json:
    word, count = ("total", 3) if visits_type == "TOTAL" else ("unique", 2)
    details = {"items": VISITS[:count][offset:], "pagination": {"offset": offset, "pageSize": 50}}
    head = {"id": "tp-1", "name": "Entry Scan", "value": "entry_scan"}
    return distinct({"touchpoints": {**head, f"{word}Visits": count, f"{word}VisitsDetails": details}})


def correct(target: str) -> Json:
    """What a healthy vendor says to this request target."""
    parts = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if parts.path == "/api/v1/impressions":
        return {"impressions": [IMPRESSION][int(query.get("offset", "0")) :]}
    if parts.path.startswith("/api/v1/impressions/"):
        return IMPRESSION | {"id": unquote(parts.path.rpartition("/")[2])}
    match query["metricsType"]:
        case "EXPERIENCE":
            return experience()
        case "USER":
            return user()
        case _:
            return touchpoint(query.get("visitsType", "TOTAL"), offset=int(query.get("offset", "0")))


def encoded(body: object) -> bytes:
    return json.dumps(body).encode()


def head(status: int | str = 200, *headers: tuple[str, str], reason: str = "Fine") -> bytes:
    """A status line and headers, and nothing that the caller did not ask for."""
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def whole(
    body: bytes | Mapping[str, Any] = b"",
    status: int | str = 200,
    *headers: tuple[str, str],
    content_type: str | None = "application/json",
    reason: str = "Fine",
) -> bytes:
    """A whole response: its length is right, and its connection may live on."""
    content = body if isinstance(body, bytes) else encoded(body)
    typed = () if content_type is None else (("Content-Type", content_type),)
    return head(status, *typed, ("Content-Length", str(len(content))), *headers, reason=reason) + content


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end
