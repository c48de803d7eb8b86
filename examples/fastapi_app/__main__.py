"""Start the service with the fake vendors: ``python -m examples.fastapi_app [PORT]``."""

import asyncio
import os
import sys

import uvicorn

from distinct_async.testing import FakeServer, World

from .service import app

_TRY = """\
Try:
  curl {url}/experiences/exp-1/touchpoints
  curl {url}/touchpoints/tp-1/visits
  curl {url}/impressions/{impression}
  {url}/docs
"""


async def main(port: int) -> None:
    """Serve until Ctrl-C."""
    world = World.sample(touchpoints=3, scans=10_000, users=900, seed=7)
    async with FakeServer(world) as fake:
        os.environ |= {
            "DISTINCT_API_KEY": fake.api_key,
            "DISTINCT_BASE_URL": fake.url,
            "VANTIO_API_KEY": fake.vantio_api_key,
            "VANTIO_BASE_URL": fake.url,
        }
        print(_TRY.format(url=f"http://127.0.0.1:{port}", impression=world.impressions[0]), flush=True)
        await uvicorn.Server(uvicorn.Config(app, port=port)).serve()


asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8000))
