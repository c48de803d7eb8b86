"""Documents, docstrings, comments, error texts and names follow docs/glossary.md and use none of the banned words."""

from pathlib import Path

import pytest

from .documents import ROOT
from .words import BANNED, CODE, DOCUMENTS, PATTERN, found_in

# Shrinks to nothing: files that still use them.
NOT_YET = (
    "distinct_async/__init__.py",
    "distinct_async/cli/",
    "distinct_async/client.py",
    "distinct_async/config.py",
    "distinct_async/endpoints/",
    "distinct_async/engine.py",
    "distinct_async/errors.py",
    "distinct_async/etl/",
    "distinct_async/lifetime.py",
    "distinct_async/limits.py",
    "distinct_async/models/",
    "distinct_async/sansio/",
    "distinct_async/session.py",
    "distinct_async/shapes.py",
    "distinct_async/structure.py",
    "distinct_async/walk.py",
)
def test_banned_words_are_found(text: str) -> None:
    assert PATTERN.search(text)


@pytest.mark.parametrize("text", ["untold, retold", "understand", "a stand-in", "they say, then", "house-told-x"])
def test_words_that_only_contain_them_are_not(text: str) -> None:
    assert not PATTERN.search(text)


def test_each_banned_word_has_a_better_one() -> None:
    assert [] == [word for word, better in BANNED.items() if not better]
