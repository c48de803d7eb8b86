"""What a job reports: how far it is, what it did, what failed."""

from collections.abc import Mapping  # noqa: TC003  # attrs.resolve_types reads it

from attrs import field, frozen

from distinct_async.errors import DistinctError
from distinct_async.etl.plans import VisitList


@frozen
class Progress:
    """How far a job has come.

    Attributes:
        rows: Rows received by this job.
        expected: How many it set out for; a list may grow meanwhile.
        requests: Requests of the walks, retries included.
        retries: How many of them were retries.
        elapsed: Seconds since the job began.
    """

    rows: int
    expected: int
    requests: int
    retries: int
    elapsed: float


@frozen
class Failure:
    """A list that could not be read to its end.

    Attributes:
        work: The list.
        error: The reason; its `checkpoint` is the position that the walk had reached.
    """

    work: VisitList
    error: DistinctError


@frozen(kw_only=True)
class Result:
    """What a job did.

    Attributes:
        rows: Rows written by this job.
        expected: Rows that the experience declares in all.
        complete: Whether every list was read to its end, nothing failed, and no declared row is missing.
        failures: The lists that failed; the others were finished.
        requests: Requests of the walks, retries included.
        retries: How many of them were retries.
        elapsed: Seconds since the job began.
        error: What ended the job, or the error of the first list that failed; None if it went well.
        problems: What is missing although nothing failed, a sentence each.
        experiences: By the id of the experience, the result of each that was begun.
    """

    rows: int
    expected: int
    complete: bool
    failures: tuple[Failure, ...]
    requests: int
    retries: int
    elapsed: float
    error: DistinctError | None = field(default=None, repr=False, eq=False)
    problems: tuple[str, ...] = ()
    experiences: "Mapping[str, Result]" = field(factory=dict, repr=False, eq=False)
