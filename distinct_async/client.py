"""The client: connects the modules below, and owns what is closed."""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self, Union

from attrs import evolve

from distinct_async.config import (
    CallOptions,
    Key,
    RateLimit,
    Settings,
    Timeouts,
    Unset,
    base_urls_from,
    keys_from,
    proxies_from,
    timeouts_from,
)
from distinct_async.core import Core
from distinct_async.endpoints.impressions import Impressions
from distinct_async.endpoints.metrics import Metrics
from distinct_async.engine import Engine, Observer
from distinct_async.errors import ClientStateError, ConfigurationError
from distinct_async.sansio.messages import AttemptCallback
from distinct_async.sansio.retry import RetryPolicy, invalid
from distinct_async.vendors import VENDORS, Vendor

if TYPE_CHECKING:
    import aiohttp


class DistinctClient:
    """Touchpoint metrics (Distinct) and impressions (Vantio), over one connection pool.

    Making one needs no running event loop and opens nothing. Use it as ``async with``, or `close` it at the end; one
    client serves any number of tasks of one event loop.

    Args:
        api_key: Your Distinct admin key; else the variable ``DISTINCT_API_KEY``. Needed at the first call to Distinct.
        vantio_api_key: Your Vantio key; else ``VANTIO_API_KEY``. Needed at the first call to Vantio, for impressions.
        base_url: URL of Distinct; else ``DISTINCT_BASE_URL``, else ``https://api.distinct.so``.
        vantio_base_url: URL of Vantio; else ``VANTIO_BASE_URL``, else ``https://vantio.app``.
        timeout: `Timeouts` of one attempt; a plain number limits the attempt, in seconds.
        deadline: Seconds for one call (in a walk: one page), attempts and waits together, more than 0; None for no
            limit. Time in the queue for a slot or for the rate does not count.
        retry: How often a call is tried, and how long it waits in between.
        max_concurrency: Requests in flight per vendor, 1 or more; further calls queue.
        rate_limit: Requests per second per vendor, more than 0; None for no limit. Or a limiter of your own, for both
            vendors: an async context manager that each attempt enters, and leaves when its response is complete. It
            must allow to be entered many times at once. Waiting for it is never a timeout.
        impression_cache: Impressions kept in memory, 0 or more; 0 turns the cache off.
        max_body: Bytes of one response, decompressed, 1 or more.
        allow_http: Send keys over plain http to other hosts than loopback, for example within docker-compose.
        session: An open ``aiohttp.ClientSession``, which you close yourself, or a function that makes one; it is called
            inside the event loop, and the client closes what it returns.
        trace_configs: aiohttp's hooks, for example for OpenTelemetry; not together with `session`.
        trust_env: Use the proxies of the environment (``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY``, ``NO_PROXY``);
            not with a session of your own.
        on_attempt: Called with an `Attempt` after each attempt of each call, in the task that made the call, for
            metrics and traces. It must not block. Its first exception is logged; exceptions end nothing.

    Raises:
        ConfigurationError: For invalid settings, at once; no key is shown.

    Attributes:
        metrics: Touchpoint scanner metrics (Distinct).
        impressions: Impressions (Vantio, a second service with its own key).
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
        rate_limit: RateLimit = None,
        impression_cache: int = 1024,
        max_body: int = 32 * 2**20,
        allow_http: bool = False,
        session: Union["aiohttp.ClientSession", Callable[[], "aiohttp.ClientSession"], None] = None,
        trace_configs: Sequence["aiohttp.TraceConfig"] = (),
        trust_env: bool = False,
        on_attempt: AttemptCallback | None = None,
    ) -> None:
        # The plain keys leave this frame first: a traceback rendered with its locals must not show them.
        given_keys: dict[Vendor, Key | None] = {"distinct": Key.of(api_key), "vantio": Key.of(vantio_api_key)}
        del api_key, vantio_api_key
        if session is not None and trace_configs:
            raise invalid("trace_configs", "cannot be combined with session=...; set them on your own ClientSession")
        base_urls = base_urls_from({"distinct": base_url, "vantio": vantio_base_url}, allow_http=allow_http)
        settings = Settings(
            keys=keys_from(given_keys),
            base_urls=base_urls,
            proxies=proxies_from(base_urls, trust_env=trust_env),
            session=session,
            trace_configs=tuple(trace_configs),
            max_concurrency=max_concurrency,
            rate_limit=rate_limit,
            impression_cache=impression_cache,
            max_body=max_body,
        )
        options = CallOptions(timeouts_from(timeout), deadline, retry)
        self._set_engine(Engine(Core(settings), options, Observer.of(on_attempt)))

    def _set_engine(self, engine: Engine) -> None:
        self._engine = engine
        self.metrics: Metrics = Metrics(engine)
        self.impressions: Impressions = Impressions(engine)

    @property
    def timeouts(self) -> Timeouts:
        """The time limits of one attempt."""
        return self._engine.options.timeouts

    @property
    def deadline(self) -> float | None:
        """Seconds for one call; None for no limit."""
        return self._engine.options.deadline

    @property
    def retry(self) -> RetryPolicy:
        """How often a call is tried, and how long it waits in between."""
        return self._engine.options.retry

    @property
    def base_urls(self) -> Mapping[Vendor, str]:
        """The URL of each vendor, without a trailing slash."""
        return dict(self._engine.core.settings.base_urls)

    def require(self, *vendors: Vendor) -> None:
        """Check that there is a key for each of these vendors, instead of at the first call.

        Args:
            *vendors: ``"distinct"``, ``"vantio"`` or both.

        Raises:
            ConfigurationError: For a missing key, with the variable that sets it; for an unknown vendor.
        """
        for vendor in vendors:
            if vendor not in VENDORS:
                vendor_names = " and ".join(map(repr, VENDORS))
                raise ConfigurationError(
                    f"require takes vendors, which are {vendor_names}, got {vendor!r}", setting="require"
                )
            self._engine.core.settings.key(vendor)

    def with_options(
        self,
        *,
        timeout: float | Timeouts | Unset = Unset.UNSET,
        deadline: float | Unset | None = Unset.UNSET,
        retry: RetryPolicy | Unset = Unset.UNSET,
        on_attempt: AttemptCallback | Unset | None = Unset.UNSET,
    ) -> Self:
        """Return a light view of this client with other limits for its calls, or another `on_attempt`.

        What is not given stays as it is. Connections, queue, retry budget and cache are shared. Closing a view closes
        the client, and the reverse.

        Args:
            timeout: `Timeouts` of one attempt; a plain number limits the attempt, in seconds.
            deadline: Seconds for one call (in a walk: one page), more than 0; None for no limit.
            retry: How often a call is tried, and how long it waits in between.
            on_attempt: Called with an `Attempt` after each attempt; None for nothing.

        Raises:
            ConfigurationError: For invalid values, as from the constructor.
        """
        options, observer = self._engine.options, self._engine.observer
        if timeout is not Unset.UNSET:
            options = evolve(options, timeouts=timeouts_from(timeout))
        if deadline is not Unset.UNSET:
            options = evolve(options, deadline=deadline)
        if retry is not Unset.UNSET:
            options = evolve(options, retry=retry)
        if on_attempt is not Unset.UNSET:
            observer = Observer.of(on_attempt)
        view = object.__new__(type(self))  # without __init__: that of a subclass may take anything
        vars(view).update(vars(self))
        view._set_engine(evolve(self._engine, options=options, observer=observer))  # one of our own
        return view

    async def close(self) -> None:
        """Close the client: calls in flight end with `ClientStateError` and are awaited. Calling it twice is fine."""
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
        """Return the base URLs; never a key."""
        engine = getattr(self, "_engine", None)  # a traceback's locals may show us half made
        urls = engine.core.settings.base_urls if engine else dict.fromkeys(VENDORS, "?")
        return f"<DistinctClient distinct={urls['distinct']!r} vantio={urls['vantio']!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a DistinctClient cannot be pickled; create one in each process, with its key from the environment"
        )
