"""The scripts, the keys that they are given, and how numbers are told to them."""

from __future__ import annotations

from pilotis_redis import Script

PARTS = ("t", "l", "e", "o", "q", "w", "f")
"""What a namespace consists of, in the order in which scripts are given it: tokens, locks, ends, owners, queues, waiters,
freed."""
WAITERS = PARTS.index("w")
"""Beside it, every waiter has a channel."""


def _load(name: str, *before: str) -> Script:
    return Script.load("pilotis_locking_redis", *before, "locks", name)


TAKE = _load("take")
"""The only one that is refused when the memory of a server is full: the others give back, or keep what there is."""
LEAVE = _load("leave", "allow_oom")
RELEASE = _load("release", "allow_oom")
RELEASE_OWNER = _load("release_owner", "allow_oom")
RENEW = _load("renew", "allow_oom")
INSPECT = _load("inspect", "allow_oom")
HELD = _load("held", "allow_oom")
BREAK = _load("break", "allow_oom")


def keys_of(namespace: str) -> tuple[str, ...]:
    """Return the keys of a namespace. They share a hash tag, and so a node of a cluster."""
    return tuple(f"{{{namespace}}}:{part}" for part in PARTS)


def microseconds(seconds: float) -> int:
    """Return at least one."""
    return max(1, round(seconds * 1e6))
