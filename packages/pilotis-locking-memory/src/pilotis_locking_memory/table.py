"""Who holds which key, and who stands in which queue: pure memory work under one lock.

A waiter takes its keys in sorted order. The ones that it can have are reserved for it, without being held; it stands
in the queue of the first one that it cannot have. So nobody starves behind a stream of smaller requests, and no
circle of waiters can close, as everybody goes through the keys in the same order. What is reserved becomes held at
once, in the moment in which the last key falls to the waiter.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Generator, Iterable
from contextlib import contextmanager

from pilotis.providers import Grant, Latch, LockRequest

ROUNDING = 1e-6
"""Seconds within which two moments are the same: waiting until a moment may end a rounding error before it."""

FIRST_SWEEP = 1024


class Holding:
    """One owner's hold of one key."""

    __slots__ = ("expires", "owner", "shared", "since", "taken_by", "token")

    def __init__(self, owner: str, token: int, since: float, expires: float, *, shared: bool, taken_by: Waiter) -> None:
        self.owner = owner
        self.token = token
        self.since = since
        self.expires = expires
        self.shared = shared
        self.taken_by: Waiter | None = taken_by
        """Who may give it back again. None: more than one of the same owner was told that it holds it."""


class Waiter:
    """A request on its way. `granted` is set when `grant` is there."""

    __slots__ = ("grant", "granted", "place", "request")

    def __init__(self, request: LockRequest) -> None:
        self.request = request
        self.granted = Latch()
        self.grant: Grant | None = None
        self.place = 0
        """How many of its keys are reserved: the index of the key it queues for."""


class Key:
    """One key's holders by owner, those it is reserved for, and its queue."""

    __slots__ = ("holders", "queue", "reserved")

    def __init__(self) -> None:
        self.holders: dict[str, Holding] = {}
        self.reserved: dict[Waiter, None] = {}
        self.queue: OrderedDict[Waiter, None] = OrderedDict()

    def purge(self, now: float) -> None:
        """Forget holders whose time is over."""
        for owner in [owner for owner, held in self.holders.items() if held.expires <= now + ROUNDING]:
            del self.holders[owner]

    def fits(self, request: LockRequest, now: float) -> bool:
        """Tell whether nobody else holds the key, or has it reserved, in a way that excludes the request."""
        self.purge(now)
        others = [(held.owner, held.shared) for held in self.holders.values() if held.owner != request.owner]
        others += [
            (one.request.owner, one.request.shared) for one in self.reserved if one.request.owner != request.owner
        ]
        if not others:
            return True
        has_permit = request.permits is None or len({owner for owner, _ in others}) < request.permits
        return has_permit and request.shared and all(shared for _, shared in others)

    def is_idle(self) -> bool:
        return not (self.holders or self.reserved or self.queue)


