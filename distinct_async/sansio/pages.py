"""What a walk requests, what it needs to know about a page, and what it decides about it."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal

from attrs import field, frozen

from distinct_async.sansio.checkpoints import Checkpoint, Question

__all__ = ["Checkpoint", "OnDrift", "PageDecision", "PageFacts", "PageRequest", "Question", "State"]

OnDrift = Literal["raise", "warn"]

State = Literal["alone", "ahead", "sequential", "short", "behind", "past_total", "shifted", "resolve", "ended"]
"""What a walk does next.

With a total. alone: requests one page, whose length becomes the plan. ahead: prefetches by that plan. past_total: looks
whether the total is the end.

Without a total. sequential: requests one page; if rows have ids, it begins with the last row received. short: the
same, but the last page was not full, so this may show the end. behind: the last page had the known row only; requests
what is behind.

shifted: looks whether the offset is ignored. resolve: asks for the total, to know where the last rows begin. ended:
requests nothing.
"""


@frozen
class PageFacts:
    """What matters to a walk about a page.

    Attributes:
        items: The rows, as received.
        total: The length of the whole list, as the page states it.
        echo_offset: The offset that the page says it has.
        echo_size: The page size that it says it has.
        first: The time of its first row.
        last: The time of its last row.
        unmistakable: Whether an equal page can only be the same rows again: they have ids, or several times. Called
            only if a page equals the one before it.
        ids: The ids of the rows; empty if rows have none.
    """

    items: Sequence[Any]
    total: int | None = None
    echo_offset: int | None = None
    echo_size: int | None = None
    first: datetime | None = None
    last: datetime | None = None
    unmistakable: Callable[[], bool] = field(default=lambda: False, eq=False)
    ids: Sequence[str] = ()


@frozen
class PageRequest:
    """One page to request, and what was known at that moment.

    Attributes:
        offset: Rows to skip.
        page_size: Rows to request; None for the server's default.
        total: The newest total.
        state: The walk's state.
    """

    offset: int
    page_size: int | None = None
    total: int | None = None
    state: State = "alone"


@frozen
class PageDecision:
    """What to do with a page.

    Attributes:
        rows: The rows to deliver.
        offset: The offset of the first of them.
        total: The total that their page states.
        deliver: Whether to deliver a page at all.
        discard: Whether to discard what was requested beyond this page.
        warning: A drift that is only reported.
    """

    rows: Sequence[Any] = ()
    offset: int = 0
    total: int | None = None
    deliver: bool = True
    discard: bool = False
    warning: str | None = None
