"""Settings: refused when they cannot be meant, at once, and without showing a secret."""

from __future__ import annotations

import math
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from distinct_async import DistinctClient, RetryPolicy, Timeouts
from distinct_async.config import Key, base_urls_from, keys_from, proxies_from
from distinct_async.errors import ConfigurationError, TransportError
from distinct_async.vendors import VENDORS

from .rig import KEY, VANTIO_KEY, served
from .wire.server import FaultServer

SECRET = "s3cret-of-mine"  # noqa: S105 - of nobody


def refused(make: Callable[..., object], **settings: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        make(**settings)
    return caught.value


def shown(error: BaseException) -> str:
    """Text, repr, pickle, and the traceback with the locals of all frames but the test's own."""
    trace = traceback.TracebackException.from_exception(error, capture_locals=True)
    for frame in trace.stack:
        if frame.filename == __file__:
            assert frame.locals is not None
            frame.locals.clear()
    assert None is error.__context__
    return f"{error} {error!r} {pickle.dumps(error)!r} {''.join(trace.format())}"


# -- keys

BAD_KEYS = [
    f"{SECRET}\n",
    f"{SECRET}\r\n",
    f"{SECRET}\r",
    f"{SECRET}\0",
    f"{SECRET}\x7f",
    f"{SECRET}\t",
    f"{SECRET}\x1b",
    f"{SECRET}\nX-Other: 1",
    f"{SECRET}€",
    f"{SECRET}é",
    f"{SECRET}\u2028",
    f"{SECRET}\ud800",
    f"\ufeff{SECRET}",
]
BOTH_KEYS = pytest.mark.parametrize(
    ("argument", "variable"), [("api_key", "DISTINCT_API_KEY"), ("vantio_api_key", "VANTIO_API_KEY")]
)


@BOTH_KEYS
@pytest.mark.parametrize("key", BAD_KEYS, ids=ascii)
def test_a_key_that_cannot_stand_in_a_header_is_refused_and_not_shown(argument: str, variable: str, key: str) -> None:
    arguments: dict[str, Any] = {argument: key}
    error = refused(DistinctClient, **arguments)
    assert SECRET not in shown(error)
    assert variable.partition("_")[0].lower() == error.vendor


@BOTH_KEYS
@pytest.mark.parametrize("key", [key for key in BAD_KEYS if "\0" not in key and "\ud800" not in key], ids=ascii)
def test_a_bad_key_of_the_environment_is_refused_and_not_shown(
    argument: str, variable: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, key)
    assert SECRET not in shown(refused(DistinctClient))
    DistinctClient(**{argument: KEY})  # type: ignore[arg-type]


@BOTH_KEYS
@pytest.mark.parametrize("key", [5, SECRET.encode(), [SECRET], {"key": SECRET}], ids=lambda key: type(key).__name__)
def test_a_key_that_is_no_text_is_refused_and_not_shown(argument: str, variable: str, key: Any) -> None:
    arguments: dict[str, Any] = {argument: key}
    error = refused(DistinctClient, **arguments)
    assert SECRET not in shown(error)
    assert "must be a str" in str(error)
    assert variable.partition("_")[0].lower() == error.vendor


@BOTH_KEYS
def test_a_bad_setting_beside_a_good_key_does_not_show_it(argument: str, variable: str) -> None:
    arguments: dict[str, Any] = {argument: SECRET}
    for wrong in ({"base_url": "ftp://x"}, {"timeout": 0}, {"max_concurrency": 0}, {"retry": None}, {"deadline": "a"}):
        assert SECRET not in shown(refused(DistinctClient, **arguments, **wrong)), variable


@BOTH_KEYS
async def test_a_missing_key_is_named_with_its_variable_when_its_vendor_is_first_used(
    argument: str, variable: str
) -> None:
    async with FaultServer() as server:
        other = {"api_key": "vantio_api_key", "vantio_api_key": "api_key"}[argument]
        urls = {"base_url": server.url, "vantio_base_url": server.url}
        async with DistinctClient(**{other: KEY}, **urls) as client:  # type: ignore[arg-type]
            calls = [client.metrics.experience("exp-1"), client.impressions.get("imp_123abc")]
            missing, there = calls if argument == "api_key" else calls[::-1]
            with pytest.raises(ConfigurationError, match=variable) as caught:
                await missing
            assert (variable.partition("_")[0].lower(), 0) == (caught.value.vendor, server.connections)
            assert f"{argument}=" in str(caught.value)
            await there


@BOTH_KEYS
async def test_a_key_is_taken_from_the_environment_where_none_is_given(
    argument: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "key-of-the-environment")
    vendor = "distinct" if argument == "api_key" else "vantio"
    for given, sent in ((None, "key-of-the-environment"), ("", "key-of-the-environment"), ("mine", "mine")):
        client = DistinctClient(**{argument: given})  # type: ignore[arg-type]
        assert sent == client._engine.core.settings.key(vendor).value  # type: ignore[arg-type]


@BOTH_KEYS
async def test_an_empty_variable_is_no_key(argument: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "")
    with pytest.raises(ConfigurationError, match=variable):
        DistinctClient()._engine.core.settings.key("distinct" if argument == "api_key" else "vantio")


async def test_the_environment_is_read_when_the_client_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    client = DistinctClient()
    monkeypatch.setenv("DISTINCT_API_KEY", KEY)
    with pytest.raises(ConfigurationError):
        await client.metrics.experience("exp-1")


def test_a_key_is_in_no_repr_and_no_pickle() -> None:
    client = DistinctClient(SECRET, vantio_api_key=SECRET)
    core = client._engine.core
    for value in (
        client,
        client.metrics,
        client.impressions,
        core.settings,
        Key(SECRET),
        client.metrics.total_visits("tp-1"),
    ):
        assert SECRET not in f"{value!r} {value}"
        with pytest.raises(TypeError):
            pickle.dumps(value)
    assert {} == keys_from({})


# -- base URLs

BAD_URLS = [
    "ftp://api.distinct.so",
    "api.distinct.so",
    "//api.distinct.so",
    "https:",
    "https://",
    "https:///v3",
    "https:api.distinct.so",
    " ",
    "https://api.distinct.so?a=b",
    "https://api.distinct.so/?",
    "https://api.distinct.so#a",
    "https://api.distinct.so/#",
    "https://api.distinct.so/a b",
    " https://api.distinct.so",
    "https://api.distinct.so\n",
    "https://api.distinct.so\r\nX: y",
    "https://api.distinct.so\\a",
    "https://api.distinct.so/\x7f",
    "https://[::1",
    "https://api.distinct.so:port",
    "https://api.distinct.so:65536",
    "https://api.distinct.so:-1",
    "http://api.distinct.so",
    "http://192.0.2.1",
    "http://10.0.0.1:8080",
    "http://0.0.0.0",
    "http://localhost.example.com",
    "http://127.0.0.1.example.com",
    "http://[2001:db8::1]",
]
SECRET_URLS = [
    f"https://user:{SECRET}@api.distinct.so",
    f"https://{SECRET}@api.distinct.so",
    f"http://user:{SECRET}@localhost",
    f"ftp://user:{SECRET}@api.distinct.so",
    f"user:{SECRET}@api.distinct.so",
    f"https://user:{SECRET}/more@api.distinct.so",
    f"https://api.distinct.so?key={SECRET}",
    f"ftp://api.distinct.so?key={SECRET}",
    f"https://api.distinct.so#{SECRET}",
    f"https:///?key={SECRET}",
]
BOTH_URLS = pytest.mark.parametrize(
    ("argument", "variable"), [("base_url", "DISTINCT_BASE_URL"), ("vantio_base_url", "VANTIO_BASE_URL")]
)


@BOTH_URLS
def test_a_base_url_that_cannot_be_one_is_refused(
    argument: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in BAD_URLS:
        given: dict[str, Any] = {argument: url}
        assert str(refused(DistinctClient, **given)).startswith(f"{argument} "), url
        with monkeypatch.context() as environment:
            environment.setenv(variable, url)
            assert str(refused(DistinctClient)).startswith(f"{variable} "), url
    for value in (5, b"https://api.distinct.so", ["https://api.distinct.so"]):
        given = {argument: value}
        assert "must be a str" in str(refused(DistinctClient, **given))


@BOTH_URLS
@pytest.mark.parametrize("url", SECRET_URLS, ids=[url.replace(SECRET, "S") for url in SECRET_URLS])
def test_a_secret_in_a_base_url_is_refused_and_not_repeated(argument: str, variable: str, url: str) -> None:
    given: dict[str, Any] = {argument: url}
    error = refused(DistinctClient, **given)
    assert SECRET not in f"{error} {error!r} {pickle.dumps(error)!r}"
    assert variable.partition("_")[0].lower() == error.vendor


GOOD_URLS = {
    "https://api.distinct.so": "https://api.distinct.so",
    "https://api.distinct.so/": "https://api.distinct.so",
    "https://api.distinct.so///": "https://api.distinct.so",
    "https://api.distinct.so:8443/gateway/": "https://api.distinct.so:8443/gateway",
    "http://localhost:3000": "http://localhost:3000",
    "http://LOCALHOST:3000/": "http://LOCALHOST:3000",
    "http://vendors.localhost": "http://vendors.localhost",
    "http://127.0.0.1:1": "http://127.0.0.1:1",
    "http://127.8.9.1": "http://127.8.9.1",
    "http://[::1]:80/": "http://[::1]:80",
}


@BOTH_URLS
def test_a_base_url_loses_its_last_slash_and_nothing_else(
    argument: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor: Any = variable.partition("_")[0].lower()
    for url, kept in GOOD_URLS.items():
        given: dict[str, Any] = {argument: url}
        assert kept == DistinctClient(**given)._engine.core.settings.base_urls[vendor]
        monkeypatch.setenv(variable, url)
        assert kept == DistinctClient()._engine.core.settings.base_urls[vendor]
        given = {argument: VENDORS[vendor].base_url}
        assert VENDORS[vendor].base_url == DistinctClient(**given)._engine.core.settings.base_urls[vendor], (
            "it comes first"
        )


def test_an_empty_variable_is_no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTINCT_BASE_URL", "")
    monkeypatch.setenv("VANTIO_BASE_URL", "")
    assert {"distinct": "https://api.distinct.so", "vantio": "https://vantio.app"} == base_urls_from(
        {}, allow_http=False
    )
    assert {name: each.base_url for name, each in VENDORS.items()} == DistinctClient(
        base_url="", vantio_base_url=""
    )._engine.core.settings.base_urls


@BOTH_URLS
def test_plain_http_needs_to_be_allowed_and_the_reason_is_reported(argument: str, variable: str) -> None:
    given: dict[str, Any] = {argument: "http://vendors.internal:8080"}
    error = refused(DistinctClient, **given)
    assert "allow_http" in str(error)
    assert "vendors.internal" in str(error)
    client = DistinctClient(**given, allow_http=True)
    vendor: Any = variable.partition("_")[0].lower()
    assert "http://vendors.internal:8080" == client._engine.core.settings.base_urls[vendor]


@pytest.mark.parametrize(
    "host", ["a..b", "a" * 64, "a." * 150 + "b", "\u3002", ".a", "-", "xn--", "a_b", "h;x"], ids=lambda host: host[:9]
)
async def test_a_host_that_cannot_be_one_ends_in_an_error_of_ours(host: str) -> None:
    with pytest.raises((ConfigurationError, TransportError)):
        async with DistinctClient(KEY, base_url=f"https://{host}.invalid", retry=RetryPolicy(1), timeout=2) as client:
            await client.metrics.experience("exp-1")


@BOTH_URLS
@pytest.mark.parametrize(
    "url",
    [
        "https://b\u00fccher.example",
        "https://stra\u00dfe.example",
        "https://distinct\u3002so",
        "https://\uff41pi.distinct.so",
        "https://\u0430pi.distinct.so",
        "https://api.distinct.so/gateway-\u00fc",
    ],
    ids=ascii,
)
def test_a_letter_outside_ascii_in_a_base_url_is_refused_with_its_reason(
    argument: str, variable: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {argument: url}
    assert str(refused(DistinctClient, **given)).startswith(f"{argument} ")
    monkeypatch.setenv(variable, url)
    assert str(refused(DistinctClient)).startswith(f"{variable} ")
    given = {argument: "https://xn--bcher-kva.example"}
    DistinctClient(**given)


def test_the_reason_says_how_to_write_it() -> None:
    assert "write a host name as xn--" in str(refused(DistinctClient, base_url="https://b\u00fccher.example"))


# -- proxies

PROXY = "http://proxy.internal:3128"


def proxy_of(url: str, **variables: str) -> str | None:
    with pytest.MonkeyPatch.context() as environment:
        for name, value in variables.items():
            environment.setenv(name, value)
        return proxies_from({"distinct": url}, trust_env=True)["distinct"]


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST:8080", "localhost.", "a.localhost", "a.b.localhost.", "127.0.0.1", "127.8.9.1:80"),
        *("[::1]", "[::1]:8080", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
    ],
)
def test_loopback_has_no_proxy(host: str, variable: str) -> None:
    assert None is proxy_of(f"http://{host}", **{variable: PROXY})
    assert None is proxy_of(f"https://{host}", **{variable: PROXY, "HTTPS_PROXY": PROXY})


@pytest.mark.parametrize(
    "host", ["localhost.example.com", "notlocalhost", "10.0.0.1", "[2001:db8::1]", "127.0.0.1.a.so"]
)
def test_other_hosts_have_one(host: str) -> None:
    assert PROXY == proxy_of(f"https://{host}", HTTPS_PROXY=PROXY)


def test_the_proxy_is_that_of_the_scheme_else_the_one_for_all() -> None:
    own, other = {"HTTPS_PROXY": PROXY}, {"HTTP_PROXY": "http://other"}
    for_all = {"ALL_PROXY": "http://all:1"}
    seen = [proxy_of("https://a.so", **each) for each in (own | other | for_all, other | for_all, other, for_all, {})]
    assert [PROXY, "http://all:1", None, "http://all:1", None] == seen
    assert {"distinct": None} == proxies_from({"distinct": "https://a.so"}, trust_env=False)


@pytest.mark.parametrize(
    ("url", "no_proxy", "exempt"),
    [
        ("https://api.distinct.so", "*", True),
        ("https://api.distinct.so", "other.so, *", True),
        ("https://api.distinct.so", "api.distinct.so", True),
        ("https://api.distinct.so", "API.Distinct.SO", True),
        ("https://api.distinct.so.", "api.distinct.so", True),
        ("https://api.distinct.so", "distinct.so", True),
        ("https://api.distinct.so", ".distinct.so", True),
        ("https://distinct.so", ".distinct.so", True),
        ("https://api.distinct.so", "*.distinct.so", True),
        ("https://api.distinct.so", "a.so b.so distinct.so", True),
        ("https://api.distinct.so", "tinct.so", False),
        ("https://api.distinct.so", "api.distinct.so.com,so.", True),
        ("https://api.distinct.so", "distinct.so:443", True),
        ("https://api.distinct.so:8443", "distinct.so:8443", True),
        ("https://api.distinct.so", "distinct.so:8443", False),
        ("http://api.distinct.so", "distinct.so:80", True),
        ("http://api.distinct.so", "distinct.so:443", False),
        ("https://api.distinct.so", "", False),
        ("https://api.distinct.so", ", ,.,:", False),
        ("https://api.distinct.so", "10.0.0.0/8", False),
        ("https://10.1.2.3", "10.1.2.3", True),
        ("https://10.1.2.3", "10.0.0.0/8", True),
        ("https://10.1.2.3", "10.9.9.9/8", True),
        ("https://10.1.2.3", "192.168.0.0/16,10.1.0.0/16", True),
        ("https://10.1.2.3", "10.2.0.0/16", False),
        ("https://10.1.2.3:8443", "10.1.2.3:8443", True),
        ("https://10.1.2.3:8443", "10.1.2.3:443", False),
        ("https://10.1.2.3", "10.0.0.0/99", False),
        ("https://[2001:db8::1]", "2001:db8::1", True),
        ("https://[2001:db8::1]", "2001:DB8:0:0::1", True),
        ("https://[2001:db8::1]", "[2001:db8::1]", True),
        ("https://[2001:db8::1]:8443", "[2001:db8::1]:8443", True),
        ("https://[2001:db8::1]:8443", "[2001:db8::1]:443", False),
        ("https://[2001:db8::1]", "2001:db8::/32", True),
        ("https://[2001:db8::1]", "fd00::/8, 2001:db8::2", False),
        ("https://[::ffff:10.1.2.3]", "10.0.0.0/8", True),
        ("https://[2001:db8::1]", "10.0.0.0/8", False),
    ],
)
def test_no_proxy_lists_names_addresses_networks_and_ports(url: str, no_proxy: str, exempt: bool) -> None:  # noqa: FBT001
    given = {"HTTPS_PROXY": PROXY, "HTTP_PROXY": PROXY}
    assert (None if exempt else PROXY) == proxy_of(url, **given, NO_PROXY=no_proxy)
    assert (None if exempt else PROXY) == proxy_of(url, **given, no_proxy=no_proxy)


def test_plain_http_through_a_proxy_needs_to_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    assert "allow_http" == refused(DistinctClient, base_url="http://a.so", trust_env=True).remedy_option
    DistinctClient(base_url="http://a.so", trust_env=True, allow_http=True)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["socks5", "SOCKS5", "socks5h", "socks4", "ftp", "ws", "h2"])
def test_a_proxy_of_another_scheme_is_refused_by_name(
    variable: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, f"{scheme}://me:{SECRET}@proxy.internal:1080")
    error = refused(DistinctClient, trust_env=True)
    assert f"{variable} is a {scheme.lower()} proxy; only http and https proxies are supported" == str(error)
    assert (variable, "trust_env") == (error.variable, error.setting)
    assert SECRET not in shown(error)
    DistinctClient()  # nobody asked for it
    monkeypatch.setenv("NO_PROXY", "*")
    DistinctClient(trust_env=True)


def test_a_proxy_that_is_refused_does_not_show_the_password_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{SECRET}@proxy.internal:3128")
    monkeypatch.setenv("HTTP_PROXY", "socks5://proxy.internal:1080")
    error = refused(DistinctClient, vantio_base_url="http://v.internal", allow_http=True, trust_env=True)
    assert "HTTP_PROXY" == error.variable
    assert SECRET not in shown(error)


@pytest.mark.parametrize(
    "proxy",
    [
        *(
            f"http://me:{SECRET}@",
            f"http://me:{SECRET}/@proxy:1",
            f"http://me:{SECRET}@proxy:port",
            f"{SECRET}@proxy:0",
        ),
        *(f"http://me:{SECRET}@pro xy", f"http://me:{SECRET}@pr\u00fcxy", f"http://me:{SECRET}@[::1", "http://", "://"),
        *(f"{SECRET}@://proxy", f"me:{SECRET}@proxy://", f"http://me:{SECRET}@proxy:99999", f"http://proxy\t{SECRET}"),
    ],
    ids=lambda proxy: ascii(proxy.replace(SECRET, "S")),
)
def test_what_is_no_proxy_url_is_refused_and_not_repeated(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    error = refused(DistinctClient, trust_env=True)
    assert "HTTPS_PROXY is not a proxy URL like http://host:port" == str(error)
    assert SECRET not in f"{error} {error!r} {pickle.dumps(error)!r}"


# -- what a front end needs of an error, so that it parses no message


@pytest.mark.parametrize(
    ("given", "setting", "variable", "problem"),
    [
        ({"base_url": "ftp://x"}, "base_url", "DISTINCT_BASE_URL", "must be like https://host"),
        ({"vantio_base_url": "ftp://x"}, "vantio_base_url", "VANTIO_BASE_URL", "must be like https://host"),
        ({"api_key": " "}, "api_key", "DISTINCT_API_KEY", "is blank"),
        ({"vantio_api_key": " "}, "vantio_api_key", "VANTIO_API_KEY", "is blank"),
        ({"max_concurrency": 0}, "max_concurrency", None, "must be at least 1, got 0"),
        ({"session": 5}, "session", None, "must be an aiohttp.ClientSession or a function that makes one, got int"),
        ({"retry": 5}, "retry", None, "must be a RetryPolicy, got int"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_error_of_the_settings_says_which_setting_it_is_and_what_sets_it(
    given: dict[str, Any], setting: str, variable: str | None, problem: str
) -> None:
    error = refused(DistinctClient, **given)
    assert (setting, variable, problem) == (error.setting, error.variable, error.problem)


@BOTH_KEYS
async def test_a_missing_key_says_so_in_its_fields(argument: str, variable: str) -> None:
    client = DistinctClient()
    with pytest.raises(ConfigurationError) as caught:
        await (client.metrics.experience("exp-1") if argument == "api_key" else client.impressions.get("a"))
    error = caught.value
    assert (argument, variable, "is not set") == (error.setting, error.variable, error.problem)
    assert f"pass {argument}=... to DistinctClient, or set the environment variable {variable}" == error.remedy
    assert str(error).startswith(f"no API key for {error.vendor}; {error.remedy}")


@BOTH_URLS
def test_plain_http_names_the_argument_that_allows_it(argument: str, variable: str) -> None:
    given: dict[str, Any] = {argument: "http://vendors.internal"}
    error = refused(DistinctClient, **given)
    assert (argument, variable, "allow_http") == (error.setting, error.variable, error.remedy_option)
    assert "allow_http" not in error.message
    assert "allow_http" in error.remedy


# -- numbers

NO_NUMBERS: list[Any] = ["1", None, True, [], math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("name", ["connect", "attempt"])
def test_a_timeout_is_a_number_above_0(name: str) -> None:
    for bad in [*NO_NUMBERS, 0, -1, -0.0]:
        assert name in str(refused(Timeouts, **{name: bad}))
    assert 0.001 == getattr(Timeouts(**{name: 0.001}), name)
    assert 1 == getattr(Timeouts(**{name: 1}), name)


@pytest.mark.parametrize(
    "make", [DistinctClient, lambda **given: DistinctClient().with_options(**given)], ids=["new", "view"]
)
def test_the_limits_are_held_against_nonsense(make: Callable[..., DistinctClient]) -> None:
    for bad in [*NO_NUMBERS, 0, -1]:
        refused(make, timeout=bad)
        if bad is not None:
            refused(make, deadline=bad)
    for wrong in (5, "often", {"attempts": 1}):
        refused(make, retry=wrong)
    limits = make(timeout=7, deadline=None, retry=RetryPolicy(9))._engine.options
    assert (Timeouts(5.0, 7), None, 9) == (limits.timeouts, limits.deadline, limits.retry.attempts)
    assert Timeouts(1, 2) == make(timeout=Timeouts(1, 2))._engine.options.timeouts


@pytest.mark.parametrize(("name", "least"), [("max_concurrency", 1), ("impression_cache", 0), ("max_body", 1)])
def test_a_size_is_an_int_of_at_least_its_least(name: str, least: int) -> None:
    for bad in [*NO_NUMBERS, least - 1, -5, 1.0]:
        assert name in str(refused(DistinctClient, **{name: bad}))
    assert least == getattr(DistinctClient(**{name: least})._engine.core.settings, name)  # type: ignore[arg-type]


def test_a_rate_limit_is_a_number_above_0_or_none() -> None:
    for bad in [*NO_NUMBERS, 0, -1]:
        if bad is not None:
            refused(DistinctClient, rate_limit=bad)
    assert [None, 0.1, 5] == [
        DistinctClient(rate_limit=good)._engine.core.settings.rate_limit for good in (None, 0.1, 5)
    ]


@pytest.mark.parametrize("name", ["base", "cap", "max_retry_after", "attempts"])
def test_a_policy_is_held_against_nonsense(name: str) -> None:
    for bad in [*NO_NUMBERS, -1]:
        assert name in str(refused(RetryPolicy, **{name: bad}))
    if name == "attempts":
        refused(RetryPolicy, attempts=0)


def test_an_enormous_number_is_no_crash() -> None:
    enormous: Any = 10**400
    for name in ("timeout", "deadline", "rate_limit"):
        with pytest.raises(ConfigurationError):
            DistinctClient(**{name: enormous})


@pytest.mark.parametrize("session", ["a session", 5, object()], ids=["text", "number", "object"])
async def test_what_is_no_session_is_refused(session: Any) -> None:
    with pytest.raises(ConfigurationError, match="session"):
        async with DistinctClient(KEY, session=session) as client:
            await client.metrics.experience("exp-1")


async def test_the_defaults_are_those_of_the_documentation() -> None:
    client = DistinctClient()
    settings, limits = client._engine.core.settings, client._engine.options
    assert (Timeouts(connect=5.0, attempt=30.0), 90.0) == (limits.timeouts, limits.deadline)
    assert RetryPolicy(attempts=4, base=0.5, cap=20.0, max_retry_after=60.0) == limits.retry
    assert (16, None, 1024, 32 * 2**20) == (
        settings.max_concurrency,
        settings.rate_limit,
        settings.impression_cache,
        settings.max_body,
    )
    assert VANTIO_KEY not in repr(client)
    async with served() as (made, _):
        assert repr(made) == repr(made.with_options(timeout=1))
