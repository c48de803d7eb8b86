"""The contract, the fake and the client agree: each example is read, each request is one that it knows."""

import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distinct_async import DistinctClient
from distinct_async.errors import APIError
from distinct_async.testing import FakeServer, openapi
from tests.rig import served
from tests.test_samples import LISTED, READ
from tests.wire.responses import encoded, whole

SAMPLES = Path(__file__).parents[1] / "samples"
METRICS, LIST, GET = "/v3/touchpoint/metrics", "/api/v1/impressions", "/api/v1/impressions/{id}"

Call = Callable[[DistinctClient], Awaitable[object]]
CALLS: dict[str, Call] = {
    METRICS: lambda client: client.metrics.experience("exp-1"),
    LIST: lambda client: client.impressions.list(),
    GET: lambda client: client.impressions.get("imp_123abc"),
}
EVERYTHING: list[Call] = [
    lambda client: client.metrics.experience("exp-1", page_size=10),
    lambda client: client.metrics.experience("exp-1", offset=1),
    lambda client: client.metrics.user("user-1", experience_id="exp-1"),
    lambda client: client.metrics.touchpoint("tp-1", visits_type="UNIQUE", page_size=1, offset=1),
    lambda client: client.metrics.total_visits("tp-1", experience_id="exp-1", page_size=50).collect(),
    lambda client: client.metrics.unique_visits("tp-1").collect(),
    lambda client: client.impressions.list(program_id="prog_exp-1", poster_id="poster_tp-1", page_size=50).collect(),
    lambda client: client.impressions.get("imp_000001"),
]


def resolved(document: dict[str, Any], part: Any) -> Any:
    while "$ref" in part:
        target: Any = document
        for step in part["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        part = target
    return part


def examples() -> Iterator[tuple[str, int, str, Any, bool]]:
    """Yield each example: its path, status, name, value, and whether it is inferred."""
    document = openapi()
    for path, item in document["paths"].items():
        for status, response in item["get"]["responses"].items():
            for name, example in resolved(document, response)["content"]["application/json"]["examples"].items():
                yield path, int(status), name, example["value"], example.get("x-inferred", False)


EXAMPLES = [pytest.param(*each[:4], id=f"{each[0]} {each[2]}") for each in examples()]


def test_what_the_vendors_documented_is_there_verbatim() -> None:
    documented = {path.stem: json.loads(path.read_bytes()) for path in SAMPLES.glob("*.json")}
    assert documented == {name: value for _, _, name, value, inferred in examples() if not inferred}


def test_every_response_has_an_example() -> None:
    document = openapi()
    statuses = {(path, int(status)) for path, item in document["paths"].items() for status in item["get"]["responses"]}
    assert statuses == {(path, status) for path, status, *_ in examples()}


def test_who_changes_the_document_changes_only_their_own() -> None:
    openapi()["paths"].clear()
    assert [METRICS, LIST, GET] == [*openapi()["paths"]]


@pytest.mark.parametrize(("path", "status", "name", "value"), EXAMPLES)
async def test_the_client_reads_every_example(path: str, status: int, name: str, value: Any) -> None:
    call, expected = READ.get(name, (CALLS[path], None))
    async with served(whole(encoded(value), status)) as (client, _):
        if name == "impressions":
            assert LISTED == [*await client.impressions.list()]
        elif status == 200:
            assert expected == await call(client)
        else:
            with pytest.raises(APIError) as caught:
                await call(client)
            assert (status, value["message"]) == (caught.value.status, caught.value.message)


async def test_the_client_asks_only_for_what_the_contract_knows(client: DistinctClient, fake: FakeServer) -> None:
    document = openapi()
    for call in EVERYTHING:
        await call(client)

    asked: dict[str, set[str]] = {}
    for request in fake.requests:
        path = GET if request.path.startswith(f"{LIST}/") else request.path
        asked.setdefault(path, set()).update(request.query)
    known = {
        path: {parameter["name"] for parameter in item["get"]["parameters"] if parameter["in"] == "query"}
        for path, item in document["paths"].items()
    }
    assert known == asked


async def test_the_keys_go_where_the_contract_says(client: DistinctClient, fake: FakeServer) -> None:
    schemes = openapi()["components"]["securitySchemes"]
    fake.world.add_impression("imp_123abc")
    for call in CALLS.values():
        await call(client)

    keys = {scheme.get("name", "Authorization") for scheme in schemes.values()}
    assert [{schemes["distinct"]["name"]}, {"Authorization"}, {"Authorization"}] == [
        {name for name in keys if name in request.headers} for request in fake.requests
    ]
