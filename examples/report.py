"""The code under test: which touchpoints of an experience do the same users visit most often?"""

from collections.abc import Sequence

from attrs import frozen

from distinct_async import DistinctClient
from distinct_async.errors import NotFoundError


@frozen
class Line:
    """One touchpoint of the report."""

    name: str
    visits: int
    visitors: int

    @property
    def per_visitor(self) -> float:
        """Visits per visitor; 0 without visitors."""
        return self.visits / self.visitors if self.visitors else 0.0


async def report(client: DistinctClient, experience_id: str) -> Sequence[Line]:
    """Return the touchpoints of an experience, most visits per visitor first; none if it does not exist."""
    try:
        metrics = await client.metrics.experience(experience_id)
    except NotFoundError:
        return ()
    lines = [Line(each.name or each.id, each.total_visits, each.unique_visits) for each in metrics.touchpoints]
    return sorted(lines, key=lambda line: line.per_visitor, reverse=True)
