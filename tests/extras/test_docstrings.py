"""Every public name of the extra `fastapi` is described, as tests/test_docstrings.py checks it for the others."""

import distinct_async.fastapi
from tests.docstrings import problems


def test_every_argument_and_error_is_described() -> None:
    assert [] == [*problems(distinct_async.fastapi)]
