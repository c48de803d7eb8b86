"""What is public is whole: exported, sorted, and every error survives a pickle."""

import copy
import importlib
import importlib.metadata
import pickle
from collections.abc import Callable
from types import ModuleType
from typing import Any

import attrs
import pytest

import distinct_async
from distinct_async import Checkpoint, DistinctClient, errors, etl

PUBLIC = [f"distinct_async{name}" for name in ("", ".errors", ".etl", ".models", ".testing")]

# The tree of `distinct_async.errors`, drawn once more: each with its parents.
TREE = {
    "DistinctError": ["Exception"],
    "ConfigurationError": ["DistinctError", "ValueError"],
    "InvalidRequestError": ["DistinctError", "ValueError"],
    "ClientStateError": ["DistinctError", "RuntimeError"],
    "TransportError": ["DistinctError"],
    "ConnectError": ["TransportError"],
    "TLSError": ["ConnectError"],
    "RequestTimeoutError": ["TransportError", "TimeoutError"],
    "ProtocolError": ["TransportError"],
    "APIError": ["DistinctError"],
    "BadRequestError": ["APIError"],
    "AuthenticationError": ["APIError"],
    "PermissionDeniedError": ["APIError"],
    "NotFoundError": ["APIError"],
    "RateLimitError": ["APIError"],
    "ServerError": ["APIError"],
    "DecodeError": ["DistinctError"],
    "PaginationError": ["DistinctError"],
    "PageLoopError": ["PaginationError"],
    "DriftError": ["PaginationError"],
    "CheckpointError": ["PaginationError"],
    "StorageError": ["DistinctError"],
    "DriftWarning": ["UserWarning"],
}
CLASSES = [getattr(errors, name) for name in TREE if name != "DriftWarning"]

# A value for each attribute that an error can have, none of them the default.
VALUES: dict[str, Any] = {
    "message": "Experience not found",
    "vendor": "distinct",
    "operation": "metrics.experience(experience_id='exp-1')",
    "attempts": 3,
    "elapsed": 2.5,
    "waited": 1.5,
    "on_wire": 1.0,
    "checkpoint": Checkpoint.from_json(
        '{"version":1,"endpoint":"metrics.total_visits","ids":{"touchpoint_id":"tp-1"},"position":7,"last":null}'
    ),
    "result": etl.Result(rows=7, expected=9, complete=False, failures=(), requests=3, retries=0, elapsed=2.5),
    "reason": "not retried",
    "remedy": "look elsewhere",
    "remedy_option": "on_drift",
    "setting": "base_url",
    "variable": "DISTINCT_BASE_URL",
    "problem": "is not a URL",
    "private": ("user-1",),
    "limit": "deadline",
    "status": 404,
    "headers": {"retry-after": "3"},
    "body": "{}",
    "request_id": "req-1",
    "retry_after": 3.0,
    "phrase": "not found",
    "stated": False,
    "paths": ("$.data",),
    "excerpt": "{",
}
COPIES: dict[str, Callable[[object], object]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
    "oldest pickle": lambda error: pickle.loads(pickle.dumps(error, 0)),
}


@pytest.fixture(params=PUBLIC)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


def test_all_is_true_and_sorted(module: ModuleType) -> None:
    assert sorted(module.__all__) == module.__all__
    assert [] == [name for name in module.__all__ if not hasattr(module, name)]
    assert len({*module.__all__}) == len(module.__all__)


def test_everything_public_reports_what_it_is(module: ModuleType) -> None:
    assert module.__doc__
    public = {name: getattr(module, name) for name in module.__all__}
    assert [] == [name for name, thing in public.items() if isinstance(thing, type) and "__doc__" not in vars(thing)]


def test_the_tree_of_errors_is_as_drawn() -> None:
    drawn = {name: [base.__name__ for base in getattr(errors, name).__bases__] for name in errors.__all__}
    assert TREE == drawn
    assert [] == [name for name in TREE if name not in str(errors.__doc__)]


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_an_error_survives_a_copy_whole(error: type[errors.DistinctError], how: str) -> None:
    values = {field.name: VALUES[field.name] for field in attrs.fields(error)}
    before = error(**values)

    after = COPIES[how](before)

    assert type(after) is error
    assert values == {name: getattr(after, name) for name in values}
    assert (str(before), repr(before), before.args) == (str(after), repr(after), after.args)


def test_the_version_is_that_of_the_package() -> None:
    assert importlib.metadata.version("distinct-async") == distinct_async.__version__


async def test_without_package_metadata_requests_are_sent(
    client: DistinctClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    monkeypatch.setattr(importlib.metadata.Distribution, "from_name", missing)
    assert 3 == (await client.metrics.experience("exp-1")).total_touchpoints
    assert distinct_async.__version__


async def test_a_client_and_a_walk_refuse_to_be_pickled_with_a_hint(client: DistinctClient) -> None:
    walk = client.metrics.total_visits("tp-1")
    async with walk.run() as run:
        for refusing in (client, walk, run):
            with pytest.raises(TypeError, match=r"pickle the checkpoint|pickle run\.checkpoint|one in each process"):
                pickle.dumps(refusing)
