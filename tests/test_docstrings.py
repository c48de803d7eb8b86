"""Every public name is described as ``help()`` shows it: each argument, field and error, in Google style."""

import inspect
from importlib import import_module
from types import ModuleType

import pytest

from .docstrings import entries, problems

MODULES = ("distinct_async", "aiohttp_web", "errors", "etl", "models", "testing")  # tests/extras has fastapi


@pytest.mark.parametrize("name", MODULES)
def test_every_argument_field_and_error_is_described(name: str) -> None:
    module = import_module(name if name == "distinct_async" else f"distinct_async.{name}")
    assert [] == [*problems(module)]


def wrong_name(number: int) -> int:
    """Return it.

    Args:
        numbre: A number.
    """
    return number


def no_docstring() -> None: ...


def field_list(number: int) -> int:
    """Return it.

    :param number: A number.
    """
    return number


def no_exception(number: int) -> int:
    """Return it.

    Args:
        number: A number.

    Raises:
        NoSuchError: Never.
    """
    return number


def good(number: int, *more: int) -> int:
    """Return it.

    Args:
        number: A number,
            with a second line.
        *more: More.

    Returns:
        The number.

    Raises:
        ValueError: Never.
    """
    return number + len(more)


def module_of(function: object) -> ModuleType:
    module = ModuleType("module", "A module.")
    vars(module).update(__all__=["function"], function=function)
    return module


@pytest.mark.parametrize("function", [wrong_name, no_docstring, field_list, no_exception])
def test_what_is_missing_is_found(function: object) -> None:
    assert [*problems(module_of(function))]


def test_a_complete_docstring_has_no_problem() -> None:
    assert [] == [*problems(module_of(good))]


def test_a_section_s_entries_are_its_names() -> None:
    doc = inspect.getdoc(good) or ""
    assert [["number", "more"], ["ValueError"]] == [entries(doc, "Args"), entries(doc, "Raises")]
