"""What users hand in and hold: contents, attachments, notifications."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import field

Status = Literal["pending", "sending", "sent", "failed", "unknown", "skipped", "simulated"]

STATUSES: tuple[Status, ...] = ("pending", "sending", "sent", "failed", "unknown", "skipped", "simulated")
"""Recorded; handed to a provider; accepted by it; refused by all; nobody can tell; not wanted; a dry run."""


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What a notification says. A text or an html is needed; channels such as SMS use the text alone."""

    subject: str | None = None
    text: str | None = None
    html: str | None = None


class Attachment(msgspec.Struct, frozen=True):
    """A file that goes with a notification.

    `content_type` is guessed from the file name where it is None. With a `content_id` the html can show the file:
    `<img src="cid:logo">`.
    """

    filename: str
    content: bytes
    content_type: str | None = None
    content_id: str | None = None


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """A notification as the ledger knows it. It is a snapshot: `get(id)` reads it again."""

    id: str
    channel: str
    to: str
    status: Status
    created_at: datetime
    updated_at: datetime
    attempts: int = 0
    """How often it was handed to a provider."""
    provider: str | None = None
    """The provider that it was handed to last."""
    external_id: str | None = None
    """What that provider calls it."""
    error: str | None = None
    """Why it failed or is unknown, provider by provider."""
    template: str | None = None
    resource: tuple[str, str] | None = None
    """What it is about, such as `("order", "42")`."""
    trigger: str | None = None
    """What caused it, such as `order.placed`."""
    idempotency_key: str | None = None


class NotificationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of `send`, for `send_many`."""

    to: str
    channel: str
    template: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])
    content: Content | None = None
    sender: str | None = None
    attachments: Sequence[Attachment] = ()
    idempotency_key: str | None = None
    resource: tuple[str, str] | None = None
    trigger: str | None = None
    provider_data: Mapping[str, Any] = field(default_factory=dict[str, Any])
    dry_run: bool = False
