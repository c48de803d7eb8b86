"""The JSON file that `World.from_json` reads; its rows have the arguments of the methods of `World`."""

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType


class ScanRow(Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `World.add_scan`."""

    touchpoint_id: str
    user_id: str
    at: str


class TouchpointRow(Struct, frozen=True, forbid_unknown_fields=True, rename={"touchpoint_id": "id"}):
    """The arguments of `World.add_touchpoint`, with the id as `id`."""

    touchpoint_id: str
    name: str | None = None
    value: str | None = None
    experience_id: str = "exp-1"


class ImpressionRow(Struct, frozen=True, forbid_unknown_fields=True, rename={"impression_id": "id"}):
    """The arguments of `World.add_impression`, with the id as `id`."""

    impression_id: str
    poster_id: str | UnsetType = UNSET
    program_id: str | UnsetType = UNSET
    student_id: str | UnsetType = UNSET
    scanned_at: str | UnsetType = UNSET
    user_agent: str | None = None
    ip_address: str | None = None
    metadata: dict[str, object] | None = None


class WorldData(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. Unknown keys are errors, so that a misspelt `touchpoint_id` does not go unnoticed."""

    experiences: tuple[str, ...] = ()
    touchpoints: tuple[TouchpointRow, ...] = ()
    scans: tuple[ScanRow, ...] = ()
    impressions: tuple[ImpressionRow, ...] = ()


def arguments(row: Struct) -> dict[str, Any]:
    """Return the row as keyword arguments, without those that were not given."""
    return {name: value for name, value in msgspec.structs.asdict(row).items() if value is not UNSET}
