"""One client for the life of a web app, whichever framework runs it."""

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import asynccontextmanager
from typing import get_args

from distinct_async.client import DistinctClient
from distinct_async.errors import ConfigurationError
from distinct_async.sansio.messages import Vendor

Factory = Callable[[], DistinctClient]


@asynccontextmanager
async def opened(factory: Factory | None, require: Collection[Vendor]) -> AsyncGenerator[DistinctClient]:
    """The client that `factory` makes (`DistinctClient` itself, if None), closed at the end.

    :param require: vendors without whose key the app is not to start.
    :raises ConfigurationError: for a key that is missing, naming its variable, and for settings that cannot be meant.
    """
    if unknown := set(require) - set(get_args(Vendor)):
        raise ConfigurationError(f"require takes vendors, as in require=('distinct', 'vantio'), got {min(unknown)!r}")
    async with (factory or DistinctClient)() as client:
        for vendor in require:
            client._engine.core.settings.key(vendor)  # noqa: SLF001  # nobody else asks before the first request
        yield client
