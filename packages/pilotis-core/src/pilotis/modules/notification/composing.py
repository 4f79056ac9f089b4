"""From a request to an entry that can be recorded: checked, rendered, encoded."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from pilotis.bridge import run_blocking
from pilotis.clock import Clock
from pilotis.codec import CANONICAL, JSON
from pilotis.errors import UnsupportedError
from pilotis.ids import new_id
from pilotis.modules.notification.addresses import EMAIL
from pilotis.modules.notification.checking import check_attachments, check_content, check_request
from pilotis.modules.notification.delivery import moment
from pilotis.modules.notification.ledger import LedgerEntry
from pilotis.modules.notification.model import Content, Notification, NotificationRequest
from pilotis.modules.notification.provider import OutgoingMessage
from pilotis.modules.notification.routes import Chain, Switchboard
from pilotis.modules.notification.templates import Templates
from pilotis.settings.model import NotificationSettings

PROVIDERS_OWN = "provider:"
"""Begins the name of a template that the provider has, where there is a directory of templates as well."""


class Composer:
    """Makes entries of requests."""

    def __init__(self, switchboard: Switchboard, settings: NotificationSettings, clock: Clock) -> None:
        self._switchboard = switchboard
        self._settings = settings
        self._clock = clock
        self._templates = None if settings.templates is None else Templates(settings.templates)

    async def compose(self, request: NotificationRequest) -> LedgerEntry:
        """Return the entry for a request. Raises what is wrong with it; nothing was recorded or sent then."""
        check_request(request)
        chain = self._switchboard.chain(request.channel)
        message = await self._message(request)
        _check_abilities(chain, message)
        _check_acceptance(chain, message)
        return LedgerEntry(
            notification=self._notification(request, message),
            message=JSON.encode(message, "message"),
            digest=_digest(request, message),
        )

    async def _message(self, request: NotificationRequest) -> OutgoingMessage:
        data = _plain(request.data, "data")
        content = await self._content(request)
        return OutgoingMessage(
            id=new_id(self._clock),
            channel=request.channel,
            to=request.to,
            sender=request.sender or (self._settings.sender if request.channel == EMAIL else None),
            content=content,
            template=None if request.template is None else request.template.removeprefix(PROVIDERS_OWN),
            data=data,
            attachments=check_attachments(request.attachments, self._settings.max_attachment_bytes),
            provider_data=_plain(request.provider_data, "provider_data"),
            dry_run=request.dry_run,
        )

    async def _content(self, request: NotificationRequest) -> Content | None:
        """Return what the message says, None where a template of the provider's will."""
        if request.template is None:
            return check_content(request.content, request.channel)
        if self._templates is None or request.template.startswith(PROVIDERS_OWN):
            return None
        rendered = await run_blocking(self._templates.render, request.template, request.channel, request.data)
        return check_content(rendered, request.channel)

    def _notification(self, request: NotificationRequest, message: OutgoingMessage) -> Notification:
        now = moment(self._clock)
        return Notification(
            id=message.id,
            channel=request.channel,
            to=request.to,
            status="pending",
            created_at=now,
            updated_at=now,
            template=request.template,
            resource=None if request.resource is None else (request.resource[0], request.resource[1]),
            trigger=request.trigger,
            # A dry run must not use up the key of the real one.
            idempotency_key=None if request.dry_run else request.idempotency_key,
        )


def _plain(data: Mapping[str, Any], at: str) -> dict[str, Any]:
    return JSON.decode(JSON.encode(dict(data), at), dict[str, Any], at)


def _digest(request: NotificationRequest, message: OutgoingMessage) -> str:
    """Digest what was asked for, not what was made of it: a template may be mended between two attempts."""
    asked = (
        request.channel,
        request.to,
        request.sender,
        request.template,
        request.content,
        message.data,
        message.attachments,
        message.provider_data,
    )
    return blake2b(CANONICAL.encode(asked), digest_size=20).hexdigest()


def _check_abilities(chain: Chain, message: OutgoingMessage) -> None:
    """Refuse at once what no provider of the channel can do."""
    lacking = [(line.lacks(message), line.provider_name) for line in chain]
    if lacking and all(capability for capability, _ in lacking):
        capability, provider = lacking[0]
        raise UnsupportedError(str(capability), provider)


def _check_acceptance(chain: Chain, message: OutgoingMessage) -> None:
    """Refuse at once what each provider of the channel would refuse."""
    refusals = [line.refusal(message) for line in chain]
    if refusals and refusals[0] is not None and None not in refusals:
        raise refusals[0]
