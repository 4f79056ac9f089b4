"""What may stand in a header: addresses, subjects, file names. A line break in one would begin another header."""

from __future__ import annotations

import re

from pilotis.errors import InvalidInputError
from pilotis.keys import check_text

EMAIL = "email"
"""The channel whose recipients and senders are mail addresses. Those of other channels are any text."""

_LINE_BREAKS = re.compile("[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]")
_NAMED = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]*)>")
_QUOTED = re.compile(r'"(.*)"')
_HIDDEN = re.compile(r"\\(.)")
_LOCAL_PART = re.compile(r"[^\s@<>()\[\]:;,\\\"]{1,64}")
_LABEL = re.compile(r"[^\W_](?:[\w-]{0,61}[^\W_])?")
_LONGEST_ADDRESS = 254
_LONGEST_SUBJECT = 998
_CONTENT_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)
_CONTENT_ID = re.compile(r"[\w.+@-]+", re.ASCII)


def check_address(value: object, channel: str, at: str) -> str:
    """Return a recipient or sender if it fits its channel.

    For email that is `ada@example.com` or `Ada Lovelace <ada@example.com>`, one address, of letters of any
    language (RFC 6531), by the lengths of RFC 5321; quoted local parts and address literals are not taken. The error
    does not repeat the address.
    """
    text = check_line(value, at)
    if channel == EMAIL and not _is_mail_address(bare_address(text)):
        raise InvalidInputError(f"{at}: expected one mail address, such as ada@example.com or Ada <ada@example.com>")
    return text


def check_line(value: object, at: str, *, maximum: int = _LONGEST_SUBJECT) -> str:
    """Return text that can stand in a header: not empty, printable, without anything that breaks lines."""
    if isinstance(value, str) and _LINE_BREAKS.search(value):
        raise InvalidInputError(f"{at}: expected a single line; a line break could begin a header of its own")
    return check_text(value, at, maximum=maximum)


def check_filename(value: object, at: str) -> str:
    """Return a file name if it is one: no directories in it, and not the name of one."""
    name = check_line(value, at, maximum=255)
    if "/" in name or "\\" in name or name in (".", ".."):
        raise InvalidInputError(f"{at}: expected a file name without directories")
    return name


def check_content_type(value: object, at: str) -> str:
    """Return a media type such as `application/pdf`. Parameters are not taken."""
    return _check_pattern(value, at, _CONTENT_TYPE, "a media type such as application/pdf")


def check_content_id(value: object, at: str) -> str:
    """Return what the html may refer to as `cid:...`."""
    return _check_pattern(value, at, _CONTENT_ID, "letters, digits and . + - _ @")


def bare_address(text: str) -> str:
    """Return the address in `Ada <ada@example.com>`, or the text itself."""
    named = _NAMED.fullmatch(text)
    return named["address"] if named else text


def address_parts(text: str) -> tuple[str, str]:
    """Return the name and the address in `Ada <ada@example.com>`; the name is empty where there is none.

    Quotes around a name, and the backslashes in them, are not part of it.
    """
    named = _NAMED.fullmatch(text)
    if named is None:
        return "", text
    name = named["name"].strip()
    if quoted := _QUOTED.fullmatch(name):
        name = _HIDDEN.sub(r"\1", quoted[1])
    return name, named["address"]


def masked(to: str) -> str:
    """Return what a log line may say of a recipient: the domain of a mail address, or the end of anything longer."""
    _, at, domain = bare_address(to).rpartition("@")
    if at:
        return f"***@{domain}"
    return f"***{to[-2:]}" if len(to) > 6 else "***"


def _is_mail_address(address: str) -> bool:
    local, at, domain = address.rpartition("@")
    return (
        bool(at)
        and len(address) <= _LONGEST_ADDRESS
        and _LOCAL_PART.fullmatch(local) is not None
        and not local.startswith(".")
        and not local.endswith(".")
        and ".." not in local
        and all(_LABEL.fullmatch(label) for label in domain.split("."))
    )


def _check_pattern(value: object, at: str, pattern: re.Pattern[str], expected: str) -> str:
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise InvalidInputError(f"{at}: expected {expected}")
    return value
