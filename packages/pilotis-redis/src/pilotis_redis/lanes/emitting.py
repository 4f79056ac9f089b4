"""Putting entries into lanes: what is said to the script, in calls that are each done within milliseconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from pilotis_redis.lanes.entry import Head, Push, Pushed, milliseconds
from pilotis_redis.lanes.groups import Staged
from pilotis_redis.lanes.keys import BusKeys
from pilotis_redis.lanes.registry import Registry
from pilotis_redis.link import Call, RedisLink
from pilotis_redis.scripts import Script

EMIT = Script.load("pilotis_redis", "entries", "emit")
MOST_WRITES = 400
"""Entries, counted once for each lane that takes them, in one run of the script."""
MOST_BYTES = 1_000_000
"""What bodies take in one run of the script; a single entry may be larger."""

_encode = msgspec.msgpack.Encoder().encode
_STALE = b"stale"


async def emit(
    link: RedisLink, keys: BusKeys, registry: Registry, pushes: Sequence[Push], staged: Staged | None
) -> list[Pushed] | None:
    """Put entries into the lanes that a registry names for them; all, or none.

    Returns None where the registry, or the group that they were staged in, is no longer what it was.
    """
    chunks = list(_chunks(registry, pushes))
    calls = [chunk.call(keys, registry, staged, is_last=chunk is chunks[-1]) for chunk in chunks]
    if len(calls) == 1:
        replies = [await link.script(EMIT, *calls[0])]
    else:
        replies = await link.script_together(EMIT, calls)
    if _STALE in replies:
        return None
    repeated = [id for reply in replies for id in reply]
    return [_pushed(push, registry, id) for push, id in zip(pushes, repeated, strict=True)]


def _pushed(push: Push, registry: Registry, repeated: bytes | None) -> Pushed:
    if repeated is not None:
        return Pushed(repeated.decode(), 0, repeated=True)
    return Pushed(push.id, len(registry.route(push.name)))


class _Chunk:
    """What one run of the script is told."""

    def __init__(self) -> None:
        self._lanes: dict[str, int] = {}
        self._said: list[bytes] = []
        self._pushes: list[Push] = []
        self._writes = 0
        self._bytes = 0

    def add(self, push: Push, lanes: Sequence[str]) -> bool:
        """Take an entry in. False where that would be too much."""
        writes, size = self._writes + 1 + len(lanes), self._bytes + len(push.body) * len(lanes)
        if self._said and (writes > MOST_WRITES or size > MOST_BYTES):
            return False
        self._writes, self._bytes = writes, size
        numbers = [self._lanes.setdefault(lane, len(self._lanes)) for lane in lanes]
        self._pushes.append(push)
        self._said += (_said(push, numbers), _encode(Head(push.id, push.name, push.priority)), push.body)
        return True

    def call(self, keys: BusKeys, registry: Registry, staged: Staged | None, *, is_last: bool) -> Call:
        """Return the script's keys and arguments."""
        group, size, last = (keys.version, -1, "") if staged is None else (staged.key, len(staged.pushes), staged.last)
        lanes = [key for lane in self._lanes for key in keys.lane(lane).all]
        named = [key for push in self._pushes for key in _memory(keys, push)]
        goes = int(staged is not None and is_last)
        arguments: list[Any] = [registry.version, size, last, goes, len(self._lanes), *self._lanes, *self._said]
        return (keys.version, keys.sequence, keys.news, keys.tail, group, *lanes, *named), arguments


def _chunks(registry: Registry, pushes: Sequence[Push]) -> Iterator[_Chunk]:
    chunk = _Chunk()
    for push in pushes:
        lanes = registry.route(push.name)
        if not chunk.add(push, lanes):
            yield chunk
            chunk = _Chunk()
            chunk.add(push, lanes)
    yield chunk


def _said(push: Push, lanes: Sequence[int]) -> bytes:
    dedupe_ttl = False if push.dedupe is None else milliseconds(push.dedupe_ttl)
    key = False if push.key is None else push.key
    said = (push.id, milliseconds(push.delay), push.priority, key, milliseconds(push.remember), dedupe_ttl, lanes)
    return _encode(said)


def _memory(keys: BusKeys, push: Push) -> tuple[str, ...]:
    """Return the keys under which an entry is remembered."""
    mine = keys.id(push.id)
    return (mine,) if push.dedupe is None else (mine, keys.dedupe(push.name, push.dedupe))
