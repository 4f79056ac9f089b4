"""The portable class that applications send notifications with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, final

from msgspec.structs import replace

from pilotis.bridge import Flights, Latch, blocking, reset_after_fork
from pilotis.context import Context
from pilotis.durations import seconds
from pilotis.errors import (
    ConfigurationError,
    InvalidInputError,
    NotFoundError,
    NotificationFailedError,
    PilotisError,
)
from pilotis.ids import new_id
from pilotis.keys import check_text
from pilotis.modules.base import Portable, diverted, operation
from pilotis.modules.notification.addresses import EMAIL, check_address
from pilotis.modules.notification.checking import as_requests, check_body, check_headers
from pilotis.modules.notification.composing import Composer
from pilotis.modules.notification.delivery import moment
from pilotis.modules.notification.dispatch import Dispatch, Outcome
from pilotis.modules.notification.ledger import LedgerCapability, LedgerEntry, LedgerProvider, MemoryLedger
from pilotis.modules.notification.model import Attachment, Content, Notification, NotificationRequest, Status
from pilotis.modules.notification.provider import (
    DeliveryUpdate,
    NotificationCapability,
    NotificationProvider,
    OutgoingMessage,
)
from pilotis.modules.notification.querying import as_query
from pilotis.modules.notification.routes import Routes, Switchboard
from pilotis.runtime import Job
from pilotis.settings.model import NotificationSettings


@final
class Notifier(Portable[Switchboard]):
    """Sends notifications through the providers of their channels, and keeps a ledger of them.

    Every notification is recorded before it is sent. The providers of a channel are tried in order: after a passing
    error the same one is tried again, and when its attempts are used up, or after any other error, the next one has
    its turn. Two errors end the matter at once. A recipient or message that a provider refuses would not become better
    elsewhere: `failed`. After a time-out nobody can tell whether the message was accepted: `unknown`.
    """

    module = "notification"

    def __init__(
        self,
        routes: Routes | NotificationProvider,
        *,
        settings: NotificationSettings | None = None,
        context: Context | None = None,
        ledger: LedgerProvider | None = None,
    ) -> None:
        """Send through one provider, or through those of each channel; the channel `*` is any that has none of its own.

        A channel without providers is switched off: what is sent there is `skipped`. Without a ledger, one in memory
        is used. Raises `ConfigurationError` for settings that cannot work.
        """
        context = context or Context()
        self._settings = _checked(settings or NotificationSettings())
        switchboard = Switchboard(routes, ledger or MemoryLedger(), context)
        super().__init__(switchboard, context=context)
        self._switchboard = switchboard
        self._composer = Composer(switchboard, self._settings, context.clock)
        self._dispatch = Dispatch(switchboard, self._settings, context.clock)
        self._flights = Flights()
        self._closing = Latch()
        self._recovery: Job[Any] | None = None
        reset_after_fork(self)

    def after_fork(self) -> None:
        """The recovery stays with the parent."""
        self._recovery = None

    # Sending

    @operation
    async def asend(
        self,
        to: str,
        *,
        channel: str,
        template: str | None = None,
        data: Mapping[str, Any] | None = None,
        content: Content | None = None,
        sender: str | None = None,
        attachments: Sequence[Attachment] = (),
        idempotency_key: str | None = None,
        resource: tuple[str, str] | None = None,
        trigger: str | None = None,
        provider_data: Mapping[str, Any] | None = None,
        dry_run: bool = False,
    ) -> Notification:
        """Send one notification, and return what became of it: `sent`, `unknown`, `skipped` or `simulated`.

        It says `content`, or what `template` makes of `data`. Of any number of callers with the same `idempotency_key`
        one sends; the others get the same notification. One that failed is tried again under its key, one that is
        unknown if `on_unknown` is "resend". A dry run is checked, rendered and recorded, and reaches no provider; it
        does not use up the key.

        Raises `InvalidInputError`, `TemplateError`, `NotFoundError` (there is no such template) or `UnsupportedError`
        before anything is recorded; `ConflictError` for a key that was used for another message; and
        `NotificationFailedError`, which has the notification, when no provider accepted it.
        """
        request = NotificationRequest(
            to=to,
            channel=channel,
            template=template,
            data={} if data is None else data,
            content=content,
            sender=sender,
            attachments=attachments,
            idempotency_key=idempotency_key,
            resource=resource,
            trigger=trigger,
            provider_data={} if provider_data is None else provider_data,
            dry_run=dry_run,
        )
        return self._announced(await self._send_once(await self._composer.compose(request)))

    send = blocking(asend)

    @operation
    async def asend_many(self, messages: Sequence[NotificationRequest | Mapping[str, Any]]) -> list[Notification]:
        """Send many notifications, in batches, and return what became of each, in the order given.

        An item is a `NotificationRequest`, or a mapping of the arguments of `send`. No failure of one item touches
        the others: where `send` would raise, the item's notification is `failed` and its `error` says why. What was
        refused before it was recorded is not in the ledger. An item that is neither, or has an unknown argument, raises
        `InvalidInputError` before anything is sent.
        """
        requests = as_requests(messages)
        composed = [await self._composed(request) for request in requests]
        outcomes = iter(await self._dispatch.send([entry for entry in composed if isinstance(entry, LedgerEntry)]))
        return [
            self._refused(request, entry) if isinstance(entry, PilotisError) else self._seen(request, next(outcomes))
            for request, entry in zip(requests, composed, strict=True)
        ]

    send_many = blocking(asend_many)

    @operation
    async def aresend(self, id: str) -> Notification:
        """Send a notification again as it was rendered, as a new attempt of the same one, whatever became of it.

        Raises `NotFoundError` for an unknown id, `ConflictError` while it is being sent, and `NotificationFailedError`
        like `send`.
        """
        return self._announced(await self._dispatch.resend(await self._entry(id)))

    resend = blocking(aresend)

    @operation
    async def arecover(self) -> list[Notification]:
        """Send again what crashed senders and time-outs left `unknown`, and return what became of it.

        Does nothing where `on_unknown` is "hold". A notification is sent again at most `attempts` times in this way, so
        that one that kills its sender does not go on for ever. When nobody answers for any of a hundred, the others are
        left to the next time. With a durable ledger this happens by itself, when the module is opened and once per
        lease, unless the app's role is "emit".
        """
        return [self._view(outcome.entry) for outcome in await self._dispatch.recover()]

    recover = blocking(arecover)

    # Looking

    @operation
    async def aget(self, id: str) -> Notification:
        """Return a notification as the ledger knows it now. Raises `NotFoundError` for an unknown id."""
        return self._view(await self._entry(id))

    get = blocking(aget)

    @operation
    async def afind(
        self,
        *,
        status: Status | Sequence[Status] | None = None,
        to: str | None = None,
        channel: str | None = None,
        resource: tuple[str, str] | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> list[Notification]:
        """Return the notifications that fit all that is given, newest first.

        `status` is one or several, `to` the recipient exactly as given to `send`, `since` a datetime with a time zone:
        created then or later. Without a `limit`, all of them.
        """
        query = as_query(
            now=self.context.clock.time(),
            status=status,
            to=to,
            channel=channel,
            resource=resource,
            since=since,
            limit=limit,
        )
        return [self._view(entry) for entry in await self._switchboard.ledger.find(query)]

    find = blocking(afind)

    @property
    @diverted
    def outbox(self) -> list[OutgoingMessage]:
        """What the local provider sent, oldest first: to assert on. The list is a copy.

        Raises `UnsupportedError` if no provider keeps an outbox.
        """
        lines = self._switchboard.lines
        keeping = [line for line in lines if NotificationCapability.OUTBOX in line.capabilities]
        if not keeping:
            self.require(NotificationCapability.OUTBOX)
        return [message for line in keeping for message in line.outbox]

    @operation
    async def awebhook(self, provider: str, headers: Mapping[str, str], body: bytes) -> list[DeliveryUpdate]:
        """Return what a webhook call of a provider reports. `body` is the raw body, on which the signature is verified.

        Of several providers of that name, the one answers that believes the signature. Raises `AuthenticationError` for
        a signature that is not good, `UnsupportedError` for a provider without webhooks, and `InvalidInputError` for a
        provider that is not there, headers that are no mapping of texts, or a body that cannot be read.
        """
        return await self._switchboard.parse_webhook(provider, check_headers(headers), check_body(body))

    webhook = blocking(awebhook)

    # Life cycle

    def renew(self) -> None:
        """Let a closed notifier be opened again, with its providers and its ledger."""
        super().renew()
        self._switchboard.renew()
        self._closing, self._recovery = Latch(), None

    async def _started(self) -> None:
        durable = LedgerCapability.DURABLE in self._switchboard.ledger.capabilities
        if durable and self.context.role != "emit":
            self._recovery = self.context.runtime.spawn(self._recover_by_itself(), "notification-recovery")

    async def _stopping(self) -> None:
        self._closing.set()
        await self._dispatch.drain(self._settings.timeout)
        if self._recovery is not None:
            await self._recovery.ended.wait(self._settings.timeout)
            self._recovery.cancel()

    async def _close(self, *, opened: bool) -> None:
        try:
            await super()._close(opened=opened)
        finally:
            await self._switchboard.close_all()

    async def _recover_by_itself(self) -> None:
        clock = self.context.clock
        while not self._closing.is_set():
            await self._dispatch.try_to_recover()
            await clock.wait(self._closing, self._settings.lease)

    # Outcomes

    async def _send_once(self, entry: LedgerEntry) -> Outcome:
        key = entry.notification.idempotency_key
        if key is None:
            return (await self._dispatch.send([entry]))[0]
        # Callers of this process wait for the one that sends; the ledger decides between processes.
        return await self._flights.run((key, entry.digest), lambda: self._send_alone(entry), lease=self._settings.lease)

    async def _send_alone(self, entry: LedgerEntry) -> Outcome:
        return (await self._dispatch.send([entry]))[0]

    async def _composed(self, request: NotificationRequest) -> LedgerEntry | PilotisError:
        try:
            return await self._composer.compose(request)
        except PilotisError as error:
            return error

    async def _entry(self, id: str) -> LedgerEntry:
        entry = await self._switchboard.ledger.read(check_text(id, "id"))
        if entry is None:
            raise NotFoundError(f"there is no notification {id!r}")
        return entry

    def _announced(self, outcome: Outcome) -> Notification:
        """Return the notification of an outcome, or raise what `send` promises to raise."""
        if outcome.refusal is not None:
            raise outcome.refusal
        notification = self._view(outcome.entry)
        if notification.status != "failed":
            return notification
        failure = NotificationFailedError(
            f"no provider of channel {notification.channel!r} accepted notification {notification.id}: "
            f"{notification.error}",
            retryable=any(getattr(error, "retryable", False) for error in outcome.errors),
        )
        failure.notification = notification
        raise failure from (outcome.errors[-1] if outcome.errors else None)

    def _seen(self, request: NotificationRequest, outcome: Outcome) -> Notification:
        return self._view(outcome.entry) if outcome.refusal is None else self._refused(request, outcome.refusal)

    def _refused(self, request: NotificationRequest, error: PilotisError) -> Notification:
        now = moment(self.context.clock)
        return Notification(
            id=new_id(self.context.clock),
            channel=str(request.channel),
            to=str(request.to),
            status="failed",
            created_at=now,
            updated_at=now,
            error=f"{type(error).__name__}: {error}",
        )

    def _view(self, entry: LedgerEntry) -> Notification:
        return replace(entry.notification, status=entry.status_at(self.context.clock.time()))


def _checked(settings: NotificationSettings) -> NotificationSettings:
    try:
        return _check_settings(settings)
    except InvalidInputError as error:
        path, _, why = str(error).partition(": ")
        raise ConfigurationError(why, path=path) from error


def _check_settings(settings: NotificationSettings) -> NotificationSettings:
    timeout = seconds(settings.timeout, "notification.timeout")
    if not 0 < timeout < seconds(settings.lease, "notification.lease"):
        raise ConfigurationError(
            f"expected a timeout above zero and below the lease, got {timeout:g} and {settings.lease:g} s: "
            f"a lease that ends first would let another process send again",
            path="notification.timeout",
        )
    if settings.attempts < 1:
        raise ConfigurationError(f"expected 1 or more, got {settings.attempts}", path="notification.attempts")
    if settings.on_unknown not in ("resend", "hold"):
        raise ConfigurationError(f"expected resend or hold, got {settings.on_unknown}", path="notification.on_unknown")
    if settings.sender is not None:
        check_address(settings.sender, EMAIL, "notification.sender")
    return settings