class Table:
    """All keys. Thread-safe; `now` is always a reading of the clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.keys: dict[str, Key] = {}
        self.token = 0
        self._sweep_at = FIRST_SWEEP
        self._woken: list[Latch] = []

    def enter(self, waiter: Waiter, now: float) -> None:
        """Grant a request, or have it wait; one without a `wait` that cannot be granted leaves no trace."""
        with self._changing():
            self._advance(waiter, now)
            if waiter.grant is None and not waiter.request.wait:
                self._leave(waiter, now)

    def look(self, waiter: Waiter, now: float) -> None:
        """Serve the queue that a waiter stands in: leases in its way may have run out."""
        with self._changing():
            if waiter.grant is None:
                self._serve([waiter.request.keys[waiter.place]], now)

    def patience(self, waiter: Waiter, now: float) -> float:
        """Return after how many seconds the leases in a waiter's way will have run out, unless they are renewed."""
        with self._lock:
            if waiter.grant is not None:
                return 0.0
            key = self.keys.get(waiter.request.keys[waiter.place])
            others = key.holders.values() if key is not None else ()
            ends = [held.expires for held in others if held.owner != waiter.request.owner]
            enough = max if waiter.request.permits is None else min
            return enough(ends) - now if ends else float("inf")

    def give_up(self, waiter: Waiter, now: float) -> Grant | None:
        """End a wait that is over; a grant that came in the last moment counts."""
        with self._changing():
            if waiter.grant is None:
                self._leave(waiter, now)
            return waiter.grant

    def withdraw(self, waiter: Waiter, now: float) -> None:
        """Leave nothing of a request behind, whether it waits or was granted a moment ago."""
        with self._changing():
            if waiter.grant is None:
                self._leave(waiter, now)
            else:
                taken = [name for name in waiter.request.keys if self._is_taken_by(waiter, name)]
                self._free(taken, waiter.request.owner, now)

    def renew(self, grant: Grant, now: float) -> bool:
        """Extend a grant that is held whole."""
        with self._lock:
            held = self._held(grant, now)
            if len(held) < len(grant.keys):
                return False
            for holding in held.values():
                holding.expires = max(holding.expires, now + grant.ttl)
            return True

    def release(self, grant: Grant, now: float) -> bool:
        """Free the keys that are still held under a grant, and tell whether all were."""
        with self._changing():
            held = list(self._held(grant, now))
            self._free(held, grant.owner, now)
            return len(held) == len(grant.keys)

    def release_owner(self, owner: str, names: Iterable[str] | None, now: float) -> int:
        """Free what an owner holds, and return how many keys that were."""
        with self._changing():
            held = [name for name in (self.keys if names is None else names) if self._holding(name, owner, now)]
            self._free(held, owner, now)
            return len(held)

    def inspect(self, name: str, now: float) -> tuple[list[Holding], int]:
        """Return a key's holders, the first first, and the length of its queue."""
        with self._lock:
            key = self.keys.get(name)
            if key is None:
                return [], 0
            key.purge(now)
            return list(key.holders.values()), len(key.queue)

    def held(self, prefix: str, limit: int, now: float) -> list[str]:
        """Return the keys that are held and begin with a prefix, sorted, up to a limit."""
        with self._lock:
            for key in self.keys.values():
                key.purge(now)
            return sorted(name for name, key in self.keys.items() if key.holders and name.startswith(prefix))[:limit]

    def break_key(self, name: str, now: float) -> int:
        """Take a key from all its holders, and return how many that were."""
        with self._changing():
            key = self.keys.get(name)
            if key is None:
                return 0
            key.purge(now)
            count = len(key.holders)
            key.holders.clear()
            self._serve([name], now)
            return count

    @contextmanager
    def _changing(self) -> Generator[None]:
        """Hold the lock, and wake those who were granted something once it is given back."""
        with self._lock:
            try:
                yield
            finally:
                woken, self._woken = self._woken, []
        for latch in woken:
            latch.set()

    # Taking

    def _advance(self, waiter: Waiter, now: float) -> None:
        """Reserve one key after the other, as far as they can be had, and grant when there is none left."""
        request = waiter.request
        while waiter.place < len(request.keys):
            key = self._key(request.keys[waiter.place], now)
            if not self._passes(key, request, now):
                key.queue[waiter] = None
                if request.owner in key.holders:  # nobody before it can go before its owner does
                    key.queue.move_to_end(waiter, last=False)
                return
            self._reserve(key, waiter)
        self._grant(waiter, now)

    def _passes(self, key: Key, request: LockRequest, now: float) -> bool:
        return key.fits(request, now) and (not key.queue or request.owner in key.holders)

    def _reserve(self, key: Key, waiter: Waiter) -> None:
        key.reserved[waiter] = None
        waiter.place += 1

    def _grant(self, waiter: Waiter, now: float) -> None:
        request = waiter.request
        keys = [self.keys[name] for name in request.keys]
        for key in keys:
            key.purge(now)  # what the owner held before may have run out while it waited for the rest
        if any(request.owner not in key.holders for key in keys):
            self.token += 1
        for key in keys:
            del key.reserved[waiter]
            self._hold(key, waiter, now)
        waiter.grant = Grant(
            keys=request.keys,
            owner=request.owner,
            token=max(key.holders[request.owner].token for key in keys),
            ttl=request.ttl,
            since=now,
            shared=request.shared,
        )
        self._woken.append(waiter.granted)

    def _hold(self, key: Key, waiter: Waiter, now: float) -> None:
        request = waiter.request
        owner, expires, shared = request.owner, now + request.ttl, request.shared
        held = key.holders.get(owner)
        if held is None:
            key.holders[owner] = Holding(owner, self.token, now, expires, shared=shared, taken_by=waiter)
        else:
            held.expires = max(held.expires, expires)
            held.shared = held.shared and shared
            held.taken_by = None

    # Leaving

    def _leave(self, waiter: Waiter, now: float) -> None:
        for name in waiter.request.keys[: waiter.place + 1]:
            if (key := self.keys.get(name)) is not None:
                key.reserved.pop(waiter, None)
                key.queue.pop(waiter, None)
        self._serve(waiter.request.keys, now)

    def _free(self, names: list[str], owner: str, now: float) -> None:
        for name in names:
            del self.keys[name].holders[owner]
        self._serve(names, now)

    def _serve(self, names: Iterable[str], now: float) -> None:
        """Let those at the heads of the queues go on."""
        for name in names:
            key = self.keys.get(name)
            while key is not None and key.queue and key.fits((waiter := next(iter(key.queue))).request, now):
                del key.queue[waiter]
                self._reserve(key, waiter)
                self._advance(waiter, now)
            if key is not None and key.is_idle():
                self.keys.pop(name, None)

    # Looking up

    def _key(self, name: str, now: float) -> Key:
        key = self.keys.get(name)
        if key is None:
            self._sweep(now)
            key = self.keys[name] = Key()
        return key

    def _sweep(self, now: float) -> None:
        """Forget keys whose leases ran out, each time their number has doubled."""
        if len(self.keys) < self._sweep_at:
            return
        for name, key in list(self.keys.items()):
            key.purge(now)
            if key.is_idle():
                del self.keys[name]
        self._sweep_at = max(FIRST_SWEEP, 2 * len(self.keys))

    def _holding(self, name: str, owner: str, now: float) -> Holding | None:
        key = self.keys.get(name)
        if key is None:
            return None
        key.purge(now)
        return key.holders.get(owner)

    def _held(self, grant: Grant, now: float) -> dict[str, Holding]:
        """Return what is held under a grant: an owner's holding with a higher token was granted after a break."""
        found = {name: self._holding(name, grant.owner, now) for name in grant.keys}
        return {name: held for name, held in found.items() if held is not None and held.token <= grant.token}

    def _is_taken_by(self, waiter: Waiter, name: str) -> bool:
        held = self.keys[name].holders.get(waiter.request.owner) if name in self.keys else None
        return held is not None and held.taken_by is waiter
