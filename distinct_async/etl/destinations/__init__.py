"""Where the rows of a job go: the protocol, and the values that pass through it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from attrs import define, field, frozen

from distinct_async.etl.plans import ListKey, Plan, VisitList
from distinct_async.etl.results import Result
from distinct_async.models import Visit, VisitsType
from distinct_async.sansio.pages import Checkpoint
from distinct_async.walk import Report

TABLES: Mapping[VisitsType, str] = {"TOTAL": "visits", "UNIQUE": "unique_visits"}
"""The names of the tables of visits."""


@frozen
class ListState:
    """What a destination has of a list.

    Attributes:
        checkpoint: The position after its last row; None if it has none.
        declared: The total that the experience declared at that time.
        complete: Whether the list was read to its end.
        ascends: Whether the list ascends in time, as far as seen; None if all its rows have one time.
    """

    checkpoint: Checkpoint | None
    declared: int
    complete: bool
    ascends: bool | None

    @property
    def position(self) -> int:
        """How many rows it has."""
        return self.checkpoint.position if self.checkpoint is not None else 0

    def is_current(self, visit_list: VisitList) -> bool:
        """Return whether no request is needed: the list was read to its end, and its total has not changed."""
        return self.complete and visit_list.expected in {self.declared, self.position}


@define(eq=False)
class Chunk:
    """Whole pages of one list, in order.

    Attributes:
        visit_list: The list.
        start: The position of the first row.
        rebuild: Whether the chunks of this walk replace, with the last of them, what the destination has of the list.
        checkpoint: The position after the last row.
        visits: The rows.
        ascends: Whether the list ascends in time, as far as this walk has seen it.
        end: The walk's report, in its last chunk; else None.
    """

    visit_list: VisitList
    start: int
    rebuild: bool
    checkpoint: Checkpoint
    visits: list[Visit] = field(factory=list)
    ascends: bool | None = None
    end: Report | None = None

    def state(self, before: ListState | None) -> ListState:
        """Return the state of a destination that had `before` of the list and has stored this chunk."""
        ascends = self.ascends
        if before is not None and not self.rebuild and before.ascends is not None and ascends is not False:
            ascends = before.ascends
        complete = self.end is not None and self.end.complete
        return ListState(self.checkpoint, self.visit_list.expected, complete, ascends)


class Destination(Protocol):
    """Stores rows together with the state behind them, so that a killed job continues without loss or repetition.

    Every method blocks; all are called from one thread. Errors are `StorageError`, and `InvalidRequestError` for what
    an earlier job left for another question.
    """

    def begin(self, plan: Plan) -> Mapping[ListKey, ListState]:
        """Note what a plan declares, and return what is there already; called once for each experience."""

    def write(self, chunks: Sequence[Chunk]) -> None:
        """Store rows and state, both or neither."""

    def rows(self, experience_id: str) -> int:
        """Return the rows of an experience that the result of the job counts."""

    def finish(self, result: Result) -> None:
        """Note how the job ended; not called after a `StorageError`."""

    def close(self) -> None:
        """Release everything; what was stored stays."""
