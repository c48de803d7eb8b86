"""Arguments become exact values, or are refused before anything is sent."""

import pytest

from distinct_async.errors import InvalidRequestError
from distinct_async.sansio.messages import whole_number


@pytest.mark.parametrize("value", [1, 50, 2**63 - 1])
def test_a_whole_number_is_kept(value: int) -> None:
    assert value == whole_number(value, "page_size", 1)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (0, "must be at least 1, got 0"),
        (2**63, r"must be below 2\*\*63"),
        (10**30, r"must be below 2\*\*63"),
        (True, "must be an int, got bool"),
        (1.0, "must be an int, got float"),
        ("1", "must be an int, got str"),
    ],
)
def test_any_other_value_is_refused_by_name(value: int, problem: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"page_size {problem}"):
        whole_number(value, "page_size", 1)
