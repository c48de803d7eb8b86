"""What there is to read, before any walk: one EXPERIENCE call gives every touchpoint's totals."""

from collections.abc import Iterable
from typing import get_args

from attrs import frozen

from distinct_async.client import DistinctClient
from distinct_async.errors import InvalidRequestError
from distinct_async.models import TouchpointSummary, VisitsType
from distinct_async.sansio.messages import identifier

ListKey = tuple[str, VisitsType]
"""Which list of an experience: the touchpoint's id and the type of its visits."""


@frozen
class VisitList:
    """One touchpoint's visits of one type.

    Attributes:
        touchpoint: The touchpoint, with the totals that the experience declares.
        visits_type: ``"TOTAL"``: every scan; ``"UNIQUE"``: the first scan of each user.
    """

    touchpoint: TouchpointSummary
    visits_type: VisitsType

    @property
    def expected(self) -> int:
        """How many rows the experience declares."""
        return self.touchpoint.total_visits if self.visits_type == "TOTAL" else self.touchpoint.unique_visits

    @property
    def key(self) -> ListKey:
        """What distinguishes this list from the others of its experience."""
        return self.touchpoint.id, self.visits_type

    def __str__(self) -> str:
        return f"touchpoint {self.touchpoint.id!r}, {self.visits_type} visits"


@frozen
class Plan:
    """The lists of an experience, in the server's order of its touchpoints.

    Attributes:
        experience_id: The experience's id.
        works: The lists.
        declared: How many touchpoints the server says there are.
    """

    experience_id: str
    works: tuple[VisitList, ...]
    declared: int

    @property
    def touchpoints(self) -> tuple[TouchpointSummary, ...]:
        """The touchpoints, each once."""
        return tuple({each.touchpoint.id: each.touchpoint for each in self.works}.values())

    @property
    def expected(self) -> int:
        """Rows in all lists, as the experience declares them."""
        return sum(each.expected for each in self.works)

    @property
    def complete(self) -> bool:
        """Whether as many touchpoints were listed as declared; the vendor's page contradicts itself on paging."""
        return len(self.touchpoints) >= self.declared


async def plan(client: DistinctClient, experience_id: str, *, visits_type: VisitsType | None = None) -> Plan:
    """Return the lists of visits of an experience, with the rows to expect, in one call (``metricsType=EXPERIENCE``).

    Args:
        client: A client with a Distinct key.
        experience_id: The experience's id, as in your Distinct account.
        visits_type: ``"TOTAL"`` (every scan) or ``"UNIQUE"`` (each user's first); None for both.

    Raises:
        InvalidRequestError: The id is empty or the visits type unknown; nothing was sent.
        NotFoundError: The experience does not exist.
        DistinctError: Any other failure of the request; see `distinct_async.errors`.

    Source: https://docs.distinct.so/docs/touchpoint-scanner-metrics-api
    """
    types = visits_types(visits_type)
    experience_id = identifier(experience_id, "experience_id")
    metrics = await client.metrics.experience(experience_id)
    return make_plan(experience_id, metrics.touchpoints, metrics.total_touchpoints, types)


def make_plan(
    experience_id: str, touchpoints: Iterable[TouchpointSummary], declared: int, types: tuple[VisitsType, ...]
) -> Plan:
    """Return the plan of these touchpoints; one that the server lists twice is read once."""
    each_once = {each.id: each for each in touchpoints}.values()
    return Plan(experience_id, tuple(VisitList(each, kind) for each in each_once for kind in types), declared)


def visits_types(visits_type: str | None) -> tuple[VisitsType, ...]:
    """Return the types that an option selects.

    Raises:
        InvalidRequestError: There is no such type.
    """
    known: tuple[VisitsType, ...] = get_args(VisitsType)
    if visits_type is not None and visits_type not in known:
        raise InvalidRequestError(f"visits_type must be 'TOTAL', 'UNIQUE' or None, got {visits_type!r}")
    return tuple(each for each in known if visits_type in {None, each})
