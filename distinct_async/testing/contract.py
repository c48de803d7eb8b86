"""The vendors' contract as a document, for tools that read OpenAPI."""

import json
from importlib.resources import files
from typing import Any


def openapi() -> dict[str, Any]:
    """Both vendors' endpoints as OpenAPI 3.1: parameters, schemas, documented examples and errors; a fresh copy each.

    The examples are the vendors' own, word for word. What is not in their documents is marked `x-inferred`.
    """
    document: dict[str, Any] = json.loads(files("distinct_async.testing").joinpath("openapi.json").read_bytes())
    return document
