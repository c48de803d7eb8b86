"""The client of a command: its keys come from the environment or a file, never from the command line."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cyclopts import CycloptsError

from distinct_async import DistinctClient, RetryPolicy
from distinct_async.cli.console import Stderr
from distinct_async.cli.options import Common

TIMEOUT: Final = 30.0
DEADLINE: Final = 90.0

_NAMES: Final = ("DISTINCT_API_KEY", "VANTIO_API_KEY", "DISTINCT_BASE_URL", "VANTIO_BASE_URL")


def make_client(
    common: Common, settings: Mapping[str, str], *, timeout: float = TIMEOUT, attempts: int | None = None
) -> DistinctClient:
    """Return a client with these settings, and those of the environment for what they do not set.

    Args:
        common: The options of all commands.
        settings: Keys and base URLs, by the names of their variables.
        timeout: Seconds for one attempt, if no option says another.
        attempts: Attempts of a request; None for the client's default.

    Raises:
        ConfigurationError: A key or a URL is invalid.
    """
    return DistinctClient(
        settings.get("DISTINCT_API_KEY"),
        vantio_api_key=settings.get("VANTIO_API_KEY"),
        base_url=settings.get("DISTINCT_BASE_URL"),
        vantio_base_url=settings.get("VANTIO_BASE_URL"),
        timeout=common.timeout or timeout,
        deadline=common.deadline or DEADLINE,
        rate_limit=common.rate_limit,
        allow_http=common.allow_http,
        retry=RetryPolicy() if attempts is None else RetryPolicy(attempts=attempts),
    )


def read_key_file(common: Common, stderr: Stderr) -> Mapping[str, str]:
    """Return what the key file sets, by the names of the variables.

    Raises:
        CycloptsError: It cannot be read, or sets nothing.
    """
    if (path := common.key_file) is None:
        return {}
    lines = [line.strip() for line in _read(path).splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        stderr.say(f"warning: others may read {path}; run chmod 600 on it")
    if len(lines) == 1 and "=" not in lines[0]:
        return {"VANTIO_API_KEY" if lines[0].startswith("sk_") else "DISTINCT_API_KEY": lines[0]}
    pairs = (line.removeprefix("export ").partition("=") for line in lines)
    found = {name.strip(): _unquote(value.strip()) for name, _, value in pairs}
    if not any(found.get(name) for name in _NAMES):
        raise CycloptsError(f"--key-file: the file sets none of {', '.join(_NAMES)} and is not a single key")
    return {name: found[name] for name in _NAMES if found.get(name)}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        # The path is not repeated: whoever takes --key-file for --key has put the key there
        reason = error.strerror if isinstance(error, OSError) else "it is not a text"
        raise CycloptsError(f"--key-file: the file cannot be read: {reason}") from None


def _unquote(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value
