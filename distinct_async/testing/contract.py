"""The OpenAPI document of both vendors."""

import json
from importlib.resources import files
from typing import Any


def openapi() -> dict[str, Any]:
    """Return both vendors' endpoints as OpenAPI 3.1: parameters, schemas, examples and errors.

    The examples are the vendors' own, verbatim. What is not in their documents is marked ``x-inferred``.

    Returns:
        The document; a new copy for each call.
    """
    document: dict[str, Any] = json.loads(files("distinct_async.testing").joinpath("openapi.json").read_bytes())
    return document
