"""Providers that break one obligation each: the conformance suite must catch every one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace
from pilotis.errors import ConnectionFailedError, OperationError
from pilotis.providers import Content, NotificationCapability, OutgoingMessage, Receipt, pause
from pilotis_notification_local import LocalNotification

Answers = list[Receipt | Exception]


class AnswersOnlyOnce(LocalNotification):
    """One receipt for the whole batch."""

    async def send(self, messages: Sequence[OutgoingMessage]) -> Answers:
        return (await super().send(messages))[:1]


class SameIdForAll(LocalNotification):
    """Every message has the same external id."""

    async def send(self, messages: Sequence[OutgoingMessage]) -> Answers:
        return [Receipt(external_id="1") for _ in await super().send(messages)]


class StumblesOverNothing(LocalNotification):
    """An empty batch is an error."""

    async def send(self, messages: Sequence[OutgoingMessage]) -> Answers:
        messages[0]
        return await super().send(messages)


class TakesHalfABatch(LocalNotification):
    """Fewer messages than `batch` says."""

    async def send(self, messages: Sequence[OutgoingMessage]) -> Answers:
        if len(messages) > self.batch // 2:
            raise ValueError("too many messages")
        return await super().send(messages)


class MixesCalls(LocalNotification):
    """What is being sent is kept on the object, where another call finds it."""

    _underway: Sequence[OutgoingMessage] = ()

    async def send(self, messages: Sequence[OutgoingMessage]) -> Answers:
        self._underway = messages
        await pause(0.01)
        return await super().send(self._underway)


class RefusesAgain(LocalNotification):
    """A message that was sent is refused the second time."""

    async def send(self, messages: Sequence[OutgoingMessage]) -> Answers:
        known = {message.id for message in self.outbox}
        if any(message.id in known for message in messages):
            return [ValueError("known") for _ in messages]
        return await super().send(messages)


class SpeaksAscii(LocalNotification):
    """Other scripts are replaced by question marks."""

    async def send(self, messages: Sequence[OutgoingMessage]) -> Answers:
        return await super().send([replace(message, content=_in_ascii(message.content)) for message in messages])


class LogsContents(LocalNotification):
    """Debug lines with everything in them."""

    async def send(self, messages: Sequence[OutgoingMessage]) -> Answers:
        logging.getLogger("pilotis.notification.local").debug("sending %s", messages)
        return await super().send(messages)


class OpensOnce(LocalNotification):
    """After closing it is gone for good."""

    _closed = False

    async def open(self) -> None:
        if self._closed:
            raise RuntimeError("closed")
        await super().open()

    async def close(self) -> None:
        self._closed = True


class ClosesOnlyOpened(LocalNotification):
    """Closing twice is an error."""

    _opened = False

    async def open(self) -> None:
        self._opened = True

    async def close(self) -> None:
        if not self._opened:
            raise RuntimeError("not open")
        self._opened = False


class TimesOutIntoRetries(LocalNotification):
    """A time-out looks like a lost connection, and would be sent again."""

    def classify(self, error: Exception) -> type[OperationError] | None:
        return ConnectionFailedError


class DropsAttachments(LocalNotification):
    """Declares attachments, and leaves them out."""

    async def send(self, messages: Sequence[OutgoingMessage]) -> Answers:
        return await super().send([replace(message, attachments=()) for message in messages])


class DropsTemplateData(LocalNotification):
    """Declares templates, and forgets their data."""

    async def send(self, messages: Sequence[OutgoingMessage]) -> Answers:
        return await super().send([replace(message, data={}) for message in messages])


class ClaimsWebhooks(LocalNotification):
    """Declares webhooks, and takes unsigned ones."""

    capabilities = LocalNotification.capabilities | NotificationCapability.WEBHOOKS

    async def parse_webhook(self, headers: Any, body: bytes) -> Any:
        return []


class HidesWebhooks(LocalNotification):
    """Has webhooks, and does not declare them."""

    async def parse_webhook(self, headers: Any, body: bytes) -> Any:
        return []


class LendsItsOutbox(LocalNotification):
    """Whoever asks for the outbox gets the thing itself."""

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._sent: list[OutgoingMessage] = []

    async def send(self, messages: Sequence[OutgoingMessage]) -> Answers:
        self._sent += messages
        return await super().send(messages)

    @property
    def outbox(self) -> list[OutgoingMessage]:
        return self._sent


class ClaimsToBeImmediate(LocalNotification):
    """Declares it, and starts the background thread all the same."""

    async def send(self, messages: Sequence[OutgoingMessage]) -> Answers:
        self.context.runtime.loop  # noqa: B018 - starts it
        return await super().send(messages)


def _in_ascii(content: Content | None) -> Content | None:
    text = None if content is None else content.text
    return (
        content if content is None or text is None else replace(content, text=text.encode("ascii", "replace").decode())
    )
