"""The client of a command: its keys come from the environment or a file, never from the command line."""

import os
import stat
from collections.abc import Mapping
from typing import Final

from cyclopts import CycloptsError

from distinct_async import DistinctClient, RetryPolicy, files
from distinct_async.cli.console import Stderr
from distinct_async.cli.options import Common
from distinct_async.errors import ConfigurationError

TIMEOUT: Final = 30.0
DEADLINE: Final = 90.0


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
    try:
        settings = files.read_key_file(path, "--key-file")
    except ConfigurationError as error:
        raise CycloptsError(error.message) from None
    if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        stderr.say(f"warning: others may read {path}; run chmod 600 on it")
    return settings
