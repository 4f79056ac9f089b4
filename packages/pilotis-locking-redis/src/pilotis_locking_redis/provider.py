"""Locks in Redis: one script for each verb, over all keys at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import msgspec
from pilotis.errors import InvalidInputError
from pilotis.providers import Grant, LockingCapability, LockingProvider, LockRequest, LockState, finish
from pilotis_redis import RedisBacked, RedisOptions
from pilotis_redis.faults import is_lost

from pilotis_locking_redis.scripts import (
    BREAK,
    HELD,
    INSPECT,
    RELEASE,
    RELEASE_OWNER,
    RENEW,
    keys_of,
    microseconds,
    released_key,
)
from pilotis_locking_redis.taking import Taking

MOST_AT_ONCE = 250
"""Keys that one run of a script renews or frees: a few milliseconds, in which nobody else has a turn."""
SCANNED = 500

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_SPECIAL = re.compile(r"[*?\[\]\\]")


class RedisLocksOptions(RedisOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the Redis locking provider."""

    namespace: str | None = None
    """Whoever names the same one has the same locks, and the same tokens. Without it, that is the app's name."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.namespace is not None and re.fullmatch(r"[^{}\s]{1,200}", self.namespace) is None:
            raise InvalidInputError(
                "namespace: expected 1 to 200 characters without spaces and braces, such as 'shop', "
                f"got {self.namespace!r}"
            )


class RedisLocks(RedisBacked, LockingProvider):
    """Locks for all processes that reach one Redis, or one cluster of them."""

    Options = RedisLocksOptions
    capabilities = (
        LockingCapability.EXPIRY
        | LockingCapability.FENCING
        | LockingCapability.FAIR
        | LockingCapability.OWNERS
        | LockingCapability.INSPECT
        | LockingCapability.SHARED
        | LockingCapability.SEMAPHORE
        | LockingCapability.LIST
        | LockingCapability.BREAK
        | LockingCapability.CROSS_PROCESS
    )

    async def acquire(self, request: LockRequest) -> Grant | None:
        return await Taking(self.link, self._keys, self.context.clock, request).run()

    async def renew(self, grants: Sequence[Grant]) -> list[bool]:
        parts = [_told(part) for part in _parts(grants)]
        if len(parts) == 1:
            answers = [await self.link.script(RENEW, self._keys, parts)]
        else:
            answers = await self.link.script_each(RENEW, [(self._keys, [part]) for part in parts])
        return [bool(held) for answer in answers for held in answer]

    async def release(self, grant: Grant) -> bool:
        try:
            return await self._release(grant, is_repeated=False)
        except Exception as error:
            if not is_lost(error):
                raise
        except BaseException:  # whoever is interrupted lets go first
            await finish(self._release(grant, is_repeated=True))
            raise
        return await self._release(grant, is_repeated=True)

    async def release_owner(self, owner: str, keys: Sequence[str] | None = None) -> int:
        released, is_more = 0, keys is None or len(keys) > 0
        while is_more:
            count, is_more = await self.link.script(RELEASE_OWNER, self._keys, [owner, MOST_AT_ONCE, *(keys or ())])
            released += count
        return released

    async def inspect(self, key: str) -> LockState | None:
        found = await self.link.script(INSPECT, self._keys, [key])
        return None if found is None else _state(found)

    async def held(self, prefix: str, limit: int) -> list[LockState]:
        pattern = _SPECIAL.sub(r"\\\g<0>", prefix) + "*"
        found: dict[bytes, LockState] = {}
        cursor: Any = 0
        while cursor != b"0":
            cursor, locks = await self.link.script(HELD, self._keys, [cursor, pattern, SCANNED])
            found |= {lock[0]: _state(lock) for lock in locks}
        return sorted(found.values(), key=lambda state: state.key)[:limit]

    async def break_lock(self, key: str) -> int:
        return await self.link.script(BREAK, self._keys, [key])

    @cached_property
    def _keys(self) -> tuple[str, ...]:
        """Made when they are first needed: only then is the context that of the app."""
        return keys_of(self.options.namespace or _without_braces(self.context.name))

    async def _release(self, grant: Grant, *, is_repeated: bool) -> bool:
        keys = (*self._keys, released_key(self._keys, grant.token))
        arguments = (grant.owner, grant.token, int(is_repeated), *grant.keys)
        return bool(await self.link.script(RELEASE, keys, arguments))


def _parts(grants: Sequence[Grant]) -> Iterator[list[Grant]]:
    """Return grants in groups that have not too many keys together, so that others have their turn in between."""
    part: list[Grant] = []
    count = 0
    for grant in grants:
        if part and count + len(grant.keys) > MOST_AT_ONCE:
            yield part
            part, count = [], 0
        part.append(grant)
        count += len(grant.keys)
    if part:
        yield part


def _told(grants: Sequence[Grant]) -> bytes:
    return msgspec.msgpack.encode([(grant.owner, grant.token, microseconds(grant.ttl), grant.keys) for grant in grants])


def _state(told: Sequence[Any]) -> LockState:
    key, owner, token, since, expires, shared, holders, waiters = told
    return LockState(
        key=key.decode(),
        owner=owner.decode(),
        token=token,
        since=EPOCH + timedelta(microseconds=since),
        expires=EPOCH + timedelta(microseconds=expires),
        waiters=waiters,
        holders=holders,
        shared=bool(shared),
    )


def _without_braces(name: str) -> str:
    return name.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
