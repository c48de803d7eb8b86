"""The settings, validated when a client is made; the only module that reads the environment."""

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum
from html import unescape
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Union
from urllib.parse import SplitResult, unquote, urlsplit

from attrs import Attribute, field, frozen, validators

from distinct_async.errors import ConfigurationError
from distinct_async.sansio.retry import RetryPolicy, instance_of, invalid, number
from distinct_async.vendors import VENDORS, Vendor

if TYPE_CHECKING:
    import aiohttp

_SECRET_LENGTH = 6  # shorter keys ("key", "test") are not blanked: that would garble words and hide nothing

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.ASCII)
_PRINTABLE_ASCII = re.compile(r"[!-~]+", re.ASCII)
_NO_PROXY = re.compile(r"(?P<host>\[[^\]]*\]|[^:]+)(?::(?P<port>\d{1,5}))?", re.ASCII)  # not an IPv6 address without []

RateLimit = float | AbstractAsyncContextManager[object, bool | None] | None

SessionSource = Union["aiohttp.ClientSession", Callable[[], "aiohttp.ClientSession"], None]


class Unset(Enum):
    """The default of an argument for which None means something."""

    UNSET = "not given"

    def __repr__(self) -> str:
        return "<not given>"


@frozen
class Timeouts:
    """The time limits of one attempt.

    Attributes:
        connect: Seconds to open a connection, TLS included, more than 0. Waiting for a free slot does not count.
        attempt: Seconds for the whole attempt, from opening the connection to the last byte of the body, more than 0.

    Raises:
        ConfigurationError: For anything but positive finite numbers.
    """

    connect: float = field(default=5.0, validator=number(above=0, unit="seconds"))
    attempt: float = field(default=30.0, validator=number(above=0, unit="seconds"))


@frozen(eq=False)
class Key:
    """An API key that no repr, format or rendered local shows."""

    value: str = field(repr=False)

    @classmethod
    def of(cls, value: str | None) -> "Key | None":
        """Return the key, or None if there is none; an empty one counts as none."""
        # A server that trims header values echoes the key without its spaces
        if value is None or value == "":
            return None
        return cls(str.__str__(value).strip(" ") if issubclass(type(value), str) else value)

    @property
    def problem(self) -> str | None:
        """Why this cannot be sent in a header, without showing it."""
        if type(self.value) is not str:
            return f"must be a str, got {type(self.value).__name__}"
        if not self.value.strip():
            return "is blank"
        if any(ord(char) < 0x20 or ord(char) == 0x7F for char in self.value):
            return "contains a line break or another control character (does it come from a file, with its newline?)"
        if not self.value.isascii():
            return "contains a letter outside ASCII"
        return None

    def __getstate__(self) -> object:
        """Refuse to be pickled."""
        raise TypeError("an API key cannot be pickled")


def _check_session(_: object, __: object, value: SessionSource) -> None:
    """Refuse what is neither a ClientSession nor makes one, without importing aiohttp for it."""
    session_class: Any = getattr(sys.modules.get("aiohttp"), "ClientSession", ())
    if not (value is None or callable(value) or isinstance(value, session_class)):
        problem = f"must be an aiohttp.ClientSession or a function that makes one, got {type(value).__name__}"
        raise invalid("session", problem)


_check_rate = number(above=0, unit="requests per second")


def _check_rate_limit(settings: object, attribute: "Attribute[Any]", value: RateLimit) -> None:
    """Refuse what is neither a number nor a limiter."""
    if value is not None and not isinstance(value, AbstractAsyncContextManager):
        _check_rate(settings, attribute, value)


