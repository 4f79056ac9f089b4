"""From a channel to its providers, and the life of all of them."""

from __future__ import annotations

import difflib
from collections.abc import Coroutine, Mapping, Sequence
from enum import Flag
from typing import Any, cast

from pilotis.bridge import gather
from pilotis.context import Context
from pilotis.errors import (
    AuthenticationError,
    ConfigurationError,
    InvalidInputError,
    OperationError,
    OperationTimeoutError,
    PilotisError,
)
from pilotis.modules.base import Portable
from pilotis.modules.notification.ledger import LedgerEntry, LedgerProvider, LedgerQuery
from pilotis.modules.notification.provider import (
    DeliveryUpdate,
    NotificationCapability,
    NotificationProvider,
    OutgoingMessage,
    Receipt,
)
from pilotis.provider import Provider

ANY_CHANNEL = "*"
"""The route of every channel that has none of its own."""

Answer = Receipt | OperationError
Chain = tuple["Line", ...]
Routes = Mapping[str, Sequence[NotificationProvider] | NotificationProvider]


class Line(Portable[NotificationProvider]):
    """One provider: opened at first use, its errors made ours, its time limit kept."""

    module = "notification"

    @property
    def batch(self) -> int:
        return self._own.batch

    @property
    def outbox(self) -> list[OutgoingMessage]:
        self.require(NotificationCapability.OUTBOX)
        return self._own.outbox

    def lacks(self, message: OutgoingMessage) -> str | None:
        """Name what a message needs and the provider does not have, None where it has everything."""
        if message.content is None and NotificationCapability.TEMPLATES not in self.capabilities:
            return "TEMPLATES"
        if message.attachments and NotificationCapability.ATTACHMENTS not in self.capabilities:
            return "ATTACHMENTS"
        return None

    def refusal(self, message: OutgoingMessage) -> InvalidInputError | None:
        """Return why the provider would surely refuse a message, None where it may take it."""
        try:
            self._own.check(message)
        except InvalidInputError as error:
            return error
        return None

    async def send(self, messages: Sequence[OutgoingMessage], limit: float) -> list[Answer]:
        """Return what became of each message. After `limit` seconds the rest is a time-out."""
        if NotificationCapability.IMMEDIATE in self.capabilities:
            return await self._ask(messages)
        answers: list[Answer] = []

        async def ask() -> None:
            answers.extend(await self._ask(messages))

        # On the background loop, because a call cannot be given up by the thread or task that makes it.
        job = self.context.runtime.spawn(ask(), "notification-send")
        try:
            await self.context.clock.wait(job.ended, limit)
        finally:
            if not job.ended.is_set():
                job.cancel()
        late = OperationTimeoutError(f"{self.provider_name} did not answer within {limit:g} s")
        return list(answers) or [late for _ in messages]

    async def parse_webhook(self, headers: Mapping[str, str], body: bytes) -> list[DeliveryUpdate]:
        self.require(NotificationCapability.WEBHOOKS)
        with self.calling("webhook"):
            return await self._provider.parse_webhook(headers, body)

    async def _ask(self, messages: Sequence[OutgoingMessage]) -> list[Answer]:
        try:
            await self.aopen()
            answers = await self._provider.send(messages)
        except Exception as error:
            return [self._explained(error) for _ in messages]
        if len(answers) != len(messages):
            lost = OperationTimeoutError(f"{self.provider_name} answered {len(answers)} of {len(messages)} messages")
            return [lost for _ in messages]
        return [answer if isinstance(answer, Receipt) else self._explained(answer) for answer in answers]

    def _explained(self, error: Exception) -> OperationError:
        if isinstance(error, OperationError):
            return error
        explained = self.explain(error, "send")
        explained.__cause__ = error
        return explained


