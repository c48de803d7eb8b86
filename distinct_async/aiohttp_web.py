"""At home in aiohttp.web: one client for the life of the app.

::

    app = web.Application()
    app.cleanup_ctx.append(cleanup_ctx())

    async def show(request: web.Request) -> web.Response:
        metrics = await request.app[CLIENT].metrics.experience(request.match_info["experience_id"])
        ...

In the handlers of a sub-app it is ``request.config_dict[CLIENT]``.
"""

from collections.abc import AsyncIterator, Callable, Collection

from aiohttp import web

from distinct_async.client import DistinctClient
from distinct_async.lifetime import Factory, opened
from distinct_async.sansio.messages import Vendor

__all__ = ["CLIENT", "cleanup_ctx"]

CLIENT = web.AppKey("CLIENT", DistinctClient)
"""Where the app keeps its client."""


def cleanup_ctx(
    factory: Factory | None = None, require: Collection[Vendor] = ()
) -> Callable[[web.Application], AsyncIterator[None]]:
    """What to append to ``app.cleanup_ctx``: opens the client when the app starts, and closes it at the end.

    :param factory: makes the client; else ``DistinctClient()``, with its keys from the environment.
    :param require: ``("distinct", "vantio")`` or one of them: without its key the app does not start.
    :raises ConfigurationError: when the app starts, for a key that is required and missing.
    """

    async def context(app: web.Application) -> AsyncIterator[None]:
        async with opened(factory, require) as client:
            app[CLIENT] = client
            yield

    return context