@frozen(eq=False)
class Settings:
    """All settings of one client, validated."""

    keys: Mapping[Vendor, Key]
    base_urls: Mapping[Vendor, str]
    proxies: Mapping[Vendor, str | None] = field(repr=False)  # may hold the proxy's password
    session: SessionSource = field(validator=_check_session)
    trace_configs: Sequence["aiohttp.TraceConfig"]
    max_concurrency: int = field(validator=number(least=1))
    rate_limit: RateLimit = field(validator=_check_rate_limit)
    impression_cache: int = field(validator=number(least=0))
    max_body: int = field(validator=number(least=1, unit="bytes"))

    def key(self, vendor: Vendor) -> Key:
        """Return the vendor's key.

        Raises:
            ConfigurationError: If there is none; it names the variable that sets it.
        """
        if (key := self.keys.get(vendor)) is None:
            argument, variable = VENDORS[vendor].key_argument, VENDORS[vendor].key_variable
            error = ConfigurationError(f"no API key for {vendor}", vendor=vendor, setting=argument, variable=variable)
            error.problem = "is not set"
            error.remedy = f"pass {argument}=... to DistinctClient, or set the environment variable {variable}"
            raise error
        return key

    def blank(self, text: str) -> str:
        """Return `text` without our keys, in case a response has echoed one, plain or escaped."""
        for key in self.keys.values():
            if len(key.value) >= _SECRET_LENGTH:
                text = text.replace(key.value, "***")
                if key.value in _unescape(text):
                    return "***"  # which characters are the key cannot be said any more
        return text


_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)


def _unescape(text: str) -> str:
    """Return `text` with JSON, percent and HTML escapes undone, also if one is within another."""
    for _ in range(3):
        previous = text
        if "\\" in text:
            text = _ESCAPE.sub(lambda each: chr(int(each[1] or each[2], 16)) if each[3] is None else each[3], text)
        if "%" in text:
            text = unquote(text)
        if "&" in text:
            text = unescape(text)
        if text == previous:
            break
    return text


@frozen(cache_hash=True)
class CallOptions:
    """What `with_options` can change: the time limits and the retries of each call."""

    timeouts: Timeouts
    deadline: float | None = field(validator=validators.optional(number(above=0, unit="seconds")))
    retry: RetryPolicy = field(validator=instance_of(RetryPolicy))


def timeouts_from(timeout: "float | Timeouts") -> Timeouts:
    """Return `Timeouts`; a plain number limits the attempt."""
    if isinstance(timeout, Timeouts):
        return timeout
    try:
        return Timeouts(attempt=timeout)
    except ConfigurationError as error:
        problem = error.problem
    raise invalid("timeout", problem)


def keys_from(arguments: Mapping[Vendor, Key | None]) -> dict[Vendor, Key]:
    """Return the keys given, else those of the environment; empty ones count as unset."""
    keys = {}
    for name, vendor in VENDORS.items():
        key = arguments.get(name) or Key.of(os.environ.get(vendor.key_variable))
        if key is None:
            continue
        if problem := key.problem:
            setting, variable = vendor.key_argument, vendor.key_variable
            raise invalid(f"the {name} API key", problem, vendor=name, setting=setting, variable=variable)
        keys[name] = key
    return keys


def base_urls_from(arguments: Mapping[Vendor, str | None], *, allow_http: bool) -> dict[Vendor, str]:
    """Return the base URLs given, else those of the environment, else the vendors' own; without a trailing slash."""
    urls = {}
    for name, vendor in VENDORS.items():
        url = arguments.get(name) or os.environ.get(vendor.url_variable) or vendor.base_url
        problem, remedy = _url_problem(url, allow_http=allow_http)
        if problem:
            source = vendor.url_argument if arguments.get(name) else vendor.url_variable
            fields = {"remedy": remedy, "remedy_option": "allow_http"} if remedy else {}
            setting, variable = vendor.url_argument, vendor.url_variable
            raise invalid(source, problem, vendor=name, setting=setting, variable=variable, **fields)
        urls[name] = url.rstrip("/").removesuffix(vendor.path_prefix)
    return urls