class LedgerLine(Portable[LedgerProvider]):
    """The ledger: opened at first use, its errors made ours."""

    module = "notification"

    async def record(self, entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
        with self.calling("record"):
            return await self._provider.record(entries)

    async def replace(self, entries: Sequence[LedgerEntry]) -> list[bool]:
        with self.calling("replace"):
            return await self._provider.replace(entries)

    async def read(self, id: str) -> LedgerEntry | None:
        with self.calling("read"):
            return (await self._provider.read([id]))[0]

    async def find(self, query: LedgerQuery) -> list[LedgerEntry]:
        with self.calling("find"):
            return await self._provider.find(query)


class Switchboard(Provider):
    """All providers of a notifier and its ledger, seen as one provider: opened, pinged and closed together."""

    def __init__(self, routes: Routes | NotificationProvider, ledger: LedgerProvider, context: Context) -> None:
        super().__init__()
        self._context = context
        self.ledger = LedgerLine(ledger, context=context)
        self._known: dict[int, Line] = {}
        table = routes if isinstance(routes, Mapping) else {ANY_CHANNEL: routes}
        self._chains = {channel: self._chain(channel, providers) for channel, providers in table.items()}
        self.lines = list(self._known.values())
        self.name = ", ".join(dict.fromkeys(line.provider_name for line in self.lines))
        # Of the instance: what every channel has, whichever provider it ends up with.
        self.capabilities = _common(self.lines)  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def address(self) -> str:
        return ", ".join(dict.fromkeys(line.address for line in self.lines))

    def chain(self, channel: str) -> Chain:
        """Return the providers of a channel, in the order in which they are tried; none where it is switched off.

        Raises `InvalidInputError` for a channel without a route.
        """
        chain = self._chains.get(channel, self._chains.get(ANY_CHANNEL))
        if chain is None:
            near = difflib.get_close_matches(channel, self._chains, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            known = ", ".join(sorted(self._chains)) or "none"
            raise InvalidInputError(f"channel: there is no channel {channel!r} (there are: {known}){hint}")
        return chain

    async def parse_webhook(self, name: str, headers: Mapping[str, str], body: bytes) -> list[DeliveryUpdate]:
        """Return what the provider of that name reads; of several, such as two accounts, the one that believes it.

        Raises `InvalidInputError` where there is none, and what the last one raises where none believes it.
        """
        refusal: PilotisError = InvalidInputError(
            f"provider: there is no provider {name!r} (there are: {self.name or 'none'})"
        )
        for line in self.lines:
            if line.provider_name == name:
                try:
                    return await line.parse_webhook(headers, body)
                except AuthenticationError as error:
                    refusal = error
        raise refusal

    def renew(self) -> None:
        """Let all be opened again."""
        for part in (*self.lines, self.ledger):
            part.renew()

    async def migrate(self) -> list[str]:
        return [change for part in (*self.lines, self.ledger) for change in await part.amigrate()]

    async def ping(self) -> None:
        """Ping all, side by side; what is not open yet is opened, which pings it.

        One that fails leaves the others open: the next attempt goes on from there.
        """
        parts = (*self.lines, self.ledger)
        await gather(*(part.aping() if part.is_open else part.aopen() for part in parts))

    async def close_all(self) -> None:
        """Close all for good, each even where another fails; the first error is raised."""
        errors = await gather(*(_error_of(part.aclose()) for part in (*self.lines, self.ledger)))
        for error in errors:
            if error is not None:
                raise error

    def native(self, kind: type[Any]) -> object | None:
        for line in (*self.lines, self.ledger):
            try:
                return line.native(kind)
            except TypeError:
                continue
        return None

    def _chain(self, channel: object, providers: object) -> Chain:
        if not isinstance(channel, str) or not channel:
            raise ConfigurationError("expected the name of a channel", path="notification.channels")
        several = isinstance(providers, (list, tuple))
        items: Sequence[object] = cast("Sequence[object]", providers) if several else (providers,)
        return tuple(self._line(_checked(item, channel)) for item in items)

    def _line(self, provider: NotificationProvider) -> Line:
        if id(provider) not in self._known:
            self._known[id(provider)] = Line(provider, context=self._context)
        return self._known[id(provider)]


def _checked(provider: object, channel: str) -> NotificationProvider:
    if not isinstance(provider, NotificationProvider):
        raise ConfigurationError(
            f"expected a NotificationProvider or a list of them, got {type(provider).__name__}",
            path=f"notification.channels.{channel}",
        )
    return provider


def _common(lines: Sequence[Line]) -> Flag:
    common: Flag = ~NotificationCapability(0) if lines else NotificationCapability(0)
    for line in lines:
        common = common & line.capabilities
    return common


async def _error_of(closing: Coroutine[Any, Any, None]) -> Exception | None:
    try:
        await closing
    except Exception as error:
        return error
    return None
