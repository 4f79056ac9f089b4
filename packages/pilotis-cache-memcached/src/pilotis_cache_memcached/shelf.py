"""The entries on one server, and what the logs of their namespaces say of them. Everything here blocks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from pilotis.errors import InvalidInputError
from pilotis.providers import Entry

from pilotis_cache_memcached.node import Node
from pilotis_cache_memcached.patterns import FRESH, Log, space_of, space_of_pattern
from pilotis_cache_memcached.records import Record, deadline_after, expiry, item_name, log_name, pack, unpack

MOST_LOGS = 4096
"""Namespaces whose log is remembered; beyond that, it is read anew."""

_COUNTABLE = range(-(2**63), 2**63)


class Sight(NamedTuple):
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
        """One round trip for all entries of the same ttl."""
        self._begin_logs({space_of(entry.key) for entry in entries})
        failed: set[str] = set()
        now = self._now()
        for ttl, group in itertools.groupby(sorted(entries, key=_length), _length):
            deadline = deadline_after(None if ttl < 0 else ttl, now)
            items = {item_name(entry.key): pack(Record(entry.value, deadline)) for entry in group}
            failed.update(self._set(items, expiry(deadline, now)))
        return [item_name(entry.key) not in failed for entry in entries]

    def add(self, entry: Entry) -> bool:
        now = self._now()
        record = Record(entry.value, deadline_after(entry.ttl, now))
        self._begin_logs((space_of(entry.key),))
        found = None
        while not self._store(entry.key, record, found, now):
            found = self._look((entry.key,)).get(entry.key)
            if found is not None and found.record is not None:
                return False
            self._begin_logs((space_of(entry.key),))
        return True

    def remove(self, keys: Sequence[str]) -> int:
        sights = self._look(keys)
        names = [item_name(key) for key in sights]
        there = sum(sight.record is not None for sight in sights.values())
        if len(names) == 1:  # then Memcached tells, and of several who remove it one is right
            return int(self.node.call(lambda client: client.delete(names[0], noreply=False)) and there)
        if names:
            self.node.call(lambda client: client.delete_many(names, noreply=False))
        return there

    def count(self, key: str, by: int, ttl: float | None) -> int:
        while True:
            now = self._now()
            found = self._look((key,)).get(key)
            old = None if found is None else found.record
            total = by + (0 if old is None else _number(old.value))
            if total not in _COUNTABLE:
                raise InvalidInputError(f"the sum, {total}, is outside -2**63 to 2**63 - 1")
            if old is None:
                self._begin_logs((space_of(key),))
                old = Record(b"", deadline_after(ttl, now))
            if self._store(key, old._replace(value=b"%d" % total), found, now):
                return total

    def expire(self, key: str, ttl: float | None) -> bool:
        while True:
            now = self._now()
            found = self._look((key,)).get(key)
            if found is None or found.record is None:
                return False
            if self._store(key, found.record._replace(deadline=deadline_after(ttl, now)), found, now):
                return True

    def remove_matching(self, pattern: str) -> None:
        space = space_of_pattern(pattern)
        name = log_name(space)
        while True:
            self._begin_logs((space,))
            log = self._log(space, self._gets((name,)).get(name))
            if log is None:
                continue
            data = log.with_pattern(pattern, space)
            if self.node.call(lambda client, data=data, log=log: client.cas(name, data, b"%d" % log.number)):
                return

    # Items

    def _look(self, keys: Iterable[str]) -> dict[str, Sight]:
        """Return the items that there are, in one round trip."""
        names = {key: item_name(key) for key in keys}
        spaces = {space_of(key) for key in names}
        items = self._gets((*names.values(), *map(log_name, spaces)))
        logs = {space: self._log(space, items.get(log_name(space))) for space in spaces}
        now = self._now()
        return {
            key: _sight(key, *items[name], logs[space_of(key)], now) for key, name in names.items() if name in items
        }

    def _gets(self, names: Iterable[str]) -> dict[str, tuple[bytes, int]]:
        """Return data and number of each item that there is."""
        found: dict[str, Any] = self.node.call(lambda client: client.gets_many(names))
        return {name: (data, int(number)) for name, (data, number) in found.items()}

    def _set(self, items: dict[str, bytes], expires: int) -> list[str]:
        """Store items, and return the names of those that were not."""
        return self.node.call(lambda client: client.set_many(items, expire=expires, noreply=False))

    def _store(self, key: str, record: Record, found: Sight | None, now: float) -> bool:
        """Store a record in place of what was found there, and tell whether nobody else did meanwhile."""
        name, data, expires = item_name(key), pack(record), expiry(record.deadline, now)
        if found is None:
            return bool(self.node.call(lambda client: client.add(name, data, expire=expires, noreply=False)))
        number = b"%d" % found.number
        return bool(self.node.call(lambda client: client.cas(name, data, number, expire=expires)))

    # Logs

    def _log(self, space: str, item: tuple[bytes, int] | None) -> Log | None:
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
            self.node.call(lambda client: client.delete(log_name(space), noreply=False))
            return None
        self._remember(space, log)
        return log

    def _begin_logs(self, spaces: Iterable[str]) -> None:
        """See to it that there are logs: without one, nothing that is written would count."""
        for space in spaces:
            if space not in self._logs:
                self._begin_log(space)

    def _begin_log(self, space: str) -> None:
        """Start a log, unless there is one."""
        self.node.call(lambda client: client.add(log_name(space), FRESH, noreply=False))
        self._remember(space, None)

    def _remember(self, space: str, log: Log | None) -> None:
        if len(self._logs) >= MOST_LOGS:
            self._logs.clear()
        self._logs[space] = log


def _sight(key: str, data: bytes, number: int, log: Log | None, now: float) -> Sight:
    record = unpack(data)
    if record is None or log is None:
        return Sight(number, None)
    born = record.born or number
    is_over = record.deadline <= now or log.drops(key, born)
    return Sight(number, None if is_over else record._replace(born=born))


def _value(sight: Sight | None) -> bytes | None:
    return None if sight is None or sight.record is None else sight.record.value


def _length(entry: Entry) -> float:
    """Return the ttl as a number to sort by."""
    return -1.0 if entry.ttl is None else entry.ttl


def _number(value: bytes) -> int:
    """Return the number that the bytes tell, in the one spelling that every backend can count with."""
    try:
        number = int(value)
    except ValueError:
        number = None
    if number is None or b"%d" % number != value:
        raise InvalidInputError("expected a whole number to count with; the entry holds something else")
    return number
