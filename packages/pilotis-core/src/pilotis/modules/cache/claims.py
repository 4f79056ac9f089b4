"""Single flight among processes: who computes a value says so in its key, and the others wait.

A claim is an entry whose value is a mark:

    1f <process, 8 bytes> <epochs of the tags, 8 bytes> <at random, 8 bytes>

It lasts for a lease and is renewed while its owner lives, so the claim of a process that dies is over with its lease.
The result takes the place of the mark, and only of the mark: whoever lost his claim, by a removal, by `set`, or because
he was stopped for longer than the lease, cannot overwrite what came after. The idea of a placeholder in the key itself
is that of rueidisaside (https://github.com/redis/rueidis).
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec

from pilotis.bridge import finish, reset_after_fork
from pilotis.clock import Clock
from pilotis.errors import OperationError
from pilotis.modules.cache.names import refresh_name
from pilotis.modules.cache.provider import CLAIM_MARK, Entry
from pilotis.modules.cache.store import Found, Store

logger = logging.getLogger("pilotis.cache")

LONGEST_LEASES = 10
"""For how many leases a claim is renewed: a factory that takes longer is taken for one that hangs."""
RENEWALS = 3
"""In each lease."""
GRACE = 0.002
"""Seconds: the backend may round what is left of a claim down."""

_PART = 8
_PROCESS = slice(1, 1 + _PART)
_EPOCHS = slice(1 + _PART, 1 + 2 * _PART)


class Quest(msgspec.Struct, frozen=True):
    """What is looked for, and which entry will do."""

    tags: Sequence[str]
    epochs: Mapping[str, int]
    """Of the tags, from before."""
    type: Any
    outdated: float
    """What expires by then does not count."""
    seen: Mapping[str, bytes]
    """The entries that were there, and did not do."""


class Claims:
    """The claims of this process. Shared by all namespaces of a portable class."""

    def __init__(
        self, store: Store, clock: Clock, lease: float, spawn: Callable[[Coroutine[Any, Any, object], str], object]
    ) -> None:
        self._store = store
        self._clock = clock
        self._lease = lease
        self._spawn = spawn
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._process = os.urandom(_PART)
        self._lock = threading.Lock()
        self._held: dict[bytes, tuple[list[str], float]] = {}
        """The keys under each mark, and since when."""
        self._is_renewing = False

    async def attempt(self, keys: Sequence[str], quest: Quest) -> Turn:
        """Claim what nobody has a value or a claim of. One round trip, unless an entry turns out not to do."""
        turn = Turn(self, self._store, self._mark(quest.epochs))
        try:
            wanted = {key: self._replaceable(quest.seen.get(key), turn.mark) for key in keys}
            while wanted:
                wanted = await self._attempt(turn, wanted, quest)
            if turn.is_claimed and turn.mine:
                self._hold(turn)
        except BaseException:
            await self._give_back(keys, turn.mark)  # some of them may be claimed
            raise
        return turn

    async def turn(self, key: str, quest: Quest, standing: Entry | None = None) -> Turn:
        """Return the value of `key`, or the turn to compute it: after everybody who claimed it before.

        Who has waited for one of them for a lease computes for himself, and so does who meets a claim of his own
        process, as threads and tasks have waited for one another already. What they compute is not kept: that is up to
        the owner.
        """
        owner, deadline = b"", 0.0
        while True:
            if standing is not None and standing.value != owner:
                owner, deadline = standing.value, self._clock.monotonic() + self._lease
            if standing is not None and not await self._wait(standing, deadline):
                return self._guest(key, quest)
            turn = await self.attempt([key], quest)
            standing = turn.held.get(key)
            if standing is None:
                return turn

    async def refresh(self, key: str, epochs: Mapping[str, int], rest: float) -> Turn:
        """Claim to compute the value of `key` anew, while it is there. `mine` of the turn is empty if another one does.

        Where the computation fails, nobody begins the next one, for the same epochs of tags, for `rest` seconds.
        """
        turn = await self.attempt([refresh_name(key)], Quest((), epochs, Any, 0.0, {}))
        turn.rest = rest
        return turn

    async def release(self, turn: Turn, rest: float = 0.0) -> None:
        """Give back what was claimed and not kept: at once, or after a rest."""
        if turn.is_claimed:
            await self._give_back(turn.mine, turn.mark, rest)

    async def _give_back(self, keys: Sequence[str], mark: bytes, rest: float = 0.0) -> None:
        with self._lock:
            self._held.pop(mark, None)
        if keys:
            results = {key: Entry(key, mark, rest) if rest else None for key in keys}
            await finish(self._settle(results, mark))

    async def _settle(self, results: Mapping[str, Entry | None], mark: bytes) -> None:
        """Renew or give back. Where the backend fails, the claims are over with their lease, and no caller is told."""
        try:
            await self._store.settle(results, mark)
        except OperationError:
            logger.info("claims were left to their lease", exc_info=True)

    def _mark(self, epochs: Mapping[str, int]) -> bytes:
        digest = hashlib.blake2b(repr(sorted(epochs.items())).encode(), digest_size=_PART).digest()
        return CLAIM_MARK + self._process + digest + os.urandom(_PART)

    def _replaceable(self, seen: bytes | None, mark: bytes) -> bytes | None:
        return None if seen is None or self._stands(seen, mark) else seen

    def _stands(self, value: bytes, mark: bytes) -> bool:
        """Tell whether a value is the claim of somebody who computes what is sought, with the same epochs of tags.

        One of this process that nobody here knows is left from an outage.
        """
        is_same = value[:1] == CLAIM_MARK and value[_EPOCHS] == mark[_EPOCHS]
        return is_same and (value[_PROCESS] != self._process or value in self._held)

    async def _attempt(self, turn: Turn, wanted: Mapping[str, bytes | None], quest: Quest) -> dict[str, bytes | None]:
        """Try once, and return what is in the way and may be replaced."""
        # To its end, so that whoever is cancelled gives back what is claimed, and not what is about to be.
        answers = await finish(self._store.claim(wanted, turn.mark, self._lease))
        if answers is None:  # the backend is down
            turn.is_claimed = False
            turn.mine.extend(wanted)
            return {}
        turn.mine.extend(key for key, entry in zip(wanted, answers, strict=True) if entry is None)
        there = [entry for entry in answers if entry is not None]
        turn.held.update({entry.key: entry for entry in there if self._stands(entry.value, turn.mark)})
        values = {entry.key: entry.value for entry in there if entry.key not in turn.held}
        authentic = {key: self._store.authentic(key, value) for key, value in values.items()}
        read = {key: value for key, value in authentic.items() if value is not None}
        found = await self._store.judged(read, quest.tags, quest.epochs, quest.type)
        turn.found.update({key: one for key, one in found.items() if one.expires > quest.outdated})
        return {key: value for key, value in values.items() if key not in turn.found}

    async def _wait(self, standing: Entry, deadline: float) -> bool:
        """Wait until it is worth trying again; False where it is not."""
        left = deadline - self._clock.monotonic()
        if left <= 0 or standing.value[_PROCESS] == self._process:
            return False
        if standing.ttl is not None:
            left = min(left, standing.ttl + GRACE)
        return await self._store.await_change(standing.key, standing.value, left)

    def _guest(self, key: str, quest: Quest) -> Turn:
        turn = Turn(self, self._store, self._mark(quest.epochs))
        turn.mine.append(key)
        turn.is_guest, turn.is_claimed = True, False
        return turn

    # Renewal

    def _hold(self, turn: Turn) -> None:
        with self._lock:
            self._held[turn.mark] = (turn.mine, self._clock.monotonic())
            begins, self._is_renewing = not self._is_renewing, True
        if begins:
            self._spawn(self._renew(), "claims")

    async def _renew(self) -> None:
        try:
            while self._is_needed():
                await self._clock.pause(self._lease / RENEWALS)
                for mark, keys in self._due():
                    await self._settle({key: Entry(key, mark, self._lease) for key in keys}, mark)
        except BaseException:
            self._is_renewing = False
            raise

    def _is_needed(self) -> bool:
        with self._lock:
            self._is_renewing = bool(self._held)
            return self._is_renewing

    def _due(self) -> list[tuple[bytes, list[str]]]:
        oldest = self._clock.monotonic() - self._lease * LONGEST_LEASES
        with self._lock:
            return [(mark, list(keys)) for mark, (keys, since) in self._held.items() if keys and since > oldest]


class Turn:
    """What became of an attempt. A block around the computation gives back what was claimed and not kept."""

    def __init__(self, claims: Claims, store: Store, mark: bytes) -> None:
        self._claims = claims
        self._store = store
        self.mark = mark
        self.is_claimed = True
        self.is_guest = False
        self.rest = 0.0
        """How long the claim of a computation that failed stays."""
        self.mine: list[str] = []
        """What is to be computed."""
        self.found: dict[str, Found] = {}
        """What somebody else has computed."""
        self.held: dict[str, Entry] = {}
        """What somebody else computes, with his claim."""

    async def keep(self, entries: Sequence[Entry]) -> None:
        """Store what was computed, where the claim still stands."""
        if self.is_guest or not entries:
            return
        if not self.is_claimed:
            await self._store.keep(entries)
            return
        kept = {entry.key for entry in entries}
        self.mine = [key for key in self.mine if key not in kept]  # from now on, nothing of it is given back
        try:
            await finish(self._store.keep_claimed(entries, self.mark))
        except OperationError:  # the backend did not take it: others need not wait until the claim is over
            self.mine.extend(kept)
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._claims.release(self, 0.0 if kind is None else self.rest)
