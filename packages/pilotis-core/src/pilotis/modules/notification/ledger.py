"""The ledger: every notification is written down before it is sent. Its interface, and one in memory."""

from __future__ import annotations

import itertools
import threading
from abc import abstractmethod
from collections.abc import Sequence
from datetime import datetime
from enum import Flag, auto
from typing import ClassVar

import msgspec

from pilotis.bridge import reset_after_fork
from pilotis.modules.notification.model import Notification, Status
from pilotis.provider import Provider


class LedgerCapability(Flag):
    """What a ledger may guarantee."""

    DURABLE = auto()
    """Entries outlive the process, so that another one can go on after a crash."""


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One notification in the ledger, with what it takes to send it again."""

    notification: Notification
    message: bytes
    """The rendered message, encoded."""
    digest: str
    """Of what the caller asked for: the idempotency key stands for this and nothing else."""
    version: int = 1
    """Grows by one with every change: whoever changes an older one has lost it to somebody else."""
    leased_until: float | None = None
    """While pending or sending: when its sender counts as crashed, in seconds since 1970."""
    takeovers: int = 0
    """How often it was sent again because its outcome was unknown."""

    @property
    def id(self) -> str:
        return self.notification.id

    def status_at(self, now: float) -> Status:
        """Return the status as it is at `now`: a lease that has ended makes the outcome unknown."""
        expired = self.leased_until is not None and self.leased_until <= now
        return "unknown" if expired else self.notification.status


class LedgerQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries to find: those that fit everything that is not None."""

    now: float
    """What `LedgerEntry.status_at` is asked with, in seconds since 1970."""
    statuses: tuple[Status, ...] | None = None
    to: str | None = None
    channel: str | None = None
    resource: tuple[str, str] | None = None
    since: datetime | None = None
    """Created at this time or later."""
    takeovers_below: int | None = None
    """Sent again fewer times than this because its outcome was unknown."""
    limit: int | None = None

    def fits(self, entry: LedgerEntry) -> bool:
        """Tell whether an entry is asked for: what an implementation without a query language needs."""
        known = entry.notification
        return (
            (self.statuses is None or entry.status_at(self.now) in self.statuses)
            and self.to in (None, known.to)
            and self.channel in (None, known.channel)
            and self.resource in (None, known.resource)
            and (self.since is None or known.created_at >= self.since)
            and (self.takeovers_below is None or entry.takeovers < self.takeovers_below)
        )


class LedgerProvider(Provider):
    """Keeps the entries of notifications. Every verb may be called from many threads, loops and processes at once.

    Each entry is recorded or replaced atomically; a batch as a whole need not be. Nothing is retried, and no verb
    waits longer than its backend takes to answer.
    """

    capabilities: ClassVar[Flag] = LedgerCapability(0)

    @abstractmethod
    async def record(self, entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
        """Write down each entry whose idempotency key is free, and return for each what the ledger now holds.

        An entry without a key is always written. Where another entry has the key, nothing is written, and that other
        one is returned: of any number of callers with the same key, exactly one finds its own entry in the answer.
        That holds within one call too, in the order of the entries. Ids are unique, and never recorded twice.
        """

    @abstractmethod
    async def replace(self, entries: Sequence[LedgerEntry]) -> list[bool]:
        """Put each entry in place of the stored one with the same id, if that is exactly one version older.

        Returns for each whether it was put there: False where somebody else was faster, or where there is none.
        """

    @abstractmethod
    async def read(self, ids: Sequence[str]) -> list[LedgerEntry | None]:
        """Return the entry of each id, in the same order, None where there is none."""

    @abstractmethod
    async def find(self, query: LedgerQuery) -> list[LedgerEntry]:
        """Return the entries that fit, newest first, at most `query.limit`. Without a limit, all of them."""


class MemoryLedgerOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the ledger in memory."""

    max_entries: int = 10_000
    """When there are more, the oldest that nobody is sending are forgotten, and their keys with them."""

    def __post_init__(self) -> None:
        if self.max_entries < 1:
            raise ValueError(f"max_entries: expected 1 or more, got {self.max_entries}")


class MemoryLedger(LedgerProvider):
    """A ledger for one process, gone when it ends."""

    Options = MemoryLedgerOptions

    def __init__(self, options: MemoryLedgerOptions | None = None) -> None:
        super().__init__(options)
        self.name = "memory"
        self._lock = threading.Lock()
        self._entries: dict[str, LedgerEntry] = {}
        self._keys: dict[str, str] = {}
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Forget what the parent is sending: that is the parent's to finish."""
        self._lock = threading.Lock()
        for entry in [entry for entry in self._entries.values() if entry.leased_until is not None]:
            self._forget(entry)

    async def record(self, entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
        with self._lock:
            held = [self._add(entry) for entry in entries]
            self._shrink()
        return held

    async def replace(self, entries: Sequence[LedgerEntry]) -> list[bool]:
        with self._lock:
            return [self._exchange(entry) for entry in entries]

    async def read(self, ids: Sequence[str]) -> list[LedgerEntry | None]:
        with self._lock:
            return [self._entries.get(id) for id in ids]

    async def find(self, query: LedgerQuery) -> list[LedgerEntry]:
        with self._lock:
            entries = list(self._entries.values())
        return [entry for entry in reversed(entries) if query.fits(entry)][: query.limit]

    def _add(self, entry: LedgerEntry) -> LedgerEntry:
        key = entry.notification.idempotency_key
        if key is not None:
            holder = self._keys.setdefault(key, entry.id)
            if holder != entry.id:
                return self._entries[holder]
        self._entries[entry.id] = entry
        return entry

    def _exchange(self, entry: LedgerEntry) -> bool:
        stored = self._entries.get(entry.id)
        if stored is None or stored.version != entry.version - 1:
            return False
        self._entries[entry.id] = entry
        return True

    def _shrink(self) -> None:
        excess = len(self._entries) - self.options.max_entries
        if excess > 0:
            settled = (entry for entry in self._entries.values() if entry.leased_until is None)
            for entry in list(itertools.islice(settled, excess)):
                self._forget(entry)

    def _forget(self, entry: LedgerEntry) -> None:
        del self._entries[entry.id]
        if entry.notification.idempotency_key is not None:
            del self._keys[entry.notification.idempotency_key]
