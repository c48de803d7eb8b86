"""The fake vendors, for tests without a network: both APIs on a real loopback socket, computed from one world.

::

    world = World.sample(touchpoints=3, scans=1_000, users=90, seed=7)
    async with FakeServer(world) as fake:
        client = DistinctClient(
            fake.api_key, vantio_api_key=fake.vantio_api_key, base_url=fake.url, vantio_base_url=fake.url
        )
        rows = await client.metrics.total_visits("tp-1").collect()
    assert len(rows) == len(world.scans("tp-1"))
    assert fake.requests[0].query["touchpointId"] == "tp-1"

Scans go into a `World`; every view of both vendors is worked out from them. `fake.fail(status=503, times=2)` orders a
fault. Synchronous code uses `with FakeServer.run_in_thread(world) as fake`. pytest has the fixtures `distinct_world`,
`distinct_server` and `distinct_env`. `openapi()` is the vendors' contract as a document.
Nothing here knows the client, so that both cannot share a mistake.
"""

from distinct_async.testing.contract import openapi
from distinct_async.testing.faults import Fault
from distinct_async.testing.scans import Scan
from distinct_async.testing.server import FakeServer, RequestRecord
from distinct_async.testing.world import World

__all__ = ["FakeServer", "Fault", "RequestRecord", "Scan", "World", "openapi"]
