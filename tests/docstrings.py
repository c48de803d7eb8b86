"""What the docstrings of the public API lack: a section in Google style for every argument, field and error."""

import builtins
import inspect
import re
from collections.abc import Callable, Iterator
from types import ModuleType

import attrs

from distinct_async import errors

FIELD_LIST = re.compile(r"^\s*:(?:param|ivar|raises?|returns?|rtype|type|var|cvar|yields?)\b", re.MULTILINE)
SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields):\n((?:(?:    .*)?\n)+)", re.MULTILINE)
ENTRY = re.compile(r"^    \*{0,2}([\w.]+): \S", re.MULTILINE)
LINES = re.compile(r"^    \S.*$", re.MULTILINE)
NOT_CREATED_BY_USERS = {"Run", "Stream"}


def problems(module: ModuleType) -> Iterator[str]:
    """Yield what is missing or superfluous in the docstrings of everything that a module exports."""
    if not module.__doc__:
        yield f"{module.__name__}: no docstring"
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing):
            yield from _problems_of_class(f"{module.__name__}.{name}", thing)
        elif inspect.isfunction(thing):
            yield from _problems_of_function(f"{module.__name__}.{name}", thing)


def entries(doc: str, section: str) -> list[str]:
    """Return the names that a section of a docstring describes."""
    return [name for title, body in SECTION.findall(f"{doc}\n") if title == section for name in ENTRY.findall(body)]


def _problems_of_class(name: str, cls: type) -> Iterator[str]:
    yield from _style(name, inspect.getdoc(cls) or "")
    documented = {
        entry
        for base in cls.__mro__
        for section in ("Args", "Attributes")
        for entry in entries(inspect.cleandoc(base.__doc__ or ""), section)
    }
    if attrs.has(cls):
        fields = [field.name for field in attrs.fields(cls) if not field.inherited and not field.name.startswith("_")]
    elif "__init__" in vars(cls) and cls.__name__ not in NOT_CREATED_BY_USERS:
        fields = _parameters(vars(cls)["__init__"])
    else:
        fields = []
    yield from (f"{name}: {each} is not described" for each in fields if each not in documented)
    foreign = [base for base in cls.__mro__ if not base.__module__.startswith(cls.__module__.partition(".")[0])]
    for member, thing in vars(cls).items():
        if member.startswith("_") or any(hasattr(base, member) for base in foreign):
            continue
        function = thing.__func__ if isinstance(thing, staticmethod | classmethod) else thing
        if isinstance(function, property):
            yield from _style(f"{name}.{member}", inspect.getdoc(function) or "")
        elif inspect.isfunction(function):
            yield from _problems_of_function(f"{name}.{member}", function)


def _problems_of_function(name: str, function: Callable[..., object]) -> Iterator[str]:
    doc = inspect.getdoc(function) or ""
    yield from _style(name, doc)
    if (documented := entries(doc, "Args")) != (expected := _parameters(function)):
        yield f"{name}: Args are {documented}, not {expected}"


def _style(name: str, doc: str) -> Iterator[str]:
    if not doc:
        yield f"{name}: no docstring"
    if FIELD_LIST.search(doc):
        yield f"{name}: not in Google style"
    for title, body in SECTION.findall(f"{doc}\n"):
        if title in {"Args", "Attributes", "Raises"}:
            yield from (f"{name}: {title}: {line.strip()}" for line in LINES.findall(body) if not ENTRY.match(line))
    for error in entries(doc, "Raises"):
        if not isinstance(getattr(errors, error, getattr(builtins, error, None)), type):
            yield f"{name}: Raises: {error} is no exception"


def _parameters(function: Callable[..., object]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in {"self", "cls"}]
