"""The interface of notification providers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Flag, auto
from typing import Any, ClassVar, Literal

import msgspec
from msgspec import field

from pilotis.errors import UnsupportedError
from pilotis.modules.notification.model import Attachment, Content
from pilotis.provider import Provider


class NotificationCapability(Flag):
    """What a notification provider may guarantee."""

    ATTACHMENTS = auto()
    """Sends the attachments of a message along."""
    TEMPLATES = auto()
    """Has templates of its own: takes messages that hold a template's name and data in place of a content."""
    WEBHOOKS = auto()
    """`parse_webhook` reads what the service reports about deliveries."""
    OUTBOX = auto()
    """Keeps what it sent in `outbox`, to assert on."""
    IMMEDIATE = auto()
    """`send` waits for nothing outside this machine. It is called directly then, and no time limit is kept."""


class OutgoingMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message on its way to a provider: checked and rendered. Its values are JSON's own kinds."""

    id: str
    """The notification's id, the same in every attempt: for services that drop duplicates themselves."""
    channel: str
    to: str
    sender: str | None = None
    """None leaves the sender to the provider's own setting."""
    content: Content | None = None
    """None only where `template` is one of the provider's own."""
    template: str | None = None
    data: dict[str, Any] = field(default_factory=dict[str, Any])
    attachments: tuple[Attachment, ...] = ()
    """Each with its content type."""
    provider_data: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the caller says to this kind of provider alone."""
    dry_run: bool = False
    """Always False in what a provider sees: dry runs do not reach it."""

    @property
    def subject(self) -> str | None:
        return self.content.subject if self.content else None

    @property
    def text(self) -> str | None:
        return self.content.text if self.content else None

    @property
    def html(self) -> str | None:
        return self.content.html if self.content else None


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's word that it has dealt with a message."""

    external_id: str | None = None
    """What the provider calls the message, for its webhooks and its support."""
    status: Literal["sent", "skipped", "simulated"] = "sent"
    """Accepted; not wanted by the recipient; accepted by a sandbox."""


class DeliveryUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """What a service reports about a message after it was accepted. Updates may come twice, and out of order."""

    external_id: str | None
    event: str
    """In one vocabulary for all: delivered, deferred, bounced, rejected, opened, clicked, complained, unsubscribed."""
    at: datetime
    event_id: str | None = None
    """The service's id of this report: the same one again is a duplicate."""
    to: str | None = None
    reason: str | None = None
    raw: dict[str, Any] = field(default_factory=dict[str, Any])


class NotificationProvider(Provider):
    """Hands messages to one service.

    The portable class has checked, rendered and recorded every message, retries, falls back to the next provider, and
    keeps the time limit. A provider must not log recipients, contents or data.
    """

    capabilities: ClassVar[Flag] = NotificationCapability(0)

    batch: ClassVar[int] = 100
    """The most messages that one call of `send` may get."""

    @abstractmethod
    async def send(self, messages: Sequence[OutgoingMessage]) -> list[Receipt | Exception]:
        """Send each message, and return for each, in the same order, a receipt or the error that it met.

        All messages are of one channel; no messages gives an empty list. One that fails does not keep the others
        from being sent. An error that met all of them may be raised instead. The verb is called from several threads
        and loops at once, and again for the same message after an error. It is not idempotent unless the service
        is; it does not retry.

        The kind that an error has after `classify` decides what happens next:

        - `InvalidInputError`: the recipient or the message is refused. Nobody else is tried.
        - a time-out (`OperationTimeoutError`), and any other error after which the message may still have been
          accepted: the outcome is unknown, and nobody else is tried.
        - retryable ones (`ConnectionFailedError`, `ThrottledError`): surely not accepted, tried again.
        - all others: not accepted, and the next provider of the channel has its turn.

        It may block (through `run_blocking`) for as long as the service takes. When the time limit is over, an
        asynchronous call is cancelled and a blocking one left alone; the outcome is unknown then.
        """

    def check(self, message: OutgoingMessage) -> None:
        """Raise `InvalidInputError` for a message that the service would surely refuse. Optional. No I/O.

        It is asked before the message is recorded. Where every provider of the channel refuses it, whoever sends it
        learns of it at once; else those that do are passed over.
        """

    async def parse_webhook(self, headers: Mapping[str, str], body: bytes) -> list[DeliveryUpdate]:
        """Return what a webhook call of the service reports, after its signature was verified on the raw body.

        Optional (`WEBHOOKS`). No I/O. Raises `AuthenticationError` for a signature that is missing, wrong or too
        old, and `InvalidInputError` for a body that cannot be read. Kinds of reports it does not know are left out.
        """
        raise UnsupportedError("WEBHOOKS", self.name or type(self).__name__)

    @property
    def outbox(self) -> list[OutgoingMessage]:
        """What was sent since the provider was made, oldest first. Optional (`OUTBOX`).

        The list is a copy. It may be bounded; then the oldest messages are gone.
        """
        raise UnsupportedError("OUTBOX", self.name or type(self).__name__)
