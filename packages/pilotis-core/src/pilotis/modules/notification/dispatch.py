"""Who sends what: keys, takeovers and recovery, on top of the ledger."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from pilotis.clock import Clock
from pilotis.errors import ConflictError, PilotisError
from pilotis.modules.notification.delivery import Delivery, moment, next_version
from pilotis.modules.notification.ledger import LedgerEntry, LedgerQuery
from pilotis.modules.notification.routes import Switchboard
from pilotis.settings.model import NotificationSettings

logger = logging.getLogger("pilotis.notification")

RECOVERED_AT_ONCE = 100


class Outcome(msgspec.Struct, frozen=True):
    """What became of an entry."""

    entry: LedgerEntry
    errors: tuple[PilotisError, ...] = ()
    """What its providers met, if it was sent just now."""
    refusal: ConflictError | None = None
    """Why it was not recorded at all."""


class Dispatch:
    """Sends each entry once: whoever recorded it, or took it over, delivers it."""

    def __init__(self, switchboard: Switchboard, settings: NotificationSettings, clock: Clock) -> None:
        self._ledger = switchboard.ledger
        self._delivery = Delivery(switchboard, settings, clock)
        self._settings = settings
        self._clock = clock

    async def send(self, entries: Sequence[LedgerEntry]) -> list[Outcome]:
        """Record entries and deliver those that are ours to send. Returns what became of each, in order."""
        if not entries:
            return []
        entries = [replace(entry, leased_until=self._clock.time() + self._settings.lease) for entry in entries]
        held = await self._ledger.record(entries)
        conflicts = [_conflict(entry, holder) for entry, holder in zip(entries, held, strict=True)]
        ours = {entry.id: entry for entry, holder in zip(entries, held, strict=True) if entry.id == holder.id}
        for place, (holder, conflict) in enumerate(zip(held, conflicts, strict=True)):
            if conflict is None and holder.id not in ours and self._is_wanted_again(holder):
                if taken := await self._take_over(holder):
                    ours[taken.id] = taken
                else:  # somebody else is at it
                    held[place] = await self._ledger.read(holder.id) or holder
        sent = await self._deliver(list(ours.values()))
        return [
            Outcome(holder, refusal=conflict) if conflict else sent.get(holder.id, Outcome(holder))
            for holder, conflict in zip(held, conflicts, strict=True)
        ]

    async def resend(self, entry: LedgerEntry) -> Outcome:
        """Deliver an entry again. Raises `ConflictError` while somebody else is at it."""
        if entry.status_at(self._clock.time()) in ("pending", "sending"):
            raise ConflictError(f"notification {entry.id} is being sent right now")
        taken = await self._take_over(entry)
        if taken is None:
            raise ConflictError(f"notification {entry.id} was taken over by another sender a moment ago")
        return (await self._deliver([taken]))[taken.id]

    async def recover(self) -> list[Outcome]:
        """Deliver what is unknown again, unless the settings hold it back or it was tried too often.

        A part after the other, for there may be much. When nobody answers for any of a part, the others are left to the
        next time.
        """
        outcomes: list[Outcome] = []
        missed: set[str] = set()
        while part := await self._unknown(missed):
            taken = [mine for entry in part if (mine := await self._take_over(entry))]
            delivered = (await self._deliver(taken)).values()
            outcomes += delivered
            answered = {outcome.entry.id for outcome in delivered if outcome.entry.notification.status != "unknown"}
            missed |= {entry.id for entry in part} - answered
            if delivered and not answered:
                break
        return outcomes

    async def _unknown(self, missed: set[str]) -> list[LedgerEntry]:
        """Return some of what is to be recovered, but for what was missed before."""
        if self._settings.on_unknown == "hold":
            return []
        query = LedgerQuery(
            now=self._clock.time(),
            statuses=("unknown",),
            takeovers_below=self._settings.attempts,
            limit=RECOVERED_AT_ONCE + len(missed),
        )
        return [entry for entry in await self._ledger.find(query) if entry.id not in missed][:RECOVERED_AT_ONCE]

    async def try_to_recover(self) -> None:
        """Recover, and leave it to the next time if that fails."""
        try:
            await self.recover()
        except Exception as error:
            logger.warning("unknown notifications could not be sent again: %s", type(error).__name__)

    async def drain(self, limit: float) -> None:
        """Wait for what is being sent, at most `limit` real seconds."""
        if not await self._delivery.underway.end(limit):
            logger.warning("notifications are still being sent after %g s: their outcome will be unknown", limit)

    async def _deliver(self, entries: list[LedgerEntry]) -> dict[str, Outcome]:
        parcels = await self._delivery.deliver(entries)
        return {parcel.entry.id: Outcome(parcel.entry, tuple(parcel.errors.values())) for parcel in parcels}

    def _is_wanted_again(self, holder: LedgerEntry) -> bool:
        """Tell whether the next user of a key wants what was sent under it to be sent again."""
        status = holder.status_at(self._clock.time())
        return status == "failed" or (status == "unknown" and self._settings.on_unknown == "resend")

    async def _take_over(self, entry: LedgerEntry) -> LedgerEntry | None:
        """Take the lease of an entry. Returns None if another sender was faster."""
        now = self._clock.time()
        unknown = entry.status_at(now) == "unknown"
        leased = next_version(
            entry, moment(self._clock), now + self._settings.lease, {"status": "pending", "error": None}
        )
        mine = replace(leased, takeovers=entry.takeovers + 1 if unknown else entry.takeovers)
        return mine if (await self._ledger.replace([mine]))[0] else None


def _conflict(entry: LedgerEntry, holder: LedgerEntry) -> ConflictError | None:
    if entry.digest == holder.digest:
        return None
    return ConflictError(
        f"idempotency key {entry.notification.idempotency_key!r} was used for another message "
        f"(notification {holder.id}); a new message needs a new key"
    )
