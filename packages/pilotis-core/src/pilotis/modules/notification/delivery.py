"""The way of recorded notifications through the providers of their channel."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from pilotis.bridge import finish, gather
from pilotis.clock import Clock
from pilotis.codec import JSON
from pilotis.errors import (
    InvalidInputError,
    OperationError,
    OperationTimeoutError,
    PilotisError,
    ThrottledError,
    UnsupportedError,
)
from pilotis.modules.notification.ledger import LedgerEntry
from pilotis.modules.notification.model import Status
from pilotis.modules.notification.provider import OutgoingMessage, Receipt
from pilotis.modules.notification.routes import Answer, Chain, LedgerLine, Line, Switchboard
from pilotis.modules.notification.underway import Underway
from pilotis.settings.model import NotificationSettings

Changes = Mapping[str, Any]
"""Fields of a `Notification` and their new values."""

logger = logging.getLogger("pilotis.notification")


class Parcel:
    """A notification under way: its entry as it was written down last, and the errors it met."""

    def __init__(self, entry: LedgerEntry) -> None:
        self.entry = entry
        self.message: OutgoingMessage = JSON.decode(entry.message, OutgoingMessage, "message")
        self.ours = True
        """False once another sender has taken it over."""
        self.errors: dict[Line, PilotisError] = {}
        """The last error of each provider that was tried."""
        self.end: Changes | None = None
        """What became of it, as soon as that is known."""

    @property
    def underway(self) -> bool:
        """Whether this sender still has to say what became of it."""
        return self.ours and self.entry.leased_until is not None

    def met(self, line: Line, error: PilotisError) -> None:
        self.errors[line] = error

    def reasons(self) -> str | None:
        """Return the errors in words, provider by provider."""
        told = (f"{line.provider_name}: {type(error).__name__}: {error}" for line, error in self.errors.items())
        return "; ".join(told) or None


class Delivery:
    """Hands recorded notifications to providers, and writes down what became of each.

    Every call of a provider is written down first, with a lease that outlasts the call; so do the leases of those that
    wait for their turn. A notification whose lease was lost meanwhile belongs to somebody else, who settles it.
    """

    def __init__(self, switchboard: Switchboard, settings: NotificationSettings, clock: Clock) -> None:
        self._switchboard = switchboard
        self._ledger: LedgerLine = switchboard.ledger
        self._settings = settings
        self._clock = clock
        self.underway = Underway()

    async def deliver(self, entries: Sequence[LedgerEntry]) -> list[Parcel]:
        """Take entries that the caller holds the lease of to an end, whatever it is, and return them in order."""
        parcels = [Parcel(entry) for entry in entries]
        channels: dict[str, list[Parcel]] = {}
        for parcel in parcels:
            channels.setdefault(parcel.message.channel, []).append(parcel)
        with self.underway:
            try:
                await gather(*(self._deliver_on(channel, group) for channel, group in channels.items()))
            except BaseException:
                await finish(self._abandon([parcel for parcel in parcels if parcel.underway]))
                raise
        return parcels

    async def _deliver_on(self, channel: str, parcels: list[Parcel]) -> None:
        try:
            chain = self._switchboard.chain(channel)
        except InvalidInputError as error:  # other settings than those under which it was recorded
            await self._settle(parcels, "failed", str(error))
            return
        dry = [parcel for parcel in parcels if parcel.message.dry_run]
        wet = [parcel for parcel in parcels if not parcel.message.dry_run]
        await self._settle(dry, "simulated")
        if chain:
            await self._through(chain, wet)
        else:
            await self._settle(wet, "skipped")

    async def _through(self, chain: Chain, parcels: list[Parcel]) -> None:
        for line in chain:
            parcels = await self._persist(line, parcels)
        await self._settle(parcels, "failed")

    async def _persist(self, line: Line, parcels: list[Parcel]) -> list[Parcel]:
        """Try one provider until its attempts are used up. Returns what is left for the next provider."""
        all_of_them, fallen, kept_until = parcels, list[Parcel](), 0.0
        for attempt in range(1, self._settings.attempts + 1):
            tried: list[Parcel] = []
            for batch in _batches(parcels, line.batch):
                if kept_until <= self._clock.time() + self._settings.timeout:
                    kept_until = await self._keep(all_of_them)
                tried += await self._attempt(line, batch)
            parcels = [parcel for parcel in tried if self._may_try_again(line, parcel)]
            fallen += [parcel for parcel in tried if parcel not in parcels]
            if not parcels or attempt == self._settings.attempts:
                break
            await self._wait(all_of_them, self._pause(line, parcels, attempt))
        return fallen + parcels

    async def _keep(self, parcels: list[Parcel]) -> float:
        """Renew the leases that could end in the next call, which is not about all. Returns when the first one ends."""
        soon = self._clock.time() + self._settings.timeout
        short = [parcel for parcel in parcels if parcel.underway and (parcel.entry.leased_until or 0) <= soon]
        await self._write([(parcel, {}) for parcel in short], self._lease_end())
        return min((parcel.entry.leased_until or 0 for parcel in parcels if parcel.underway), default=math.inf)

    def _may_try_again(self, line: Line, parcel: Parcel) -> bool:
        error = parcel.errors[line]
        patient = not isinstance(error, ThrottledError) or (error.retry_after or 0) <= self._settings.lease
        return isinstance(error, OperationError) and error.retryable and patient

    def _pause(self, line: Line, parcels: list[Parcel], attempt: int) -> float:
        """Return how many seconds to wait after an attempt: as many as the most patient asks for."""
        errors = [parcel.errors[line] for parcel in parcels]
        asked = [error.retry_after or 0 for error in errors if isinstance(error, ThrottledError)]
        return max([self._settings.backoff.delay(attempt), *asked])

    async def _wait(self, parcels: list[Parcel], pause: float) -> None:
        await self._write([(parcel, {}) for parcel in parcels if parcel.underway], self._lease_end(pause))
        await self._clock.pause(pause)

    async def _attempt(self, line: Line, parcels: list[Parcel]) -> list[Parcel]:
        """Hand a batch to a provider, and settle all that has come to an end. Returns the others."""
        able = [parcel for parcel in parcels if self._is_able(line, parcel)]
        unsettled = [parcel for parcel in parcels if parcel not in able]
        sending = {"status": "sending", "provider": line.provider_name}
        sent = await self._write([(parcel, sending) for parcel in able], self._lease_end(), counted=1)
        answers = await line.send([parcel.message for parcel in sent], self._settings.timeout) if sent else []
        for parcel, answer in zip(sent, answers, strict=True):
            parcel.end = self._end_of(line, parcel, answer)
        await self._conclude(sent)
        return unsettled + [parcel for parcel in sent if parcel.end is None]

    def _is_able(self, line: Line, parcel: Parcel) -> bool:
        lacking = line.lacks(parcel.message)
        obstacle = UnsupportedError(lacking, line.provider_name) if lacking else line.refusal(parcel.message)
        if obstacle is not None:
            parcel.met(line, obstacle)
        return obstacle is None

    def _end_of(self, line: Line, parcel: Parcel, answer: Answer) -> Changes | None:
        """Return what an answer settles, None for one after which there is more to try."""
        if isinstance(answer, Receipt):
            return {"status": answer.status, "external_id": answer.external_id, "error": None}
        parcel.met(line, answer)
        logger.warning("notification %s: %s met %s", parcel.entry.id, line.provider_name, type(answer).__name__)
        if isinstance(answer, OperationTimeoutError):
            return {"status": "unknown", "error": parcel.reasons()}
        if isinstance(answer, InvalidInputError):
            return {"status": "failed", "error": parcel.reasons()}
        return None

    async def _settle(self, parcels: list[Parcel], status: Status, error: str | None = None) -> None:
        for parcel in parcels:
            parcel.end = {"status": status, "error": error or parcel.reasons()}
        await self._conclude(parcels)

    async def _conclude(self, parcels: list[Parcel]) -> None:
        await self._write([(parcel, parcel.end) for parcel in parcels if parcel.end is not None], None)

    async def _abandon(self, parcels: list[Parcel]) -> None:
        """Something went wrong in between: write down what is known, and of the others that nobody can tell any more.

        Should this fail too, the leases run out.
        """
        interrupted = {"status": "unknown", "error": "the sender was interrupted"}
        try:
            await self._write([(parcel, parcel.end or interrupted) for parcel in parcels], None)
        except Exception as error:
            logger.warning("%d notifications stay leased: the ledger met %s", len(parcels), type(error).__name__)

    async def _write(
        self, updates: list[tuple[Parcel, Changes]], leased_until: float | None, *, counted: int = 0
    ) -> list[Parcel]:
        """Write the next version of parcels that are still ours. Returns those that still are."""
        now = moment(self._clock)
        ours = [(parcel, changes) for parcel, changes in updates if parcel.ours]
        entries = [next_version(parcel.entry, now, leased_until, changes, counted) for parcel, changes in ours]
        written = await self._ledger.replace(entries) if entries else []
        for (parcel, _), entry, done in zip(ours, entries, written, strict=True):
            if done:
                parcel.entry = entry
            else:
                await self._lose(parcel)
        return [parcel for parcel, _ in ours if parcel.ours]

    async def _lose(self, parcel: Parcel) -> None:
        logger.warning("notification %s was taken over by another sender", parcel.entry.id)
        parcel.ours = False
        parcel.entry = await self._ledger.read(parcel.entry.id) or parcel.entry

    def _lease_end(self, pause: float = 0.0) -> float:
        return self._clock.time() + pause + self._settings.lease


def next_version(
    entry: LedgerEntry, now: datetime, leased_until: float | None, changes: Changes, counted: int = 0
) -> LedgerEntry:
    """Return the entry that comes after this one, with changes of its notification."""
    known = entry.notification
    notification = replace(known, updated_at=now, attempts=known.attempts + counted, **changes)
    return replace(entry, notification=notification, version=entry.version + 1, leased_until=leased_until)


def moment(clock: Clock) -> datetime:
    """Return the time of a clock, in UTC."""
    return datetime.fromtimestamp(clock.time(), UTC)


def _batches(parcels: Sequence[Parcel], size: int) -> Iterator[list[Parcel]]:
    for start in range(0, len(parcels), size):
        yield list(parcels[start : start + size])
