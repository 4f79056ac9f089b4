"""A provider that sends nowhere: for development, tests, and applications without a mail service."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from enum import Flag
from pathlib import Path
from typing import ClassVar

import msgspec
from pilotis.providers import (
    NotificationCapability,
    NotificationProvider,
    OutgoingMessage,
    Receipt,
    masked,
    new_id,
    reset_after_fork,
    run_blocking,
)

from pilotis_notification_local.eml import write_eml

logger = logging.getLogger("pilotis.notification.local")


class LocalNotificationOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the local provider."""

    outbox_dir: Path | None = None
    """Where every message is written to, as an `.eml` file. Made if it is not there. None writes none."""
    max_outbox: int = 10_000
    """How many messages the outbox keeps; the oldest are dropped."""

    def __post_init__(self) -> None:
        if self.max_outbox < 1:
            raise ValueError(f"max_outbox: expected 1 or more, got {self.max_outbox}")


class LocalNotification(NotificationProvider):
    """Logs each message without personal data, keeps it in the outbox, and writes it to a file if there is a directory.

    It takes every channel and any name of a template. A message whose file cannot be written is not in the outbox.
    """

    Options = LocalNotificationOptions
    options: LocalNotificationOptions
    capabilities: ClassVar[Flag] = (
        NotificationCapability.ATTACHMENTS
        | NotificationCapability.TEMPLATES
        | NotificationCapability.OUTBOX
        | NotificationCapability.IMMEDIATE
    )

    def __init__(self, options: LocalNotificationOptions | None = None) -> None:
        super().__init__(options)
        self._outbox: deque[OutgoingMessage] = deque(maxlen=self.options.max_outbox)
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Get a lock of our own. What the parent sent stays in the outbox."""
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        return "in this process" if self.options.outbox_dir is None else str(self.options.outbox_dir)

    async def open(self) -> None:
        if self.options.outbox_dir is not None:
            await run_blocking(self.options.outbox_dir.mkdir, parents=True, exist_ok=True)

    async def send(self, messages: Sequence[OutgoingMessage]) -> list[Receipt | Exception]:
        return [await self._send(message) for message in messages]

    @property
    def outbox(self) -> list[OutgoingMessage]:
        with self._lock:
            return list(self._outbox)

    async def _send(self, message: OutgoingMessage) -> Receipt | Exception:
        external_id = new_id(self.context.clock)
        try:
            await self._file(message, external_id)
        except Exception as error:  # whatever it is, it is of this message alone
            return error
        with self._lock:
            self._outbox.append(message)
        _log(message)
        return Receipt(external_id=external_id)

    async def _file(self, message: OutgoingMessage, external_id: str) -> None:
        directory = self.options.outbox_dir
        if directory is not None:
            path = directory / f"{external_id}.eml"
            await run_blocking(write_eml, message, path, self.context.clock.time())


def _log(message: OutgoingMessage) -> None:
    template = "" if message.template is None else f", template {message.template}"
    logger.info("notification %s to %s by %s%s", message.id, masked(message.to), message.channel, template)
