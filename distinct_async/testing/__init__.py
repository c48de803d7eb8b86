"""Fake vendors for tests without a network: both APIs on a real loopback socket, computed from one `World`.

::

    world = World.sample(touchpoints=3, scans=1_000, users=90, seed=7)
    async with FakeServer(world) as fake:
        async with DistinctClient(**fake.settings) as client:
            rows = await client.metrics.total_visits("tp-1").collect()
    assert len(rows) == len(world.scans("tp-1"))
    assert fake.requests[0].query["touchpointId"] == "tp-1"

Add scans to a `World`; the responses of both vendors are computed from them. `fake.fail(status=503, times=2)` injects a
fault. Synchronous code uses `with FakeServer.run_in_thread(world) as fake`. pytest has the fixtures `distinct_world`,
`distinct_server` and `distinct_env`. `openapi()` returns an OpenAPI document of both APIs.

Nothing here imports the client, so that the fake cannot share its mistakes.
"""

from distinct_async.testing.contract import openapi
from distinct_async.testing.faults import Fault
from distinct_async.testing.scans import Scan
from distinct_async.testing.server import FakeServer, RequestRecord
from distinct_async.testing.world import World

__all__ = ["FakeServer", "Fault", "RequestRecord", "Scan", "World", "openapi"]
