"""What a walk is made of: where its pages come from, the pages, and the report of a run."""

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from attrs import astuple, field, fields, frozen

from distinct_async.notebook import table
from distinct_async.sansio.checkpoints import Checkpoint, Question, digest
from distinct_async.sansio.messages import Request
from distinct_async.sansio.pages import PageFacts

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


@frozen
class Page(Generic[T_co]):
    """Some rows of a walk, in order. `len` and iteration are those of `items`.

    Attributes:
        items: The rows.
        offset: Rows of the whole list before the first of them.
        total: The length of the whole list, as this page states it; None if it does not.
    """

    items: tuple[T_co, ...] = field(repr=lambda items: f"<{len(items)} rows>")
    offset: int
    total: int | None
    _checkpoint: Checkpoint | Callable[[], Checkpoint] = field(repr=False, eq=False)  # most are never looked at

    @property
    def checkpoint(self) -> Checkpoint:
        """The position after the last of the rows, for `Walk.resume`."""
        checkpoint = self._checkpoint
        return checkpoint if isinstance(checkpoint, Checkpoint) else checkpoint()

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[T_co]:
        return iter(self.items)

    def _repr_html_(self) -> str:
        return table("Page", ("rows", "offset", "total"), [(len(self.items), self.offset, self.total)])

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.items, self.offset, self.total, self.checkpoint)  # not what makes the checkpoint


@frozen
class Report:
    """What a run has done so far.

    Attributes:
        rows: Rows delivered.
        pages: Pages delivered.
        requests: Requests sent, with retries and discarded pages.
        retries: How many of them were retries.
        total_first: The first total that the server stated; None if it stated none.
        total_last: The total that it stated last.
        waited: Seconds in queues, in pauses and between attempts, summed over all pages.
        on_wire: Seconds of the requests themselves, summed over all pages.
        complete: Whether the end was reached, and nothing was seen that could have lost or repeated a row.
        ascends: Whether the rows received so far ascend in time. Only then a row keeps its offset while the list grows.
            None if they all have one time.
    """

    rows: int
    pages: int
    requests: int
    retries: int
    total_first: int | None
    total_last: int | None
    waited: float
    on_wire: float
    complete: bool
    ascends: bool | None = None

    def _repr_html_(self) -> str:
        return table("Report", [each.name for each in fields(type(self))], [astuple(self)])


ReportCallback = Callable[[Report], object]


@frozen(eq=False)
class Source(Generic[T]):
    """Where a walk's pages come from.

    Attributes:
        question: What is asked.
        request: Makes the request for an offset and a page size.
        read: Makes rows of a response.
        identity: Returns a row's values as text, of which checkpoints keep a digest.
    """

    question: Question
    request: Callable[[int, int | None], Request[Any]]
    read: Callable[[Any], PageFacts]
    identity: Callable[[T], str]

    def digest(self, row: T) -> str:
        """Return a row's digest."""
        return digest(self.identity(row))

    def checkpoint_after(self, row: T, position: int) -> Checkpoint:
        """Return the checkpoint after a row.

        Args:
            row: The row.
            position: Rows of the whole list up to this row, itself included.
        """
        return Checkpoint(self.question, position, self.digest(row))
