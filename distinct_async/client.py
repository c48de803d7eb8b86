"""The client: wires the floors, pairs each vendor with its key, owns the closing."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self, Union

from attrs import evolve

from distinct_async.config import (
    BASE_URLS,
    Key,
    Limits,
    Settings,
    Timeouts,
    base_urls_from,
    keys_from,
    proxies_from,
    timeouts_from,
)
from distinct_async.core import Core
from distinct_async.endpoints.impressions import Impressions
from distinct_async.endpoints.metrics import Metrics
from distinct_async.engine import Engine
from distinct_async.errors import ClientStateError
from distinct_async.sansio.retry import RetryPolicy, refused

if TYPE_CHECKING:
    import aiohttp

    from distinct_async.sansio.messages import Vendor

_UNSET: float = float("nan")  # as a default of `with_options`, where None means something


class DistinctClient:
    """Metrics and impressions, over one connection pool.

    Building it needs no running loop and opens nothing. Use it as ``async with``, or `close` it at the end; one client
    serves any number of tasks of one event loop.

    :ivar metrics: touchpoint scanner metrics (Distinct).
    :ivar impressions: impressions (Vantio, a second service with its own key).

    :param api_key: your Distinct admin key; else the variable ``DISTINCT_API_KEY``. Needed when first used.
    :param vantio_api_key: your Vantio key; else ``VANTIO_API_KEY``. Without it everything but impressions works.
    :param base_url: where Distinct is; else ``DISTINCT_BASE_URL``, else ``https://api.distinct.so``.
    :param vantio_base_url: where Vantio is; else ``VANTIO_BASE_URL``, else ``https://vantio.app``.
    :param timeout: `Timeouts` of one attempt, in seconds; a plain number sets the attempt's.
    :param deadline: seconds for one call (in a walk: one page), attempts and waits together, above 0; or None.
    :param retry: how often and how patiently a call is tried again.
    :param max_concurrency: requests in flight, per vendor, 1 or more; more callers queue, and that is never a timeout.
    :param rate_limit: requests per second, per vendor, above 0; None for no such limit.
    :param impression_cache: impressions kept in memory, 0 or more; 0 turns the cache off.
    :param max_body: bytes of one answer, decompressed, 1 or more.
    :param allow_http: send keys over plain http to other hosts than loopback, within docker-compose, say.
    :param session: an ``aiohttp.ClientSession`` of yours, which stays yours to close, or a function that makes one,
        which is called inside the loop and is then ours to close.
    :param trace_configs: aiohttp's hooks, for OpenTelemetry, say; not with `session`.
    :param trust_env: use the proxies of the environment (``HTTPS_PROXY`` and so on); not with a lent session.
    :raises ConfigurationError: at once, for settings that cannot be meant; the key is not shown.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        vantio_api_key: str | None = None,
        base_url: str | None = None,
        vantio_base_url: str | None = None,
        timeout: float | Timeouts = Timeouts(),  # noqa: B008  # frozen
        deadline: float | None = 90.0,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008
        max_concurrency: int = 16,
        rate_limit: float | None = None,
        impression_cache: int = 1024,
        max_body: int = 32 * 2**20,
        allow_http: bool = False,
        session: Union["aiohttp.ClientSession", Callable[[], "aiohttp.ClientSession"], None] = None,
        trace_configs: Sequence["aiohttp.TraceConfig"] = (),
        trust_env: bool = False,
    ) -> None:
        # The plain keys leave this frame first: a traceback rendered with its locals must not show them.
        given: dict[Vendor, Key | None] = {"distinct": Key.of(api_key), "vantio": Key.of(vantio_api_key)}
        del api_key, vantio_api_key
        if session is not None and trace_configs:
            raise refused("trace_configs", "cannot be combined with session=...; set them on your own ClientSession")
        base_urls = base_urls_from({"distinct": base_url, "vantio": vantio_base_url}, allow_http=allow_http)
        settings = Settings(
            keys=keys_from(given),
            base_urls=base_urls,
            proxies=proxies_from(base_urls, trust_env=trust_env),
            session=session,
            trace_configs=tuple(trace_configs),
            max_concurrency=max_concurrency,
            rate_limit=rate_limit,
            impression_cache=impression_cache,
            max_body=max_body,
        )
        self._wire(Engine(Core(settings), Limits(timeouts_from(timeout), deadline, retry)))

    def _wire(self, engine: Engine) -> None:
        self._engine = engine
        self.metrics: Metrics = Metrics(engine)
        self.impressions: Impressions = Impressions(engine)

    def with_options(
        self, *, timeout: float | Timeouts = _UNSET, deadline: float | None = _UNSET, retry: RetryPolicy | None = None
    ) -> Self:
        """A light view of this client with other limits; connections, queue, retry budget and cache are the same.

        What is left out stays as it is. Closing a view closes the client, and the reverse.

        :param timeout: `Timeouts` of one attempt, in seconds; a plain number sets the attempt's.
        :param deadline: seconds for one call (in a walk: one page), above 0; or None.
        :param retry: how often and how patiently a call is tried again.
        :raises ConfigurationError: as the constructor does.
        """
        limits = self._engine.limits
        if timeout is not _UNSET:
            limits = evolve(limits, timeouts=timeouts_from(timeout))
        if deadline is not _UNSET:
            limits = evolve(limits, deadline=deadline)
        if retry is not None:
            limits = evolve(limits, retry=retry)
        view = object.__new__(type(self))  # without __init__: that of a subclass may take anything
        vars(view).update(vars(self))
        view._wire(evolve(self._engine, limits=limits))  # our own
        return view

    async def close(self) -> None:
        """Close the client: what is in flight ends with `ClientStateError` and is waited for. Twice is fine."""
        await self._engine.core.close()

    async def __aenter__(self) -> Self:
        if self._engine.core.closed:
            raise ClientStateError("the client is closed: make a new one")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        """The base URLs; never a key."""
        engine = getattr(self, "_engine", None)  # a traceback's locals may show us half made
        urls = engine.core.settings.base_urls if engine else dict.fromkeys(BASE_URLS, "?")
        return f"<DistinctClient distinct={urls['distinct']!r} vantio={urls['vantio']!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a DistinctClient is not pickled: make one in each process, with its key from the environment")
