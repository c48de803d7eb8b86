"""What a destination that has stored a chunk knows of its list; the rest shows in batches, exports and syncs."""

import pytest

from distinct_async import Checkpoint
from distinct_async.etl.destinations import Chunk, ListState
from distinct_async.etl.plans import VisitList
from distinct_async.models import TouchpointSummary
from distinct_async.sansio.pages import Question

WORK = VisitList(TouchpointSummary(id="tp-1", name=None, value=None, total_visits=9, unique_visits=4), "TOTAL")
CHECKPOINT = Checkpoint(Question("metrics.total_visits", {}), 0)


@pytest.mark.parametrize(
    ("before", "seen", "rebuild", "after"),
    [
        (None, True, False, True),
        (None, None, False, None),
        (True, None, False, True),
        (True, False, False, False),
        (False, None, False, False),
        (False, True, False, False),  # a tail that ascends does not make an ascending list
        (False, True, True, True),
        (True, None, True, None),
    ],
)
def test_what_is_known_of_the_order_of_a_list_is_kept_until_it_is_rebuilt(
    before: bool | None,  # noqa: FBT001
    seen: bool | None,  # noqa: FBT001
    rebuild: bool,  # noqa: FBT001
    after: bool | None,  # noqa: FBT001
) -> None:
    chunk = Chunk(WORK, 0, rebuild, CHECKPOINT, ascends=seen)
    assert ListState(CHECKPOINT, 9, complete=False, ascends=after) == chunk.state(
        ListState(CHECKPOINT, 5, complete=True, ascends=before)
    )
