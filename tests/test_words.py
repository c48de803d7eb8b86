"""Documents, docstrings, comments, error texts and names follow docs/glossary.md and use none of the banned words."""

import re
from pathlib import Path

import pytest

from .documents import ROOT, SITE
from .words import BANNED, CODE, DOCUMENTS, PATTERN, found_in


@pytest.mark.parametrize("path", [pytest.param(each, id=str(each.relative_to(ROOT))) for each in DOCUMENTS + CODE])
def test_no_banned_word_is_used(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    assert [] == [f"{name}:{line}: {word}" for line, word in found_in(path)]


@pytest.mark.parametrize(
    "text",
    [
        "what it told",
        "resume, or walk anew",
        "it cannot be meant",
        "for example X, say",
        "an answer came and it is no",
        "settings of yours",
    ],
)
def test_banned_words_are_found(text: str) -> None:
    assert PATTERN.search(text)


@pytest.mark.parametrize("text", ["untold, retold", "understand", "a stand-in", "they say, then", "house-told-x"])
def test_words_that_only_contain_them_are_not(text: str) -> None:
    assert not PATTERN.search(text)


def test_each_banned_word_has_a_better_one() -> None:
    assert [] == [word for word, better in BANNED.items() if not better]


TERMS = {
    *("experience", "touchpoint", "visit", "unique visit", "impression", "poster", "program"),
    *("list", "page", "walk", "run", "checkpoint", "drift", "prefetch"),
    *("attempt", "deadline", "pause", "retry budget", "job", "plan"),
}
ROW = re.compile(r"^\| \*\*(.+?)\*\* \| (.+) \|$", re.MULTILINE)


def test_the_glossary_defines_each_term_once_in_one_or_two_sentences() -> None:
    rows = ROW.findall((SITE / "glossary.md").read_text(encoding="utf-8"))
    terms = [term for term, _ in rows]
    assert set() == TERMS - {*terms}
    assert len({*terms}) == len(terms)
    assert [] == [term for term, meaning in rows if not 1 <= len(re.findall(r"\.(?: |$)", meaning)) <= 2]