def _url_problem(url: object, *, allow_http: bool) -> tuple[str, str]:
    """Return why this is no base URL, and what to do. User info is not repeated: it is a secret."""
    if not isinstance(url, str):
        return f"must be a str, got {type(url).__name__}", ""
    if "@" in url:
        return "must not contain user:password@, because the API key is sent in a header", ""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # raises where it is no number
    except ValueError as error:
        return f"is not a URL: {error}", ""
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return "must be like https://host", ""  # and is not repeated: it may hold a secret in the wrong place
    if not url.isascii():
        # Not encoded here: IDNA's versions differ in which host a name means, and the key must go to the right one
        return "contains a letter outside ASCII; write a host name as xn--..., and percent-encode a path", ""
    if parts.query or parts.fragment or "?" in url or "#" in url:
        return "must not contain a query string or a fragment", ""
    if not url.isprintable() or " " in url or "\\" in url:
        return "contains a space, a backslash or a control character", ""
    if parts.scheme == "http" and not allow_http and not _is_loopback(parts.hostname.removesuffix(".")):
        problem = f"is plain http to {parts.hostname}: the API key would be sent unencrypted"
        return problem, "use https, or pass allow_http=True"
    return "", ""


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return address.is_loopback if address else host == "localhost" or host.endswith(".localhost")  # RFC 6761


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that `host` is, with IPv4 in IPv6 unwrapped; None for a name."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address


def proxies_from(base_urls: Mapping[Vendor, str], *, trust_env: bool) -> dict[Vendor, str | None]:
    """Return the proxy of each vendor, by the environment's usual variables; none unless `trust_env`.

    Read here rather than by aiohttp's own ``trust_env``, which would read ``~/.netrc`` too: a login from there beside
    Vantio's bearer token is refused by aiohttp, and is nobody's business.
    """
    if not trust_env:
        return dict.fromkeys(base_urls)
    from urllib.request import getproxies  # noqa: PLC0415  # drags in http.client

    proxies: dict[Vendor, str | None] = {}
    for vendor, url in base_urls.items():
        proxy = _find_proxy(urlsplit(url), getproxies())
        if isinstance(proxy, ConfigurationError):
            proxies.clear()  # a traceback that is rendered with its locals must not show a password
            raise proxy
        proxies[vendor] = proxy
    return proxies


def _find_proxy(url: SplitResult, proxies: Mapping[str, str]) -> str | ConfigurationError | None:
    """Return the proxy for a base URL; None for loopback, which no proxy can reach, and for what ``NO_PROXY`` exempts.

    An error is returned, not raised: its traceback would hold the proxy's password.
    """
    name = url.scheme if url.scheme in proxies else "all"
    host = (url.hostname or "").removesuffix(".")
    if name not in proxies or _is_loopback(host) or _is_exempt(host, url.port, url.scheme, proxies.get("no", "")):
        return None
    proxy = proxies[name] if "://" in proxies[name] else f"http://{proxies[name]}"  # as curl reads it
    scheme = proxy.partition("://")[0].lower()
    if _SCHEME.fullmatch(scheme) and scheme not in {"http", "https"}:
        problem = f"is a {scheme} proxy; only http and https proxies are supported"
    elif _is_http_url(proxy):
        return proxy
    else:
        problem = "is not a proxy URL like http://host:port"  # and is not repeated: it may hold a password
    variable = f"{name}_proxy".upper()
    return invalid(variable, problem, setting="trust_env", variable=variable)


def _is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(
            parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and _PRINTABLE_ASCII.fullmatch(url)
        )
    except ValueError:
        return False


def _is_exempt(host: str, port: int | None, scheme: str, no_proxy: str) -> bool:
    """Return whether ``NO_PROXY`` lists the host: ``*``, a name, a domain, an address or a network; with a port."""
    address = _address(host)
    for entry in re.split(r"[,\s]+", no_proxy.lower()):
        match = _NO_PROXY.fullmatch(entry)
        name, entry_port = (match["host"].strip("[]"), match["port"]) if match else (entry, None)
        if entry_port and int(entry_port) != (port or {"http": 80, "https": 443}[scheme]):
            continue
        try:
            if address and address in ip_network(name, strict=False):
                return True
        except ValueError:
            pass
        domain = name.removeprefix("*").strip(".")
        if name == "*" or (domain and f".{host}".endswith(f".{domain}")):
            return True
    return False
