"""The part of the event bus that has to do with the caller's transactions, and with what they leave in the outbox."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from pilotis.bridge import blocking
from pilotis.context import Context
from pilotis.errors import ProviderNotFoundError, UnsupportedError
from pilotis.findings import Finding
from pilotis.modules.base import diverted
from pilotis.modules.event.operations import LaneOperations
from pilotis.modules.event.outbox import OutboxKind
from pilotis.modules.event.outlet import Outbox
from pilotis.modules.event.provider import Emitted, EventProvider, OutgoingEvent
from pilotis.modules.event.relay import Relay
from pilotis.modules.event.transactions import Transaction
from pilotis.settings.model import EventSettings

if TYPE_CHECKING:
    from pilotis.modules.workflow import WorkflowEngine


class Relaying(LaneOperations):
    """The part of the event bus that has an outbox, or has none."""

    def __init__(
        self, provider: EventProvider, settings: EventSettings, context: Context | None, outbox: Outbox | None
    ) -> None:
        super().__init__(provider, context=context)
        self.settings = settings
        self._outbox = outbox
        self._relay = None if outbox is None else Relay(outbox, self.asend, self._start_run)

    @property
    @diverted
    def outbox(self) -> Outbox:
        """What was emitted in transactions and waits for a relay. Raises UnsupportedError where none is configured."""
        if self._outbox is None:
            raise UnsupportedError(
                "transactions without an outbox (set event.outbox to the URL of the database)", self.provider_name
            )
        return self._outbox

    @diverted
    def transaction(self, connection: object) -> Transaction:
        """Return a block, `with` or `async with`, whose events leave with the caller's own database transaction.

        `connection` is the caller's: of sqlite3, psycopg 3, SQLAlchemy or Django, in either colour. Events and starts
        of workflows inside the block are written through it into the outbox; commit and rollback stay with the caller.
        Does no I/O. Raises InvalidInputError for what is no such connection, or not one to the kind of database that
        the outbox is in, and UnsupportedError where no outbox is configured.
        """
        return Transaction(self, connection)

    async def abegin_relay(self) -> None:
        """Hand over what comes into the outbox, whatever the role. Opening a bus that works does so too.

        Raises UnsupportedError where no outbox is configured.
        """
        await self.outbox.aopen()
        await self.aopen()
        self._begin_relay()

    begin_relay = blocking(abegin_relay)

    async def aping(self) -> None:
        """Raise if the backend, or the database of the outbox, cannot be used now."""
        await super().aping()
        if self._outbox is not None:
            await self._outbox.aping()

    ping = blocking(aping)

    async def afindings(self) -> list[Finding]:
        """Tell what is wrong with lanes, and, where there is an outbox, with it; see `Outbox.findings`.

        While the relay of this process waits for what it needs, that is told, and the outbox is not asked.
        """
        found = await super().afindings()
        if self._outbox is None or self._relay is None:
            return found
        return [*found, *(self._relay.findings() or await self._outbox.afindings())]

    findings = blocking(afindings)

    def renew(self) -> None:
        """Let a closed bus be opened again, and its outbox."""
        super().renew()
        if self._outbox is not None:
            self._outbox.renew()
        self._reset_relay()

    async def aclose(self) -> None:
        """Close the bus, and then its outbox."""
        try:
            await super().aclose()
        finally:
            if self._outbox is not None:
                await self._outbox.aclose()

    close = blocking(aclose)

    def asend(self, events: Sequence[OutgoingEvent]) -> Coroutine[Any, Any, list[Emitted]]:
        """Send events that were kept back."""
        raise NotImplementedError

    # The relay

    def _reset_relay(self) -> None:
        if self._relay is not None:
            self._relay.reset()

    def _begin_relay(self) -> None:
        if self._relay is not None:
            self._relay.begin(self._relayed())

    async def _stop_relay(self) -> None:
        if self._relay is not None:
            await self._relay.stop(self.context.patience(self.settings.grace))

    async def _caught_up(self, timeout: float | None) -> bool:
        return self._relay is None or await self._relay.caught_up(timeout)

    def _relayed(self) -> tuple[OutboxKind, ...]:
        """Return what the relay takes: starts of runs only where whoever works on them would see them."""
        owner: Any = self.owner
        try:
            engine: WorkflowEngine | None = None if owner is None else owner.workflow
        except ProviderNotFoundError:
            engine = None
        seen = engine is not None and (engine.shared or self.context.role != "emit")
        return ("event", "run") if seen else ("event",)

    async def _start_run(self, instance: str, run: Any) -> None:
        owner: Any = self.owner
        await owner.module("workflow", instance).abegin(run)
