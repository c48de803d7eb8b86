"""What a job tells: how far it is, what it did, what failed."""

from attrs import frozen

from distinct_async.errors import DistinctError
from distinct_async.etl.plans import Work


@frozen
class Progress:
    """How far a job has come.

    :ivar rows: received by this job. :ivar expected: how many it set out for; a list may grow meanwhile.
    :ivar requests: of the walks. :ivar retries: how many of them were retries.
    :ivar elapsed: seconds.
    """

    rows: int
    expected: int
    requests: int
    retries: int
    elapsed: float


@frozen
class Failure:
    """A list that could not be walked to its end.

    :ivar work: which. :ivar error: why; its `checkpoint` is where the walk stood.
    """

    work: Work
    error: DistinctError


@frozen(kw_only=True)
class Result:
    """What a job did.

    :ivar rows: written by this job. :ivar expected: how many the experience declares in all.
    :ivar complete: whether every list was walked to its end, nothing failed, and no row that is declared is missing.
    :ivar failures: the lists that failed; the others were finished.
    :ivar requests: of the walks. :ivar retries: how many of them were retries.
    :ivar elapsed: seconds.
    """

    rows: int
    expected: int
    complete: bool
    failures: tuple[Failure, ...]
    requests: int
    retries: int
    elapsed: float
