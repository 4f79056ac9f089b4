"""What can be set about SendGrid."""

from __future__ import annotations

from base64 import b64decode
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from pilotis.durations import seconds
from pilotis.errors import InvalidInputError
from pilotis.modules.notification.addresses import EMAIL, check_address
from pilotis.settings.secrets import Secret, mask_url

REGIONS = {"global": "https://api.sendgrid.com", "eu": "https://api.eu.sendgrid.com"}


class SendGridOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of SendGrid. Durations are seconds.

    Raises `InvalidInputError` naming the option for what cannot work.
    """

    api_key: Secret
    """A key that may send mails: the scope `mail.send`."""
    sender: str | None = None
    """Who mails are from that name nobody, and where the module's settings do not either."""
    region: Literal["global", "eu"] = "global"
    """Where mails are handled. Keys of the one are unknown to the other."""
    base_url: str | None = None
    """Another place than the region's, such as that of a test server."""
    sandbox: bool = False
    """Whether SendGrid checks all mails and sends none. They end as `simulated`."""
    webhook_public_key: str | None = None
    """The verification key of the signed event webhook, as SendGrid shows it. Without it every webhook is refused."""
    webhook_tolerance: float = 300
    """How far the time of a webhook's signature may be from ours, either way. Older ones could be replayed ones."""
    call_timeout: float = 10
    """How long one call may take, as a whole. At most half of the module's `timeout`, for a batch takes up to two."""
    concurrency: int = 20
    """How many calls one batch of different messages makes at once."""

    def __post_init__(self) -> None:
        _check_key(self.api_key)
        msgspec.structs.force_setattr(self, "api_key", Secret(self.api_key))  # whoever made the options of plain text
        if self.sender is not None:
            check_address(self.sender, EMAIL, "sender")
        if self.base_url is not None:
            _check_base_url(self.base_url)
        if self.webhook_public_key is not None:
            _check_public_key(self.webhook_public_key)
        seconds(self.webhook_tolerance, "webhook_tolerance", minimum=1)
        seconds(self.call_timeout, "call_timeout", minimum=0.001)
        if self.concurrency < 1:
            raise InvalidInputError(f"concurrency: expected 1 or more, got {self.concurrency}")

    @property
    def place(self) -> str:
        """Where the API is, without a stroke at the end."""
        return (self.base_url or REGIONS[self.region]).rstrip("/")


def _check_key(key: str) -> None:
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidInputError("api_key: expected ASCII text without spaces and line breaks, such as SG.xxx.yyy")


def _check_base_url(url: str) -> None:
    parts = urlsplit(url)
    is_plain = not (parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_plain or not url.isprintable():
        raise InvalidInputError(f"base_url: expected a URL such as {REGIONS['global']}, got {mask_url(url)!r}")


def _check_public_key(key: str) -> None:
    from sendgrid.helpers.eventwebhook import EventWebhook  # pyright: ignore[reportMissingTypeStubs]

    try:
        b64decode(key, validate=True)
        webhook: Any = EventWebhook(key)
        is_good = hasattr(webhook.public_key, "curve")  # keys of other kinds are read too
    except Exception:  # whatever the library makes of it: it is no key
        is_good = False
    if not is_good:
        raise InvalidInputError(
            "webhook_public_key: expected the verification key as SendGrid shows it: Base64, without PEM lines"
        )
