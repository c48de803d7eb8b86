"""``distinct-async doctor``: what is set, what can be reached, whether the keys are accepted, and what to do."""

import asyncio
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Final, Literal

from attrs import frozen

from distinct_async import DistinctClient, __version__, errors
from distinct_async.cli import exits
from distinct_async.cli.console import BAD_STYLE, GOOD_STYLE, open_stderr
from distinct_async.cli.options import CommonOptions, OutputOptions, check_output, make_client, read_key_file
from distinct_async.cli.output import RowLayout, open_output
from distinct_async.vendors import VENDORS, Vendor

_UNKNOWN_ID: Final = "distinct-async-doctor"  # an experience that does not exist; and a key, if there is none
_TIMEOUT: Final = 10.0
_EXTRA_PACKAGES: Final = {"arrow": ("pyarrow", "export to Parquet"), "duckdb": ("duckdb", "sync")}


@frozen
class Finding:
    """One thing that was checked.

    Attributes:
        subject: What.
        state: ``"note"`` is worth knowing and not a fault.
        found: What was found.
        advice: What to do.
        code: The exit code.
    """

    subject: str
    state: Literal["ok", "note", "wrong"]
    found: str
    advice: str = ""
    code: int = exits.OK


FINDING_LAYOUT: Final = RowLayout(
    "findings",
    ("subject", "state", "found", "advice"),
    prose=("found", "advice"),
    styles={"ok": GOOD_STYLE, "wrong": BAD_STYLE},
)


def examine(experience: str | None, output: OutputOptions, common_options: CommonOptions) -> int:
    """Write the findings; return the exit code of the first that has one."""
    check_output(output, common_options)
    with open_stderr(common_options, _TIMEOUT) as stderr:
        settings = read_key_file(common_options, stderr.say)
        with stderr.progress():
            findings = [*_check_installation(), *_check_vendors(settings, experience, common_options)]
        with open_output(FINDING_LAYOUT, output, stderr) as writer:
            writer.write(findings)
    return next((finding.code for finding in findings if finding.code), exits.OK)


def _check_installation() -> Iterator[Finding]:
    from distinct_async.session import AIOHTTP_VERSION  # noqa: PLC0415  # --help waits for no aiohttp

    versions = f"distinct-async {__version__}, aiohttp {AIOHTTP_VERSION}, Python {platform.python_version()}"
    yield Finding("versions", "ok", versions)
    for extra, (module, purpose) in _EXTRA_PACKAGES.items():
        if find_spec(module) is None:
            advice = f'for {purpose}: python -m pip install "distinct-async[{extra}]"'
            yield Finding(f"extra {extra}", "note", "not installed", advice)


def _check_vendors(
    settings: Mapping[str, str], experience: str | None, common_options: CommonOptions
) -> Iterator[Finding]:
    """Yield what is set, and how the vendors respond."""
    try:
        client = make_client(common_options, settings)
        has_key = {vendor: _has_key(client, vendor) for vendor in VENDORS}
        placeholder_keys = {each.key_variable: _UNKNOWN_ID for vendor, each in VENDORS.items() if not has_key[vendor]}
        client = make_client(common_options, {**settings, **placeholder_keys}, timeout=_TIMEOUT, attempts=1)
    except errors.ConfigurationError as error:
        found, _, advice = exits.error_line(error).partition("; ")
        yield Finding("settings", "wrong", found, advice, exits.exit_code(error))
        return
    responses = exits.run(_request_each_vendor(client, experience))
    for (vendor, profile), response in zip(VENDORS.items(), responses, strict=True):
        url = client.base_urls[vendor]
        url_source = "the default" if url == profile.base_url else f"by {profile.url_variable}"
        yield Finding(f"{vendor} URL", "ok", f"{url} ({url_source})")
        advice = f"set {profile.key_variable}, or name a --key-file"
        if not has_key[vendor] and vendor == "distinct":
            yield Finding("distinct key", "wrong", "not set", advice, exits.USAGE)
        elif not has_key[vendor]:
            yield Finding("vantio key", "note", "not set", f"all but impressions works without; {advice}")
        if isinstance(response, BaseException) and not isinstance(response, errors.DistinctError):
            raise response
        failure = response if isinstance(response, errors.DistinctError) else None
        yield from diagnose(vendor, failure, has_key=has_key[vendor], experience=experience)


def _has_key(client: DistinctClient, vendor: Vendor) -> bool:
    try:
        client.require(vendor)
    except errors.ConfigurationError:
        return False
    return True


async def _request_each_vendor(client: DistinctClient, experience: str | None) -> Sequence[object]:
    """Return what each vendor responds, or its error."""
    async with client:
        return await asyncio.gather(
            client.metrics.experience(experience or _UNKNOWN_ID),
            client.impressions.list(page_size=1, limit=1),
            return_exceptions=True,
        )


def diagnose(
    vendor: Vendor, error: errors.DistinctError | None, *, has_key: bool, experience: str | None = None
) -> Sequence[Finding]:
    """Return what a vendor's response says of the connection, and of the key.

    Args:
        vendor: Whose.
        error: What the request ended with; None if it succeeded.
        has_key: Whether it was sent with a key of the user's.
        experience: The experience that was requested, if it is the user's.
    """
    reached = Finding(vendor, "ok", "reached")
    accepted = [Finding(f"{vendor} key", "ok", "accepted")] if has_key else []
    match error:
        case None:
            return [reached, *accepted]
        case errors.AuthenticationError() | errors.PermissionDeniedError():
            advice = (
                f"check {VENDORS[vendor].key_variable}: is it valid, and of the right kind?"
                if isinstance(error, errors.AuthenticationError)
                else "is this machine's IP address on the key's allowlist?"
            )
            refused = Finding(f"{vendor} key", "wrong", f"{error.status} {error.phrase}", advice, exits.KEY)
            return [reached, *([refused] if has_key else [])]
        case errors.NotFoundError() | errors.BadRequestError() if vendor == "distinct" and '"statusCode"' in error.body:
            # In the vendor's own envelope: whoever looks up the id has accepted the key (inferred, not documented)
            unknown = Finding(f"experience {experience}", "wrong", "does not exist", "check the id", exits.NOT_FOUND)
            return [reached, *accepted, *([unknown] if experience else [])]
    summary = (
        f"{error.status} {error.phrase}".strip() if isinstance(error, errors.APIError) else exits.error_summary(error)
    )
    exit_code = exits.NETWORK if isinstance(error, errors.APIError) else exits.exit_code(error)
    return [Finding(vendor, "wrong", summary, _connection_advice(vendor, error), exit_code)]


def _connection_advice(vendor: Vendor, error: errors.DistinctError) -> str:
    variable = VENDORS[vendor].url_variable
    match error:
        case errors.TLSError():
            return f"does {variable} say https for a server of plain http? does a proxy use its own certificate?"
        case errors.APIError(status=status) if status == 429 or status >= 500:
            return "the vendor's API is failing; try again later"
        case errors.APIError() | errors.DecodeError():
            return f"check {variable}; the server there is not {vendor.title()}'s API"
    return f"check {variable}; is there a firewall, or a proxy that this command does not use?"
