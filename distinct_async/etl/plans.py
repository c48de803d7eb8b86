"""What there is to do, before any walk: one EXPERIENCE call tells every touchpoint's totals."""

from typing import get_args

from attrs import frozen

from distinct_async.client import DistinctClient
from distinct_async.errors import InvalidRequestError
from distinct_async.models import TouchpointSummary, VisitsType


@frozen
class Work:
    """One list of visits to be walked.

    :ivar touchpoint: whose, with the totals that the experience declares.
    :ivar visits_type: ``"TOTAL"``: every scan; ``"UNIQUE"``: the first scan of each user.
    """

    touchpoint: TouchpointSummary
    visits_type: VisitsType

    @property
    def expected(self) -> int:
        """How many rows the experience declares."""
        return self.touchpoint.total_visits if self.visits_type == "TOTAL" else self.touchpoint.unique_visits

    @property
    def key(self) -> tuple[str, VisitsType]:
        """What tells this list from the others of its experience."""
        return self.touchpoint.id, self.visits_type

    def __str__(self) -> str:
        return f"touchpoint {self.touchpoint.id!r}, {self.visits_type} visits"


@frozen
class Plan:
    """The lists of an experience, in the server's order of its touchpoints.

    :ivar experience_id: of which experience.
    :ivar works: the lists.
    :ivar declared: how many touchpoints the server says there are.
    """

    experience_id: str
    works: tuple[Work, ...]
    declared: int

    @property
    def touchpoints(self) -> tuple[TouchpointSummary, ...]:
        """The touchpoints, each once."""
        return tuple({work.touchpoint.id: work.touchpoint for work in self.works}.values())

    @property
    def expected(self) -> int:
        """Rows in all."""
        return sum(work.expected for work in self.works)

    @property
    def complete(self) -> bool:
        """Whether as many touchpoints were listed as declared; the vendor's page is at odds with itself on paging."""
        return len(self.touchpoints) >= self.declared


async def plan(client: DistinctClient, experience_id: str, *, visits_type: VisitsType | None = None) -> Plan:
    """The work that an experience's visits are, with the rows to expect, in one call (``metricsType=EXPERIENCE``).

    :param visits_type: ``"TOTAL"`` or ``"UNIQUE"``; None for both.
    :raises InvalidRequestError: for an empty id or another visits type; nothing was sent.
    :raises NotFoundError: where the experience does not exist.
    :raises DistinctError: for whatever else can go wrong; see `distinct_async.errors`.

    Source: https://docs.distinct.so/docs/touchpoint-scanner-metrics-api
    """
    kinds = kinds_of(visits_type)
    metrics = await client.metrics.experience(experience_id)
    touchpoints = {each.id: each for each in metrics.touchpoints}.values()  # a list walked twice would be there twice
    works = tuple(Work(touchpoint, kind) for touchpoint in touchpoints for kind in kinds)
    return Plan(experience_id, works, metrics.total_touchpoints)


def kinds_of(visits_type: str | None) -> tuple[VisitsType, ...]:
    """The types that are meant; :exc:`InvalidRequestError` for one that there is not."""
    kinds: tuple[VisitsType, ...] = get_args(VisitsType)
    if visits_type is not None and visits_type not in kinds:
        raise InvalidRequestError(f"visits_type must be 'TOTAL', 'UNIQUE' or None, got {visits_type!r}")
    return tuple(kind for kind in kinds if visits_type in {None, kind})
