"""The file that a world can be read from, row by row as the `World`'s builders take them."""

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType


class ScanRow(Struct, frozen=True, forbid_unknown_fields=True):
    """What `World.add_scan` takes."""

    touchpoint_id: str
    user_id: str
    at: str


class TouchpointRow(Struct, frozen=True, forbid_unknown_fields=True, rename={"touchpoint_id": "id"}):
    """What `World.add_touchpoint` takes, with the id as `id`."""

    touchpoint_id: str
    name: str | None = None
    value: str | None = None
    experience_id: str = "exp-1"


class ImpressionRow(Struct, frozen=True, forbid_unknown_fields=True, rename={"impression_id": "id"}):
    """What `World.add_impression` takes, with the id as `id`; what is not given is left to its defaults."""

    impression_id: str
    poster_id: str | UnsetType = UNSET
    program_id: str | UnsetType = UNSET
    student_id: str | UnsetType = UNSET
    scanned_at: str | UnsetType = UNSET
    user_agent: str | None = None
    ip_address: str | None = None
    metadata: dict[str, object] | None = None


class Data(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. An unknown name is refused: a misspelt `touchpoint_id` would go unnoticed otherwise."""

    experiences: tuple[str, ...] = ()
    touchpoints: tuple[TouchpointRow, ...] = ()
    scans: tuple[ScanRow, ...] = ()
    impressions: tuple[ImpressionRow, ...] = ()


def arguments(row: Struct) -> dict[str, Any]:
    """The row as keyword arguments, of those that were given."""
    return {name: value for name, value in msgspec.structs.asdict(row).items() if value is not UNSET}
