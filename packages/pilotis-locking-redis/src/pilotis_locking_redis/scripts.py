"""The scripts, the keys that they are given, and how numbers are told to them."""

from __future__ import annotations

from pilotis_redis import Script

PARTS = ("t", "l", "o", "q")
"""What a namespace consists of, in the order of scripts: tokens, locks, owners, queues."""
LOCKS = PARTS.index("l")
"""Beside it, every waiter has a channel."""
MOST_RELEASED = 1024
"""For how many releases, of the last minute, it is kept that they were made."""


def _load(*names: str) -> Script:
    return Script.load("pilotis_locking_redis", *names)


TAKE = _load("keys", "quick_take", "locks", "take")
"""The only one that is refused when the memory of a server is full: the others give back, or keep what there is."""
LEAVE = _load("allow_oom", "keys", "locks", "leave")
RELEASE = _load("allow_oom", "keys", "quick_release", "locks", "release")
RELEASE_OWNER = _load("allow_oom", "keys", "locks", "release_owner")
RENEW = _load("allow_oom", "keys", "locks", "renew")
INSPECT = _load("allow_oom", "keys", "locks", "state", "inspect")
HELD = _load("allow_oom", "keys", "locks", "state", "held")
BREAK = _load("allow_oom", "keys", "locks", "break")


def keys_of(namespace: str) -> tuple[str, ...]:
    """Return the keys of a namespace. They share a hash tag, and so a node of a cluster."""
    return tuple(f"{{pilotis:locks:{namespace}}}:{part}" for part in PARTS)


def released_key(keys: tuple[str, ...], token: int) -> str:
    """Return the key that has the token if it was released: each is shared by many."""
    return f"{keys[LOCKS]}:f:{token % MOST_RELEASED}"


def microseconds(seconds: float) -> int:
    """Return at least one."""
    return max(1, round(seconds * 1e6))
