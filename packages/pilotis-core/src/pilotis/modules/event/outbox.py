"""What stands behind `event.transaction`: a table in the application's own database, and how it is emptied."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from enum import Flag, auto
from typing import Any, ClassVar, Literal, Protocol

import msgspec

from pilotis.provider import Provider

OutboxKind = Literal["event", "run"]


class OutboxCapability(Flag):
    """What an outbox may guarantee beyond handing over what was committed."""

    NONE = 0
    WAKE = auto()
    """Relays of all processes are woken by a commit; otherwise only those of its own process, and the others poll."""


class OutboxRow(msgspec.Struct, frozen=True, kw_only=True):
    """Something that leaves when the caller's transaction is committed."""

    kind: OutboxKind
    """An event, or the start of a workflow run."""
    id: str
    """Of the event or the run: fixed when it is written, so that handing it over twice is noticed."""
    name: str
    """Of the event or the workflow."""
    key: str | None = None
    """Rows of one key are handed over one after the other, in the order in which they were written."""
    body: str
    """All that it takes to hand it over, as JSON; opaque to the provider."""


class ClaimedRow(OutboxRow, frozen=True, kw_only=True):
    """A row that a relay has in its hands."""

    position: int
    """Names the row, and grows with each one."""
    attempts: int
    """How often it was tried in vain."""


class Handed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a claimed row."""

    row: ClaimedRow
    verdict: Literal["done", "kept", "retry", "aside"]
    """Handed over; not tried; tried in vain, to be tried again or, by now, no more."""
    delay: float = 0.0
    """Of "retry": the seconds to wait."""
    error: str = ""
    """Of "retry" and "aside": the type and message of the error."""


class SetAside(msgspec.Struct, frozen=True, kw_only=True):
    """A row that is not tried any more: nothing of its kind was wrong but itself."""

    id: str
    kind: OutboxKind
    name: str
    key: str | None
    body: str
    """As JSON."""
    attempts: int
    error: str
    written_at: datetime
    """In UTC."""
    set_aside_at: datetime
    """In UTC."""


class OutboxStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How an outbox is doing."""

    waiting: int
    """Rows that are to be handed over, those among them that are to be tried again included."""
    oldest: float | None
    """For how many seconds the first of those has been waiting. None where nothing waits."""
    retrying: int
    """Rows that were tried in vain and are to be tried again."""
    aside: int
    """Rows that were set aside."""


class CallersConnection(Protocol):
    """The caller's own connection, whatever its kind, as an outbox writes through it."""

    dialect: str
    """Of its database: `postgresql`, `sqlite`, or another one's name."""

    async def execute(self, statement: str, values: Mapping[str, Any]) -> None:
        """Run one statement in the caller's transaction. `:name` in it stands for the value of that name."""
        ...


HandOver = Callable[[Sequence[ClaimedRow]], Awaitable[Sequence[Handed]]]


class OutboxProvider(Provider):
    """Keeps rows in a table of the application's database until a relay hands them over.

    `bus` names whose rows they are: a service, and its event bus where it has several. Several may share a table.
    Every verb may be called from many threads, loops and processes at once, and takes milliseconds, except `relay`,
    which takes as long as what it calls. Nothing is retried here.
    """

    capabilities: ClassVar[OutboxCapability]  # pyright: ignore[reportIncompatibleVariableOverride]

    dialect: ClassVar[str]
    """The database whose connections `write` takes, as `CallersConnection.dialect` names it."""

    @abstractmethod
    async def write(self, connection: CallersConnection, bus: str, rows: Sequence[OutboxRow]) -> None:
        """Write rows through the caller's connection, in their order, and leave commit and rollback to the caller.

        Needs no open provider. Two transactions that write rows of one key come one after the other: the second waits
        here until the first has ended, so that their rows become visible in the order of their positions.
        """

    @abstractmethod
    async def relay(self, bus: str, kinds: Collection[OutboxKind], limit: int, hand_over: HandOver) -> int:
        """Claim committed rows, at most `limit`, have them handed over, and act on what became of each.

        Returns how many were claimed; where there are none, `hand_over` is not called. They come in the order of their
        positions, those alone that are due, that no other relay has claimed, and before which no row of their key
        waits, is claimed by another relay or is due later. `hand_over` answers for each: "done" removes it, "kept"
        leaves it as it was, "retry" has it due after a delay with an attempt more, "aside" keeps it, with an attempt
        more, for people. Rows set aside hold up nobody. If `hand_over` raises or is cancelled, all are as they were,
        and so they are when the process dies: at once, or after a time that the provider tells.
        """

    @abstractmethod
    async def status(self, bus: str) -> OutboxStatus:
        """Tell how the outbox is doing."""

    @abstractmethod
    async def aside(self, bus: str, limit: int) -> list[SetAside]:
        """Return rows that were set aside, the oldest first."""

    @abstractmethod
    async def retry(self, bus: str, ids: Collection[str] | None) -> int:
        """Have rows that were set aside tried again, with all their attempts; None means all. Returns how many."""

    @abstractmethod
    async def discard(self, bus: str, ids: Collection[str] | None) -> int:
        """Remove rows that were set aside; None means all. Returns how many."""

    async def watch(self, bus: str, wake: Callable[[], object]) -> None:
        """With WAKE: call `wake` soon after each commit of rows, and once at the beginning, until it is cancelled.

        It does no harm to call it in vain. Raises when the backend is lost: then it is begun anew.
        """
