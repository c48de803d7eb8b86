"""What a user agent says: the device, the browser, and whether it was a person at all."""

from collections.abc import Sequence
from typing import Final

import duckdb
from ua_parser import parse

_NEW: Final = """
SELECT DISTINCT user_agent FROM impressions ANTI JOIN parsed_user_agents USING (user_agent) WHERE user_agent IS NOT NULL
"""
# Families of ua-parser that load a link to show a preview of it where it was posted
_PREVIEWS: Final = frozenset({
    "Discordbot", "FacebookBot", "GooglePlusBot", "LinkedInBot", "Pinterestbot", "SkypeUriPreview", "Slack-ImgProxy",
    "Slackbot", "Slackbot-LinkExpanding", "TelegramBot", "Twitterbot", "Viber", "WhatsApp",
})  # fmt: skip
# Families of programs that are not browsers; ua-parser has no device for them
_PROGRAMS: Final = frozenset({
    "Apache-HttpClient", "Go-http-client", "Java", "Python Requests", "Python aiohttp", "aiohttp", "axios", "curl",
    "libwww-perl", "okhttp", "python-httpx", "Wget",
})  # fmt: skip
_DESKTOPS: Final = frozenset({"Chrome OS", "Fedora", "FreeBSD", "Linux", "Mac OS X", "OpenBSD", "Ubuntu", "Windows"})
_MOBILES: Final = frozenset({"Android", "BlackBerry OS", "Firefox OS", "KaiOS", "Tizen", "Windows Phone", "iOS"})


def parse_user_agents(connection: duckdb.DuckDBPyConnection) -> None:
    """Fill the table `parsed_user_agents` with what is new in the table `impressions`; each is parsed once."""
    new = [agent for (agent,) in connection.execute(_NEW).fetchall()]
    if new:
        rows = list(zip(new, *zip(*map(describe, new), strict=True), strict=True))
        connection.executemany("INSERT OR IGNORE INTO parsed_user_agents VALUES (?, ?, ?, ?)", rows)


def describe(user_agent: str) -> Sequence[str]:
    """Return the device, the browser, and the source: ``"person"``, ``"preview"`` or ``"bot"``."""
    found = parse(user_agent)
    browser = found.user_agent.family if found.user_agent else "unknown"
    system = found.os.family if found.os else ""
    device, brand = (found.device.family, found.device.brand or "") if found.device else ("", "")
    if browser in _PREVIEWS:
        return "unknown", browser, "preview"
    if device == "Spider" or browser in _PROGRAMS:
        return "unknown", browser, "bot"
    if device == "iPad" or "Tablet" in brand or (system == "Android" and "Mobile" not in user_agent):
        return "tablet", browser, "person"
    kinds = {**dict.fromkeys(_MOBILES, "mobile"), **dict.fromkeys(_DESKTOPS, "desktop")}
    return kinds.get(system, "unknown"), browser, "person"
