"""Every public call that version 0.1.0 had takes the arguments that it took then, by place and by name."""

import inspect
import json
from functools import reduce
from importlib import import_module
from typing import Any

import pytest

import distinct_async

from .written import WRITTEN

# "argument", or "argument *" if it is for keywords only
SIGNATURES: dict[str, list[str]] = json.loads((WRITTEN / "signatures.json").read_bytes())


def find(name: str) -> Any:
    first, _, rest = name.partition(".")
    if first in {"etl", "testing", "models", "aiohttp_web"}:
        return reduce(getattr, rest.split("."), import_module(f"distinct_async.{first}"))
    return reduce(getattr, name.split("."), distinct_async)


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_call_of_0_1_0_is_accepted(name: str) -> None:
    places = [each for each in SIGNATURES[name] if not each.endswith(" *")]
    names = [each.removesuffix(" *") for each in SIGNATURES[name]]
    accepted = list(inspect.signature(find(name)).parameters)
    assert places == accepted[: len(places)]
    assert [] == [each for each in names if each not in accepted]
