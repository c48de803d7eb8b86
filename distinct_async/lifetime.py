"""One client for the lifetime of a web app, whichever framework runs it."""

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import asynccontextmanager

from distinct_async.client import DistinctClient
from distinct_async.vendors import Vendor

Factory = Callable[[], DistinctClient]


@asynccontextmanager
async def open_client(factory: Factory | None, require: Collection[Vendor]) -> AsyncGenerator[DistinctClient]:
    """Open a client, and close it at the end.

    Args:
        factory: Makes the client; `DistinctClient` itself if None.
        require: The vendors whose keys the app cannot start without.

    Yields:
        The client.

    Raises:
        ConfigurationError: For a missing key, with the variable that sets it, and for invalid settings.
    """
    async with (factory or DistinctClient)() as client:
        client.require(*require)
        yield client
