"""What of a vendor's message may be shown: without ids of people, and in one line.

Whatever looks personal is replaced by ``<...>``. Digits and punctuation alone are no reason: "pageSize must be between
1 and 100" is what people need to read.
"""

import re
from collections.abc import Iterable
from html import escape
from ipaddress import ip_address
from urllib.parse import quote

_PLACEHOLDER = "<...>"
_MAX_READ = 2000  # characters that are looked through
_MAX_SHOWN = 300  # characters that are shown
_MIN_SUBSTRING = 6  # characters; shorter ids are replaced only as whole words, or an id of "1" would hide every 1

_EMAIL = re.compile(r"""(?:"[^"@]*"|[^\s<>@,;:=()"']+)(?:@|\uff20|%40)[^\s<>@,;)"']+""")
_KEY = re.compile(r"\bBearer\s+\S+|\bsk_\w+", re.IGNORECASE)
_USER_AGENT = re.compile(
    r"(?<![/\w])(?!HTTP/)[a-z][\w.+-]*/\d[\w.]*(?:\s*\([^)]*\)?|\s+[a-z][\w.+-]*/\d[\w.]*)*", re.IGNORECASE
)
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)", re.ASCII)
_IPV6_CANDIDATE = re.compile(r"(?:[0-9a-f.]*:){2}[0-9a-f:.]*", re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?![\d-])", re.ASCII)
_PHONE_CANDIDATE = re.compile(r"(?<![\w-])(?<!\d\.)[+(]{0,2}\d(?:[ ./()-]{0,2}\d)*(?!\w)", re.ASCII)


def redact(message: str, private: Iterable[str] = ()) -> str:
    """A message without what is private, control characters escaped, at most 300 characters.

    Args:
        message: As the vendor sent it.
        private: Texts that must not appear, in any case and encoding: ids of people.

    Returns:
        The message with ``<...>`` for the private texts and for what looks like an e-mail address, an IP address, a
        phone number, a user agent or an API key.
    """
    text = hide(message[:_MAX_READ], private)
    for pattern in (_EMAIL, _KEY, _USER_AGENT, _IPV4):
        text = pattern.sub(_PLACEHOLDER, text)
    text = _PHONE_CANDIDATE.sub(_hide_phone, _IPV6_CANDIDATE.sub(_hide_ipv6, text))
    if len(message) > _MAX_READ or len(text) > _MAX_SHOWN:
        text = text[:_MAX_SHOWN].rpartition(" ")[0] + " ..."  # half a word could be half an id
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def hide(text: str, private: Iterable[str]) -> str:
    """A text with ``<...>`` for the private texts, in any case and encoding."""
    forms = {form for each in private if each for form in (each, quote(each, safe=""), escape(each))}
    for form in sorted(forms, key=len, reverse=True):
        word = re.escape(form) if len(form) >= _MIN_SUBSTRING else rf"(?<!\w){re.escape(form)}(?!\w)"
        text = re.sub(word, _PLACEHOLDER, text, flags=re.IGNORECASE)
    return text


def _hide_ipv6(match: re.Match[str]) -> str:
    text = match[0]
    for candidate in (text, text[1:], text[:-1], text.strip("."), text.strip(".:")):  # a colon may be punctuation
        try:
            ip_address(candidate)
        except ValueError:
            continue
        return _PLACEHOLDER if any(map(str.isdigit, candidate)) else text  # "std::vector"
    return text


def _hide_phone(match: re.Match[str]) -> str:
    """Nine digits in a row, seven with separators, six after a plus; but not dates and decimal numbers."""
    text = match[0]
    if date := _DATE.match(text):
        return date[0] + _PHONE_CANDIDATE.sub(_hide_phone, text[date.end() :])
    parts = re.findall(r"\d+", text)
    digits = sum(map(len, parts))
    if text.count(".") == 1 == len(parts) - 1:
        digits = max(map(len, parts))
    min_digits = 6 if text.startswith("+") else 7 if len(parts) > 1 else 9
    return _PLACEHOLDER if digits >= min_digits else text
