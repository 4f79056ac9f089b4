"""The entries on one server, and what the logs of their namespaces say of them. Everything here blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from pilotis.errors import InvalidInputError
from pilotis.providers import CLAIM_MARK, Entry

from pilotis_cache_memcached.node import Node
from pilotis_cache_memcached.patterns import FRESH, Log, space_of, space_of_pattern
from pilotis_cache_memcached.records import Record, deadline_after, expiry, item_name, log_name, pack, unpack
from pilotis_cache_memcached.wire import (
    Item,
    add_command,
    cas_command,
    change,
    delete_command,
    fetch,
    set_command,
)

MOST_LOGS = 4096
"""Namespaces whose log is remembered; beyond that, it is read anew."""

_COUNTABLE = range(-(2**63), 2**63)


class Sight(msgspec.Struct, frozen=True, gc=False):
    """An item, as it was read."""

    number: int
    """Of the store that it comes from."""
    record: Record | None
    """None for an item that does not count: it is over, was removed, or is somebody else's."""


class Shelf:
    """What one server keeps."""

    def __init__(self, node: Node, logs: dict[str, Log | None], now: Callable[[], float]) -> None:
        """`logs` are those seen by namespace, None for one that there is and whose content is unknown."""
        self.node = node
        self._logs = logs
        self._now = now

    # Verbs

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        sights = self._look(keys)
        return [_value(sights.get(key)) for key in keys]

    def write(self, entries: Sequence[Entry]) -> list[bool]:
        self._begin_logs([entry.key for entry in entries])
        now = self._now()
        return self.node.call(change, [_command(entry.key, record_of(entry, now), now) for entry in entries])

    def place(self, wanted: Sequence[tuple[Entry, bytes | None]]) -> list[Record | None]:
        """Store each entry where nothing is, or exactly the value beside it; return what is in the way of it.

        One round trip where nothing is, two where a value is to be replaced.
        """
        obstacles: list[Record | None] = [None] * len(wanted)
        pending: Sequence[int] = range(len(wanted))
        sights = self._look([entry.key for entry, old in wanted if old is not None])
        while pending:
            for index in pending:
                entry, old = wanted[index]
                obstacles[index] = _obstacle(sights.get(entry.key), old)
            free: list[int] = [index for index in pending if obstacles[index] is None]
            now = self._now()
            entries = [wanted[index][0] for index in free]
            stored = self._store([(entry.key, record_of(entry, now)) for entry in entries], sights, now)
            pending = [index for index, is_done in zip(free, stored, strict=True) if not is_done]
            sights = self._look([wanted[index][0].key for index in pending])
        return obstacles

    def settle(self, results: Mapping[str, Entry | None], mark: bytes) -> list[bool]:
        """Put each entry, or nothing, in the place of a claim, and tell of each whether that was still there."""
        settled: set[str] = set()
        pending = list(results)
        while pending:
            sights = self._look(pending)
            now = self._now()
            held = {key: sights[key].record for key in pending if _value(sights.get(key)) == mark}
            changes = [(key, _settled(results[key], record, now)) for key, record in held.items() if record is not None]
            stored = self._store(changes, sights, now)
            settled.update(key for (key, _), is_done in zip(changes, stored, strict=True) if is_done)
            pending = [key for key in held if key not in settled]  # as it was renewed meanwhile
        return [key in settled for key in results]

    def remove(self, keys: Sequence[str]) -> int:
        sights = self._look(keys)
        removed = self._change([delete_command(item_name(key)) for key in sights])
        return sum(done and sight.record is not None for done, sight in zip(removed, sights.values(), strict=True))

    def count(self, key: str, by: int, ttl: float | None) -> int:
        while True:
            now = self._now()
            sights = self._look((key,))
            old = _record(sights.get(key))
            total = by + (0 if old is None else _number(old.value))
            if total not in _COUNTABLE:
                raise InvalidInputError(f"the sum, {total}, is outside -2**63 to 2**63 - 1")
            if old is None:
                old = Record(b"", deadline_after(ttl, now))
            if self._store([(key, Record(b"%d" % total, old.deadline, old.born))], sights, now)[0]:
                return total

    def expire(self, key: str, ttl: float | None) -> bool:
        while True:
            now = self._now()
            sights = self._look((key,))
            old = _record(sights.get(key))
            if old is None or old.value[:1] == CLAIM_MARK:
                return False
            if self._store([(key, Record(old.value, deadline_after(ttl, now), old.born))], sights, now)[0]:
                return True

    def remove_matching(self, pattern: str) -> None:
        space = space_of_pattern(pattern)
        name = log_name(space)
        while True:
            self._begin_log(space)
            log = self._log(space, self.node.call(fetch, (name,)).get(name))
            if log is None:
                continue
            if self._change([cas_command(name, log.with_pattern(pattern, space), 0, log.number)])[0]:
                return

    # Items

    def _look(self, keys: Sequence[str]) -> dict[str, Sight]:
        """Return the items that there are, in one round trip."""
        if not keys:
            return {}
        shares = _by_space(keys)
        names = [name for share in shares.values() for name in share.values()]
        items = self.node.call(fetch, [*names, *map(log_name, shares)])
        now = self._now()
        sights: dict[str, Sight] = {}
        for space, share in shares.items():
            log = self._log(space, items.get(log_name(space)))
            for key, name in share.items():
                item = items.get(name)
                if item is not None:
                    sights[key] = _sight(key, item, log, now)
        return sights

    def _store(self, changes: Sequence[tuple[str, Record]], sights: Mapping[str, Sight], now: float) -> list[bool]:
        """Store records in place of what was found, and tell of each whether nobody else did meanwhile."""
        self._begin_logs([key for key, _ in changes])
        return self._change([_command_after(sights.get(key), key, record, now) for key, record in changes])

    def _change(self, commands: Sequence[bytes]) -> list[bool]:
        return self.node.call(change, commands) if commands else []

    # Logs

    def _log(self, space: str, item: Item | None) -> Log | None:
        """Return the log that was read, and remember it, or that there is none."""
        if item is None:
            self._logs.pop(space, None)
            return None
        data, number = item
        known = self._logs.get(space)
        if known is not None and (known.number, known.data) == (number, data):  # numbers begin anew at a restart
            return known
        try:
            log = Log(data, number)
        except msgspec.DecodeError:
            self._logs.pop(space, None)
            self._change([delete_command(log_name(space))])
            return None
        self._remember(space, log)
        return log

    def _begin_logs(self, keys: Iterable[str]) -> None:
        """See to it that there are logs: without one, nothing that is written would count."""
        for space in _by_space(keys):
            self._begin_log(space)

    def _begin_log(self, space: str) -> None:
        """Start a log, unless there is one."""
        if space not in self._logs:
            self._change([add_command(log_name(space), FRESH, 0)])
            self._remember(space, None)

    def _remember(self, space: str, log: Log | None) -> None:
        if len(self._logs) >= MOST_LOGS:
            self._logs.clear()
        self._logs[space] = log


