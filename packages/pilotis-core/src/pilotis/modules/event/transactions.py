"""Blocks whose events leave with the caller's own transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from pilotis.errors import InvalidInputError, UsageError
from pilotis.modules.event.connections import as_callers
from pilotis.modules.event.outbox import OutboxRow
from pilotis.modules.event.outlet import Outbox
from pilotis.modules.event.provider import OutgoingEvent
from pilotis.modules.event.rows import event_row, run_row
from pilotis.scopes import Around, Stage, stage, transaction

if TYPE_CHECKING:
    from pilotis.modules.event.relaying import Relaying


class Transaction:
    """A block whose events, and starts of workflows, are written through the caller's connection.

    `with bus.transaction(connection):` or `async with`. Commit and rollback stay with the caller, inside the block or
    after it: what is committed is sent soon, what is rolled back never was. Threads and tasks that are started inside
    see the block, and must be done with it when it ends: after that they raise `UsageError`. Events of another bus go
    into that bus's outbox, through the same connection. A block is entered once at a time: `UsageError`.
    """

    def __init__(self, bus: Relaying, connection: object) -> None:
        """Take the caller's connection. Raises InvalidInputError for one that the bus's outbox cannot write through."""
        self._bus = bus
        outbox = bus.outbox
        self._connection = as_callers(connection)
        self._check_dialect(outbox)
        self._entered = False
        self._written: dict[Outbox, None] = {}
        self._outer: tuple[Stage | None, Around | None] = None, None

    async def stage(self, bus: Any, messages: Sequence[OutgoingEvent]) -> None:
        """Write events of a bus into its outbox."""
        now = self._bus.context.clock.time()
        await self._write(bus, [event_row(message, now) for message in messages])

    async def stage_run(self, run: Any, instance: str) -> None:
        """Write the start of a run into the outbox; `instance` is that of its workflow module."""
        await self._write(self._bus, [run_row(run, instance)])

    async def _write(self, bus: Relaying, rows: Sequence[OutboxRow]) -> None:
        if not self._entered:
            raise UsageError(
                "the transaction's block has ended, and this belongs to a thread or task that was started in it; wait "
                "for it inside the block, or emit with now=True"
            )
        outbox = bus.outbox
        self._check_dialect(outbox)
        await outbox.write(self._connection, rows)
        self._written[outbox] = None

    def _check_dialect(self, outbox: Outbox) -> None:
        if self._connection.dialect != outbox.dialect:
            raise InvalidInputError(
                f"connection: expected one to the database of the outbox ({outbox.address}), which is "
                f"{outbox.dialect}; got one to {self._connection.dialect}"
            )

    def __enter__(self) -> Self:
        if self._entered:
            raise UsageError("this transaction is entered already; make one of its own for each block")
        self._entered = True
        self._outer = stage.get(), transaction.get()
        stage.set(self)
        transaction.set(self)
        return self

    def __exit__(self, *error: object) -> None:
        stage.set(self._outer[0])
        transaction.set(self._outer[1])
        self._entered = False
        for outbox in self._written:
            outbox.nudge()
        self._written.clear()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *error: object) -> None:
        self.__exit__()
