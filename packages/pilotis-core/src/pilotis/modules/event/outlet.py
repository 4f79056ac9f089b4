"""The outbox of an event bus, as applications and operators see it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import final

from pilotis.bridge import blocking
from pilotis.context import Context
from pilotis.errors import OperationError
from pilotis.findings import Finding
from pilotis.modules.base import Portable, operation
from pilotis.modules.event.checks import check_count, texts
from pilotis.modules.event.outbox import (
    CallersConnection,
    HandOver,
    OutboxCapability,
    OutboxKind,
    OutboxProvider,
    OutboxRow,
    OutboxStatus,
    SetAside,
)
from pilotis.settings.model import OutboxSettings


@final
class Outbox(Portable[OutboxProvider]):
    """What was emitted in transactions and waits for a relay: `app.event.outbox`."""

    module = "outbox"

    def __init__(
        self, provider: OutboxProvider, *, settings: OutboxSettings | None = None, context: Context | None = None
    ) -> None:
        super().__init__(provider, context=context)
        self.settings = settings or OutboxSettings()
        self.on_written: Callable[[], object] | None = None
        """Called when rows were written that may be committed soon, where the provider does not tell of commits."""

    @property
    def dialect(self) -> str:
        """The kind of its database: `postgresql` or `sqlite`."""
        return self._own.dialect

    @property
    def bus(self) -> str:
        """Whose rows these are, among all that share the table."""
        name = self.context.name
        return name if self.instance == "default" else f"{name}/{self.instance}"

    @operation
    async def astatus(self) -> OutboxStatus:
        """Tell how many rows wait, and since when, and how many were set aside."""
        with self.calling("status"):
            return await self._provider.status(self.bus)

    status = blocking(astatus)

    @operation
    async def aaside(self, limit: int = 100) -> list[SetAside]:
        """Return rows that are not tried any more, the oldest first."""
        check_count(limit, "limit")
        with self.calling("aside"):
            return await self._provider.aside(self.bus, limit)

    aside = blocking(aaside)

    @operation
    async def aretry(self, ids: Collection[str] | str | None = None) -> int:
        """Have rows that were set aside tried again, with all their attempts, and return how many.

        `ids` are those of events and runs; None means all.
        """
        wanted = None if ids is None else texts(ids, "ids")
        with self.calling("retry"):
            retried = await self._provider.retry(self.bus, wanted)
        self.nudge()
        return retried

    retry = blocking(aretry)

    @operation
    async def adiscard(self, ids: Collection[str] | str | None = None) -> int:
        """Remove rows that were set aside for good, and return how many. `ids` as for `retry`."""
        wanted = None if ids is None else texts(ids, "ids")
        with self.calling("discard"):
            return await self._provider.discard(self.bus, wanted)

    discard = blocking(adiscard)

    @operation
    async def afindings(self) -> list[Finding]:
        """Tell of rows that were set aside, and of rows that have been waiting for much longer than the poll."""
        status = await self.astatus()
        found = [_aside(status)] if status.aside else []
        if (status.oldest or 0.0) > max(60.0, 10 * self.settings.poll):
            found.append(_late(status, self.context.clock.time()))
        return found

    findings = blocking(afindings)

    async def write(self, connection: CallersConnection, rows: Sequence[OutboxRow]) -> None:
        """Write rows through the connection of a caller, who commits them or does not."""
        with self.calling("write"):
            await self._provider.write(connection, self.bus, rows)

    def explain(self, error: Exception, operation: str) -> OperationError:
        """Make our error of a native one. What was written is known: it goes with the caller's transaction."""
        explained = super().explain(error, operation)
        if operation == "write":
            explained.outcome = None
        return explained

    async def relay(self, kinds: Collection[OutboxKind], hand_over: HandOver) -> int:
        """Have a batch of rows handed over, and return how many were claimed."""
        with self.calling("relay"):
            return await self._provider.relay(self.bus, kinds, self.settings.batch, hand_over)

    async def watch(self, wake: Callable[[], object]) -> None:
        """Have `wake` called soon after each commit of rows, until cancelled. Ends where the provider tells of none."""
        if OutboxCapability.WAKE in self._own.capabilities:
            with self.calling("watch"):
                await self._provider.watch(self.bus, wake)

    def nudge(self) -> None:
        """Say that there may be rows soon. Where the provider tells of commits, that does for it."""
        if self.on_written is not None and OutboxCapability.WAKE not in self._own.capabilities:
            self.on_written()


def _aside(status: OutboxStatus) -> Finding:
    return Finding(
        module="event",
        severity="warning",
        what="the outbox has rows that were set aside",
        why=f"{status.aside} were tried in vain, and are not tried any more",
        mend="pilotis outbox aside, then pilotis outbox retry or discard",
    )


def _late(status: OutboxStatus, now: float) -> Finding:
    oldest = status.oldest or 0.0
    return Finding(
        module="event",
        severity="stuck",
        what="the outbox is not relayed",
        why=f"the first of {status.waiting} rows that wait was written {oldest:.0f} s ago",
        since=datetime.fromtimestamp(now - oldest, UTC),
        mend="pilotis worker, or pilotis relay; its log tells what keeps it from handing over",
    )
