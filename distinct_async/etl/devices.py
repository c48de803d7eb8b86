"""What a user agent says: the device, the browser, and whether it was a person at all."""

from collections.abc import Sequence
from typing import Final

import duckdb
from ua_parser import parse

_SELECT_NEW_USER_AGENTS: Final = """
SELECT DISTINCT user_agent FROM impressions ANTI JOIN parsed_user_agents USING (user_agent) WHERE user_agent IS NOT NULL
"""
# Families of ua-parser that load a link to show a preview of it where it was posted
_PREVIEW_FAMILIES: Final = frozenset({
    "Discordbot", "FacebookBot", "GooglePlusBot", "LinkedInBot", "Pinterestbot", "SkypeUriPreview", "Slack-ImgProxy",
    "Slackbot", "Slackbot-LinkExpanding", "TelegramBot", "Twitterbot", "Viber", "WhatsApp",
})  # fmt: skip
# Families of HTTP clients that are not browsers; ua-parser has no device for them
_HTTP_CLIENT_FAMILIES: Final = frozenset({
    "Apache-HttpClient", "Go-http-client", "Java", "Python Requests", "Python aiohttp", "aiohttp", "axios", "curl",
    "libwww-perl", "okhttp", "python-httpx", "Wget",
})  # fmt: skip
_DESKTOP_SYSTEMS: Final = frozenset(
    {"Chrome OS", "Fedora", "FreeBSD", "Linux", "Mac OS X", "OpenBSD", "Ubuntu", "Windows"}
)
_MOBILE_SYSTEMS: Final = frozenset({"Android", "BlackBerry OS", "Firefox OS", "KaiOS", "Tizen", "Windows Phone", "iOS"})


def parse_user_agents(connection: duckdb.DuckDBPyConnection) -> None:
    """Fill the table `parsed_user_agents` with what is new in the table `impressions`; each is parsed once."""
    user_agents = [agent for (agent,) in connection.execute(_SELECT_NEW_USER_AGENTS).fetchall()]
    if user_agents:
        rows = list(zip(user_agents, *zip(*map(describe_user_agent, user_agents), strict=True), strict=True))
        connection.executemany("INSERT OR IGNORE INTO parsed_user_agents VALUES (?, ?, ?, ?)", rows)


def describe_user_agent(user_agent: str) -> Sequence[str]:
    """Return the device, the browser, and the source: ``"person"``, ``"preview"`` or ``"bot"``."""
    parsed = parse(user_agent)
    browser = parsed.user_agent.family if parsed.user_agent else "unknown"
    system = parsed.os.family if parsed.os else ""
    device, brand = (parsed.device.family, parsed.device.brand or "") if parsed.device else ("", "")
    if browser in _PREVIEW_FAMILIES:
        return "unknown", browser, "preview"
    if device == "Spider" or browser in _HTTP_CLIENT_FAMILIES:
        return "unknown", browser, "bot"
    if device == "iPad" or "Tablet" in brand or (system == "Android" and "Mobile" not in user_agent):
        return "tablet", browser, "person"
    device_types = {**dict.fromkeys(_MOBILE_SYSTEMS, "mobile"), **dict.fromkeys(_DESKTOP_SYSTEMS, "desktop")}
    return device_types.get(system, "unknown"), browser, "person"
