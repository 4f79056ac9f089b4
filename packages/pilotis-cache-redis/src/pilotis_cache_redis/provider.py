"""Entries in Redis: strings with a ttl, one round trip for each verb."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pilotis.errors import ConflictError, InvalidInputError, OperationError
from pilotis.providers import CLAIM_MARK, CacheCapability, CacheProvider, Entry
from pilotis_redis import Eviction, RedisBacked, RedisOptions, Script

SCANNED = 500
"""Keys that one SCAN looks at: well under a millisecond of the server's time."""
MOST_AT_ONCE = 1_000
"""Keys that one command reads or removes: a millisecond or two."""

_CLAIM = Script.load("pilotis_cache_redis", "claim")
_COUNT = Script.load("pilotis_cache_redis", "count")
_ENTRIES = Script.load("pilotis_cache_redis", "entries")
_EXPIRE = Script.load("pilotis_cache_redis", "expire")
_SETTLE = Script.load("pilotis_cache_redis", "settle")
_OURS = (b"string", b"none")
_SPECIAL = re.compile(r"[?\[\]\\]")

Command = tuple[Any, ...]
Key = TypeVar("Key", str, bytes, str | bytes)


class RedisCacheOptions(RedisOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the Redis cache."""


class RedisCache(RedisBacked, CacheProvider):
    """A cache for all processes that reach one Redis, or one cluster of them."""

    Options = RedisCacheOptions
    capabilities = (
        CacheCapability.MATCHING
        | CacheCapability.MATCH_COUNT
        | CacheCapability.SINGLE_FLIGHT
        | CacheCapability.PUSH
        | CacheCapability.TRACKING
    )
    eviction = Eviction.WELCOME

    def __init__(
        self, options: RedisCacheOptions | None = None, *, client: Any = None, async_client: Any = None
    ) -> None:
        super().__init__(options, client=client, async_client=async_client)
        if not self.link.can_listen:
            self.capabilities &= ~CacheCapability.PUSH  # pyright: ignore[reportAttributeAccessIssue]
        if not self.link.can_track:
            self.capabilities &= ~CacheCapability.TRACKING  # pyright: ignore[reportAttributeAccessIssue]

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        if self.link.is_cluster:
            # Not GET, which fails where there is no text under the key.
            return [value for (value,) in await self.link.pipeline(("MGET", key) for key in keys)]
        if len(keys) <= MOST_AT_ONCE:
            return await self.link.execute("MGET", *keys)
        parts = await self.link.pipeline(("MGET", *part) for part in _parts(keys))
        return list(itertools.chain.from_iterable(parts))

    async def write(self, entries: Sequence[Entry], *, only_absent: bool = False) -> list[bool]:
        if only_absent:
            return await self._add(entries)
        if len(entries) == 1:
            return [bool(await self.link.execute(*_set(entries[0])))]
        return [bool(stored) for stored in await self.link.pipeline(map(_set, entries))]

    async def remove(self, keys: Sequence[str | bytes]) -> int:
        if self.link.is_cluster:
            return sum(await self.link.pipeline(("UNLINK", key) for key in keys))
        if len(keys) <= MOST_AT_ONCE:
            return await self.link.execute("UNLINK", *keys)
        return sum(await self.link.pipeline(("UNLINK", *part) for part in _parts(keys)))

    async def count(self, key: str, by: int, ttl: float | None) -> int:
        if ttl is None:
            return await self.link.execute("INCRBY", key, by)
        return int(await self.link.script(_COUNT, [key], [by, _milliseconds(ttl)]))

    async def expire(self, key: str, ttl: float | None) -> bool:
        lasting = () if ttl is None else (_milliseconds(ttl),)
        return bool(await self.link.script(_EXPIRE, [key], [CLAIM_MARK, *lasting]))

    async def remove_matching(self, pattern: str) -> int:
        removed = 0
        steps = self.link.scan(_glob(pattern), SCANNED)
        try:
            async for keys in steps:
                removed += await self.remove(keys)
        finally:
            await steps.aclose()
        return removed

    async def claim(self, keys: Mapping[str, bytes | None], mark: bytes, ttl: float) -> list[Entry | None]:
        lasting = _milliseconds(ttl)
        replies = await self.link.script_each(
            _CLAIM, [([key], (mark, lasting) if old is None else (mark, lasting, old)) for key, old in keys.items()]
        )
        return [None if reply is None else _standing(key, *reply) for key, reply in zip(keys, replies, strict=True)]

    async def settle(self, results: Mapping[str, Entry | None], mark: bytes) -> list[bool]:
        calls = [([key], (mark, _channel(key), *_kept(result))) for key, result in results.items()]
        return [bool(reply) for reply in await self.link.script_each(_SETTLE, calls)]

    async def await_change(self, key: str, mark: bytes, timeout: float) -> bool:
        if not self.link.can_listen:
            return await super().await_change(key, mark, timeout)
        async with self.link.listening(_channel(key)) as heard:
            if await self.read([key]) != [mark]:
                return True
            return await self.context.clock.wait(heard, timeout)

    async def read_entries(self, keys: Sequence[str]) -> list[Entry | None]:
        if not self.link.can_track:
            return await super().read_entries(keys)
        replies = [reply for part in _parts(keys) for reply in await self.link.script(_ENTRIES, part)]
        return [None if reply is None else _standing(key, *reply) for key, reply in zip(keys, replies, strict=True)]

    async def track(self, prefix: str, on_change: Callable[[Collection[str] | None], object]) -> None:
        if not self.link.can_track:
            await super().track(prefix, on_change)
        await self.link.track(prefix, on_change)

    def classify(self, error: Exception) -> type[OperationError] | None:
        kind = super().classify(error)
        return InvalidInputError if kind is ConflictError else kind  # only counting minds what type an entry has

    async def _add(self, entries: Sequence[Entry]) -> list[bool]:
        """Write what is absent. What is no text of Redis's is no entry either, and makes room."""
        commands = [command for entry in entries for command in ((*_set(entry), "NX"), ("TYPE", entry.key))]
        replies = await self.link.pipeline(commands)
        stored, kinds = [bool(reply) for reply in replies[::2]], replies[1::2]
        foreign = [entry for entry, kind in zip(entries, kinds, strict=True) if kind not in _OURS]
        if not foreign:
            return stored
        await self.remove([entry.key for entry in foreign])
        replaced = iter(await self._add(foreign))
        return [done if kind in _OURS else next(replaced) for done, kind in zip(stored, kinds, strict=True)]


def _parts(keys: Sequence[Key]) -> Iterator[Sequence[Key]]:
    """Return the keys in groups for a command each, so that others have their turn in between."""
    return (keys[start : start + MOST_AT_ONCE] for start in range(0, len(keys), MOST_AT_ONCE))


def _channel(key: str) -> str:
    return f"{key}?"


def _standing(key: str, value: bytes, left: int) -> Entry:
    return Entry(key, value, None if left < 0 else left / 1000)


def _kept(entry: Entry | None) -> tuple[Any, ...]:
    """Return what the script is told of a result: nothing, a value, or a value and its milliseconds."""
    if entry is None:
        return ()
    return (entry.value,) if entry.ttl is None else (entry.value, _milliseconds(entry.ttl))


def _set(entry: Entry) -> Command:
    if entry.ttl is None:
        return ("SET", entry.key, entry.value)
    return ("SET", entry.key, entry.value, "PX", _milliseconds(entry.ttl))


def _milliseconds(ttl: float) -> int:
    """Return at least one: zero is refused by Redis."""
    return max(1, round(ttl * 1000))


def _glob(pattern: str) -> str:
    """Return a pattern of Redis's own, in which `*` alone is special."""
    return _SPECIAL.sub(r"\\\g<0>", pattern)
