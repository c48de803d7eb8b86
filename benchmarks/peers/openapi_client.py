"""A client that openapi-python-client generates from our OpenAPI document, as a user would use it.

It makes nothing of ``allOf`` and of the choice between four responses but dicts. So it is given the document with the
one response that is measured here, spelled out: then its rows are attrs classes with datetimes.
"""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

from benchmarks.peers import Way, by_hand


def _document() -> str:
    document = json.loads((files("distinct_async.testing") / "openapi.json").read_text(encoding="utf-8"))
    reference = "#/components/schemas/{}".format
    document["components"]["schemas"]["TotalAnswer"] = {
        "type": "object",
        "required": ["statusCode", "data"],
        "properties": {"statusCode": {"type": "integer"}, "data": {"$ref": reference("TotalVisits")}},
    }
    response = document["paths"]["/v3/touchpoint/metrics"]["get"]["responses"]["200"]["content"]["application/json"]
    response["schema"] = {"$ref": reference("TotalAnswer")}
    return json.dumps(document)


@cache
def _generated() -> tuple[ModuleType, ModuleType, ModuleType]:
    with TemporaryDirectory() as folder:
        (path := Path(folder) / "openapi.json").write_text(_document(), encoding="utf-8")
        words = ("generate", "--path", path, "--meta", "none", "--output-path", Path(folder) / "generated")
        command = (sys.executable, "-m", "openapi_python_client", *words)
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # our own words
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        sys.path.insert(0, folder)
        try:
            return (
                import_module("generated.client"),
                import_module("generated.models"),
                import_module("generated.api.distinct.touchpoint_metrics"),
            )
        finally:
            sys.path.remove(folder)


@asynccontextmanager
async def ways(url: str) -> AsyncIterator[Mapping[str, Way]]:
    """One after the other, and with a window."""
    client, models, api = _generated()
    async with client.Client(base_url=url, headers={"x-distinct-api-key": "bench"}) as made:

        async def ask(rows: int, size: int, offset: int) -> tuple[int, int]:
            kind = models.TouchpointMetricsMetricsType.TOUCHPOINT
            response = await api.asyncio(
                client=made, metrics_type=kind, touchpoint_id=str(rows), page_size=size, offset=offset
            )
            touchpoint = response.data.touchpoints
            return touchpoint.total_visits, sum(1 for _ in touchpoint.total_visits_details.items)

        yield by_hand(ask)
