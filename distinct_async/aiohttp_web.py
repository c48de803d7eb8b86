"""aiohttp.web integration: one client per app.

::

    app = web.Application()
    app.cleanup_ctx.append(cleanup_ctx())

    async def show(request: web.Request) -> web.Response:
        metrics = await request.app[CLIENT].metrics.experience(request.match_info["experience_id"])
        ...

In handlers of a sub-app the client is ``request.config_dict[CLIENT]``.
"""

from collections.abc import AsyncIterator, Callable, Collection

from aiohttp import web

from distinct_async.client import DistinctClient
from distinct_async.lifetime import Factory, open_client
from distinct_async.vendors import Vendor

__all__ = ["CLIENT", "cleanup_ctx"]

CLIENT = web.AppKey("CLIENT", DistinctClient)
"""The key of the client in the app."""


def cleanup_ctx(
    factory: Factory | None = None, require: Collection[Vendor] = ()
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Return a context for ``app.cleanup_ctx`` that opens one client at startup and closes it at cleanup.

    Args:
        factory: A function that creates the client; by default ``DistinctClient()``, with keys from the environment.
        require: The vendors whose keys the app cannot start without: ``"distinct"``, ``"vantio"`` or both.

    Returns:
        The context, to be appended to ``app.cleanup_ctx``.

    Raises:
        ConfigurationError: At startup, if the key of a required vendor is missing.
    """

    async def context(app: web.Application) -> AsyncIterator[None]:
        async with open_client(factory, require) as client:
            app[CLIENT] = client
            yield

    return context
