"""The page as a user of pydantic v2 would model it; its own module, since pydantic may not be there."""

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Visit(_Model):
    user_id: str = Field(alias="userId")
    timestamp_utc: AwareDatetime = Field(alias="timestampUTC")


class _Pagination(_Model):
    offset: int
    page_size: int = Field(alias="pageSize")


class _Details(_Model):
    items: tuple[_Visit, ...]
    pagination: _Pagination | None = None


class Touchpoint(_Model):
    """A touchpoint with one page of its visits."""

    id: str
    name: str | None = None
    value: str | None = None
    total_visits: int = Field(alias="totalVisits")
    details: _Details = Field(alias="totalVisitsDetails")


class _Data(_Model):
    touchpoints: Touchpoint


class _Envelope(_Model):
    status_code: int = Field(alias="statusCode")
    data: _Data


def touchpoint(body: bytes) -> Touchpoint:
    """The touchpoint with a page of its rows, in ``details.items``."""
    return _Envelope.model_validate_json(body).data.touchpoints
