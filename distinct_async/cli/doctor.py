"""``distinct-async doctor``: what is set, what can be reached, whether the keys are taken, and what to do about it."""

import asyncio
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Final, Literal

from attrs import frozen

from distinct_async import DistinctClient, RetryPolicy, __version__
from distinct_async.cli import exits
from distinct_async.cli.aside import Aside
from distinct_async.cli.delivery import Delivery, Shape
from distinct_async.cli.keys import read
from distinct_async.cli.options import Common, Output
from distinct_async.config import Key, base_urls_from, keys_from
from distinct_async.errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    DecodeError,
    DistinctError,
    NotFoundError,
    PermissionDeniedError,
    TLSError,
)
from distinct_async.vendors import VENDORS, Vendor

_MADE_UP: Final = "distinct-async-doctor"  # an experience that does not exist; and a key, to knock where there is none
_SECONDS: Final = 10.0
_NAMES: Final[Mapping[Vendor, str]] = {"distinct": "DISTINCT", "vantio": "VANTIO"}
_EXTRAS: Final = {"arrow": ("pyarrow", "export to Parquet"), "duckdb": ("duckdb", "sync")}


@frozen
class Finding:
    """One thing that was looked at.

    :ivar state: ``"note"`` is worth knowing, and no fault. :ivar code: the exit code that it stands for.
    """

    subject: str
    state: Literal["ok", "note", "wrong"]
    found: str
    advice: str = ""
    code: int = exits.FINE


FINDING: Final = Shape("findings", ("subject", "state", "found", "advice"))


def examine(experience: str | None, output: Output, common: Common) -> int:
    """Write the findings; the exit code is that of the first that has one."""
    with Aside(common) as aside, Delivery(FINDING, output) as delivery:
        given = {} if common.key_file is None else read(common.key_file, aside)
        findings = [*_installed(), *_set(given, experience, allow_http=common.allow_http)]
        delivery.put(findings)
        delivery.finish()
    return next((finding.code for finding in findings if finding.code), exits.FINE)


def _installed() -> Iterator[Finding]:
    from distinct_async.session import AIOHTTP_VERSION  # noqa: PLC0415  # --help waits for no aiohttp

    versions = f"distinct-async {__version__}, aiohttp {AIOHTTP_VERSION}, Python {platform.python_version()}"
    yield Finding("versions", "ok", versions)
    for extra, (module, use) in _EXTRAS.items():
        if find_spec(module) is None:
            advice = f'for {use}: python -m pip install "distinct-async[{extra}]"'
            yield Finding(f"extra {extra}", "note", "not installed", advice)


def _set(given: Mapping[str, str], experience: str | None, *, allow_http: bool) -> Iterator[Finding]:
    """What is set, and what the vendors say to it."""
    try:
        keys = keys_from({vendor: Key.of(given.get(f"{name}_API_KEY")) for vendor, name in _NAMES.items()})
        set_urls = {vendor: given.get(f"{name}_BASE_URL") for vendor, name in _NAMES.items()}
        urls = base_urls_from(set_urls, allow_http=allow_http)
    except ConfigurationError as error:
        yield Finding("settings", "wrong", error.message, exits.hint(error), exits.code(error))
        return
    client = DistinctClient(
        keys["distinct"].value if "distinct" in keys else _MADE_UP,
        vantio_api_key=keys["vantio"].value if "vantio" in keys else _MADE_UP,
        base_url=urls["distinct"],
        vantio_base_url=urls["vantio"],
        allow_http=allow_http,
        timeout=_SECONDS,
        retry=RetryPolicy(attempts=1),
    )
    said = asyncio.run(_asked(client, experience))
    for vendor, name in _NAMES.items():
        default = "the default" if urls[vendor] == VENDORS[vendor].base_url else f"by {name}_BASE_URL"
        yield Finding(f"{vendor} URL", "ok", f"{urls[vendor]} ({default})")
        if vendor not in keys:
            yield _without_key(vendor)
        yield from judged(vendor, said[vendor], keyed=vendor in keys, experience=experience)


def _without_key(vendor: Vendor) -> Finding:
    advice = f"set {_NAMES[vendor]}_API_KEY, or name a --key-file"
    if vendor == "distinct":
        return Finding("distinct key", "wrong", "not set", advice, exits.USAGE)
    return Finding("vantio key", "note", "not set: all but impressions works without", advice)


async def _asked(client: DistinctClient, experience: str | None) -> Mapping[Vendor, DistinctError | None]:
    """What each vendor says; None where it answers as asked."""

    async def distinct() -> None:
        await client.metrics.experience(experience or _MADE_UP)

    async def vantio() -> None:
        await client.impressions.list(page_size=1, limit=1)

    async with client:
        said = await asyncio.gather(distinct(), vantio(), return_exceptions=True)
    found: dict[Vendor, DistinctError | None] = {}
    for vendor, answer in zip(_NAMES, said, strict=True):
        if isinstance(answer, BaseException) and not isinstance(answer, DistinctError):
            raise answer
        found[vendor] = answer
    return found


def judged(
    vendor: Vendor, error: DistinctError | None, *, keyed: bool, experience: str | None = None
) -> Sequence[Finding]:
    """What a vendor's answer to a read tells of the way there, and of the key.

    :param keyed: it was sent with a key of the user's. :param experience: and for an experience of the user's.
    """
    reached = Finding(vendor, "ok", "reached")
    accepted = [Finding(f"{vendor} key", "ok", "accepted")] if keyed else []
    match error:
        case None:
            return [reached, *accepted]
        case AuthenticationError() | PermissionDeniedError():
            refused = Finding(f"{vendor} key", "wrong", f"{error.status} {error.phrase}", error.remedy, exits.KEY)
            return [reached, *([refused] if keyed else [])]
        case NotFoundError() | BadRequestError() if vendor == "distinct" and '"statusCode"' in error.body:
            # In the vendor's own envelope: whoever looks up the id has let the key pass (inferred, not documented)
            unknown = Finding(f"experience {experience}", "wrong", "does not exist", "check the id", exits.NOT_FOUND)
            return [reached, *accepted, *([unknown] if experience else [])]
    told = f"{error.status} {error.phrase}".strip() if isinstance(error, APIError) else error.message
    code = exits.OURS if isinstance(error, DecodeError) else exits.NETWORK
    return [Finding(vendor, "wrong", told, _advice(vendor, error), code)]


def _advice(vendor: Vendor, error: DistinctError) -> str:
    variable = f"{_NAMES[vendor]}_BASE_URL"
    match error:
        case TLSError():
            return f"does {variable} say https to a server of plain http? does a proxy here bring its own certificate?"
        case APIError(status=status) if status == 429 or status >= 500:
            return "the vendor has a bad time: try again later"
        case APIError() | DecodeError():
            return f"is {variable} right? what answers there is not the vendor"
    return f"is {variable} right? is there a firewall, or a proxy that this command does not use?"
