"""schemathesis generates valid and invalid requests from the OpenAPI document and checks the fake's responses."""

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import settings
from schemathesis.config import SchemathesisConfig

from distinct_async.testing import FakeServer, World, openapi

KNOWN = {"experienceId": "exp-1", "userId": "user-1", "touchpointId": "tp-1"}
# The documents do not say that unknown parameters are refused. Keys are the test's own business.
GENERATION = {"allow-extra-parameters": False, "with-security-parameters": False, "deterministic": True}

contract = schemathesis.openapi.from_dict(openapi(), config=SchemathesisConfig.from_dict({"generation": GENERATION}))


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with FakeServer.run_in_thread(World.sample(touchpoints=3, scans=300, users=40)) as fake:
        yield fake


def test_every_example_fits_its_schema() -> None:
    document, count = openapi(), 0
    responses = [response for item in document["paths"].values() for response in item["get"]["responses"].values()]
    for response in [*responses, *document["components"]["responses"].values()]:
        for content in response.get("content", {}).values():
            validator = jsonschema_rs.validator_for({**content["schema"], "components": document["components"]})
            for example in content["examples"].values():
                validator.validate(example["value"])
                count += 1
    assert 13 == count


@contract.parametrize()
@settings(max_examples=50, derandomize=True)
def test_the_fake_answers_as_the_contract_says(case: "schemathesis.Case[Any]", server: FakeServer) -> None:
    assert case.meta is not None
    fits = case.meta.generation.mode.is_positive
    if fits:
        # Which ids there are, and which of them a metricsType needs, OpenAPI cannot say.
        case.query |= KNOWN if case.operation.path == "/v3/touchpoint/metrics" else {}
        case.path_parameters |= {"id": "imp_000001"} if "id" in case.path_parameters else {}
    keys = {"x-distinct-api-key": server.api_key, "Authorization": f"Bearer {server.vantio_api_key}"}
    response = case.call_and_validate(base_url=server.url, headers=keys)
    assert 200 == response.status_code or not fits
