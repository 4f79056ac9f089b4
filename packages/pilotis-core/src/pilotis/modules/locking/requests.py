"""What callers ask for, checked."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import cast

from pilotis.durations import LONGEST, seconds
from pilotis.errors import InvalidInputError
from pilotis.keys import check_text
from pilotis.modules.locking.lease import SHORTEST_TTL
from pilotis.modules.locking.provider import LockRequest

Keys = str | Iterable[str]
Duration = float | timedelta

MOST_PERMITS = 2**31 - 1
MOST_LISTED = 100_000


def lock_request(
    keys: Keys,
    *,
    owner: str,
    ttl: Duration | None,
    wait: Duration,
    shared: bool,
    permits: int | None,
    connection: object | None,
) -> LockRequest:
    """Return a request. Raises `InvalidInputError` naming the place of what is unfit."""
    return LockRequest(
        keys=check_keys(keys),
        owner=check_text(owner, "owner"),
        ttl=seconds(cast("Duration", ttl), "ttl", minimum=SHORTEST_TTL) if connection is None else _whole(ttl),
        wait=seconds(wait, "wait"),
        shared=shared,
        permits=permits,
        connection=connection,
    )


def check_keys(keys: object) -> tuple[str, ...]:
    """Return the keys sorted, each once. Raises `InvalidInputError` naming the place of an unfit one."""
    if isinstance(keys, str):
        return (check_text(keys, "key"),)
    if not isinstance(keys, Iterable):
        raise InvalidInputError(f"keys: expected a key or several, got {type(keys).__name__}")
    checked = {check_text(key, f"keys[{index}]") for index, key in enumerate(cast("Iterable[object]", keys))}
    if not checked:
        raise InvalidInputError("keys: expected at least one key, got none")
    return tuple(sorted(checked))


def check_whole(value: object, at: str, *, maximum: int) -> int:
    """Return `value` if it is a whole number from 1 to `maximum`. Raises `InvalidInputError` naming `at`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= maximum:
        raise InvalidInputError(f"{at}: expected a whole number from 1 to {maximum}, got {value!r}"[:200])
    return value


def refusal(request: LockRequest) -> str:
    """Say that a request was not granted."""
    after = f"still after {request.wait:g} s" if request.wait else "and no wait was asked for"
    keys = ", ".join(request.keys)
    if request.permits is not None:
        return f"{keys}: no permit, all {request.permits} are taken, {after}"
    what = "one of its keys is" if len(request.keys) > 1 else "it is"
    return f"{keys}: not locked, {what} held by somebody else, {after}"


def _whole(ttl: Duration | None) -> float:
    """Return how long a lock inside the caller's transaction lasts: for all of it."""
    if ttl is not None:
        raise InvalidInputError("ttl: a lock inside your transaction lasts until its end; leave the ttl out")
    return LONGEST
