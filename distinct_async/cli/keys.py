"""The client of a command: its keys come from the environment or a file, never from the command line."""

import os
import stat
from pathlib import Path
from typing import Final

from cyclopts import CycloptsError

from distinct_async import DistinctClient
from distinct_async.cli.aside import Aside
from distinct_async.cli.options import Common

_NAMES: Final = ("DISTINCT_API_KEY", "VANTIO_API_KEY", "DISTINCT_BASE_URL", "VANTIO_BASE_URL")


def client_of(common: Common, aside: Aside) -> DistinctClient:
    """The client with the keys of the key file, and those of the environment where it names none.

    :raises CycloptsError: for a key file that cannot be read, or holds none.
    :raises ConfigurationError: for keys and URLs that cannot be meant.
    """
    given = {} if common.key_file is None else read(common.key_file, aside)
    return DistinctClient(
        given.get("DISTINCT_API_KEY"),
        vantio_api_key=given.get("VANTIO_API_KEY"),
        base_url=given.get("DISTINCT_BASE_URL"),
        vantio_base_url=given.get("VANTIO_BASE_URL"),
        rate_limit=common.rate_limit,
        allow_http=common.allow_http,
    )


def read(path: Path, aside: Aside) -> dict[str, str]:
    """What a key file sets, by the names of the variables."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        mode = path.stat().st_mode
    except (OSError, UnicodeError) as error:
        # The path is not repeated: whoever takes --key-file for --key has put the key there
        told = error.strerror if isinstance(error, OSError) else "it is no text"
        raise CycloptsError(f"--key-file: the file cannot be read: {told}") from None
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        aside.say(f"warning: others may read {path}; chmod 600 keeps it to you")
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(lines) == 1 and "=" not in lines[0]:
        return {"VANTIO_API_KEY" if lines[0].startswith("sk_") else "DISTINCT_API_KEY": lines[0]}
    pairs = (line.removeprefix("export ").partition("=") for line in lines)
    found = {name.strip(): _unquoted(value.strip()) for name, _, value in pairs}
    if not any(found.get(name) for name in _NAMES):
        raise CycloptsError(f"--key-file: it sets none of {', '.join(_NAMES)}, and is no bare key")
    return {name: found[name] for name in _NAMES if found.get(name)}


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value