def record_of(entry: Entry, now: float) -> Record:
    return Record(entry.value, deadline_after(entry.ttl, now))


def _obstacle(sight: Sight | None, old: bytes | None) -> Record | None:
    record = _record(sight)
    return None if record is None or record.value == old else record


def _settled(result: Entry | None, claim: Record, now: float) -> Record:
    """Return what comes in the place of a claim. It is as old as that, so that what was removed since stays removed."""
    if result is None:
        return Record(b"", 0.0, claim.born)  # over: removing an item by its number is not in the older protocol
    return Record(result.value, deadline_after(result.ttl, now), claim.born)


def _by_space(keys: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the names of keys in their namespaces. Keys of one namespace mostly come together."""
    shares: dict[str, dict[str, str]] = {}
    space = ""
    share: dict[str, str] = {}
    for key in keys:
        if not space or not key.startswith(space):
            space = space_of(key)
            share = shares.setdefault(space, {})
        share[key] = item_name(key)
    return shares


def _command(key: str, record: Record, now: float) -> bytes:
    return set_command(item_name(key), pack(record), expiry(record.deadline, now))


def _command_after(sight: Sight | None, key: str, record: Record, now: float) -> bytes:
    """Return the command that stores a record unless somebody else came first."""
    name, data, expires = item_name(key), pack(record), expiry(record.deadline, now)
    if sight is None:
        return add_command(name, data, expires)
    return cas_command(name, data, expires, sight.number)


def _sight(key: str, item: Item, log: Log | None, now: float) -> Sight:
    data, number = item
    record = unpack(data, number)
    if record is None or log is None or record.deadline <= now or log.drops(key, record.born):
        return Sight(number, None)
    return Sight(number, record)


def _record(sight: Sight | None) -> Record | None:
    return None if sight is None else sight.record


def _value(sight: Sight | None) -> bytes | None:
    return None if sight is None or sight.record is None else sight.record.value


def _number(value: bytes) -> int:
    """Return the number that the bytes tell, in the one spelling that every backend can count with."""
    try:
        number = int(value)
    except ValueError:
        number = None
    if number is None or b"%d" % number != value:
        raise InvalidInputError("expected a whole number to count with; the entry holds something else")
    return number
