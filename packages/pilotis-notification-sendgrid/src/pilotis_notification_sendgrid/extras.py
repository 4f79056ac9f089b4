"""What a message says to SendGrid alone: its `provider_data`."""

from __future__ import annotations

import difflib
from datetime import datetime
from typing import Any

import msgspec
from msgspec import field
from pilotis.codec import JSON
from pilotis.errors import InvalidInputError
from pilotis.modules.notification.addresses import EMAIL, check_address, check_line

AT = "provider_data"
MOST_CATEGORIES = 10
MOST_RECIPIENTS = 1000
LONGEST_POOL = 64
RESERVED = frozenset(
    {
        *("x-sg-id", "x-sg-eid", "received", "dkim-signature", "content-type", "content-transfer-encoding"),
        *("to", "from", "subject", "reply-to", "cc", "bcc"),
    }
)
"""Headers that SendGrid writes itself."""
OUR_MARK = "pilotis_"
"""How the custom arguments begin that we send along."""


class Extras(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a mail may have beside what every message has. Addresses are as in `to`."""

    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    reply_to: str | None = None
    categories: tuple[str, ...] = ()
    """Up to ten, to group figures by."""
    custom_args: dict[str, str] = field(default_factory=dict[str, str])
    """Come back in webhooks."""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    send_at: datetime | int | None = None
    """When SendGrid sends it: a time with a zone, or seconds since 1970. At most 72 hours from now."""
    unsubscribe_group: int | None = None
    ip_pool: str | None = None

    @property
    def recipients(self) -> tuple[str, ...]:
        return (*self.cc, *self.bcc)

    @property
    def sent_at(self) -> int | None:
        """`send_at` in seconds since 1970."""
        return int(self.send_at.timestamp()) if isinstance(self.send_at, datetime) else self.send_at


def read_extras(data: dict[str, Any]) -> Extras:
    """Return what `provider_data` says. Raises `InvalidInputError` naming what is unknown or cannot be sent."""
    known = Extras.__struct_fields__
    for name in data:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
            raise InvalidInputError(f"{AT}: SendGrid knows no {name!r}; {hint}")
    extras = JSON.convert(data, Extras, AT)
    _check_addresses(extras)
    _check_categories(extras.categories)
    _check_arguments(extras.custom_args)
    _check_headers(extras.headers)
    if extras.ip_pool is not None:
        check_line(extras.ip_pool, f"{AT}.ip_pool", maximum=LONGEST_POOL)
    if isinstance(extras.send_at, datetime) and extras.send_at.tzinfo is None:
        raise InvalidInputError(f"{AT}.send_at: expected a time with a zone, such as datetime.now(UTC)")
    return extras


def _check_addresses(extras: Extras) -> None:
    for name in ("cc", "bcc"):
        for index, address in enumerate(getattr(extras, name)):
            check_address(address, EMAIL, f"{AT}.{name}[{index}]")
    if extras.reply_to is not None:
        check_address(extras.reply_to, EMAIL, f"{AT}.reply_to")


def _check_categories(categories: tuple[str, ...]) -> None:
    for index, category in enumerate(categories):
        check_line(category, f"{AT}.categories[{index}]", maximum=255)
    if len(categories) > MOST_CATEGORIES or len(set(categories)) != len(categories):
        raise InvalidInputError(
            f"{AT}.categories: expected up to {MOST_CATEGORIES} different ones, got {len(categories)}"
        )


def _check_arguments(arguments: dict[str, str]) -> None:
    for name in arguments:
        check_line(name, f"{AT}.custom_args")
        if name.startswith(OUR_MARK):
            raise InvalidInputError(f"{AT}.custom_args: names that begin with {OUR_MARK!r} are ours, got {name!r}")


def _check_headers(headers: dict[str, str]) -> None:
    for name, value in headers.items():
        check_line(value, f"{AT}.headers.{check_line(name, f'{AT}.headers')}")
        if not name.isascii() or ":" in name or " " in name:
            raise InvalidInputError(f"{AT}.headers: expected names of ASCII letters, digits and hyphens, got {name!r}")
        if name.lower() in RESERVED:
            raise InvalidInputError(
                f"{AT}.headers: {name!r} is written by SendGrid; use the argument that is made for it"
            )
