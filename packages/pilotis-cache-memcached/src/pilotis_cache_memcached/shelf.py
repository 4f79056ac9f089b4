"""The entries on one server, and what the logs of their namespaces say of them. Everything here blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

import msgspec
from pilotis.providers import CLAIM_MARK, Entry, counted

from pilotis_cache_memcached.node import Node
from pilotis_cache_memcached.patterns import FRESH, Log, space_of, space_of_pattern
from pilotis_cache_memcached.records import Record, deadline_after, expiry, item_name, log_name, pack, unpack
from pilotis_cache_memcached.wire import (
    NOTHING,
    Item,
    add_command,
    cas_command,
    change,
    delete_command,
    fetch,
    set_command,
)

_key_of = attrgetter("key")

MOST_LOGS = 4096
"""Namespaces whose log is remembered; beyond that, it is read anew."""


class Change(NamedTuple):
    """What is to come in the place of an item, or of none."""

    key: str
    value: bytes
    deadline: float
    born: int = 0


class Shelf:
    """What one server keeps."""

    def __init__(self, node: Node, logs: dict[str, Log | None], now: Callable[[], float]) -> None:
        """`logs` are those seen by namespace, None for one that there is and whose content is unknown."""
        self.node = node
        self._logs = logs
        self._now = now

    # Verbs

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        space = space_of(keys[0])
        log = self._logs.get(space)
        if len(keys) == 1 and log is not None:
            return [self._read_one(keys[0], space, log)]
        records = self._look(keys)
        return [None if (record := records.get(key)) is None else record.value for key in keys]

    def _read_one(self, key: str, space: str, log: Log) -> bytes | None:
        """Go the shortest way to what a cache is mostly asked for."""
        name = item_name(key)
        found, is_known = self.node.call(fetch, (log.name, name), log.text)
        item = found.get(name)
        current = log if is_known else self._log(space, found)
        return None if item is None else judged(key, item, current, self._now()).value

    def write(self, entries: Sequence[Entry]) -> list[bool]:
        self._begin_logs(map(_key_of, entries))
        now = self._now()
        return self.node.call(change, [_set_command(entry, now) for entry in entries])

    def place(self, wanted: Sequence[tuple[Entry, bytes | None]]) -> list[Record | None]:
        """Store each entry where nothing is, or exactly the value beside it; return what is in the way of it.

        One round trip where nothing is, two where a value is to be replaced.
        """
        obstacles: list[Record | None] = [None] * len(wanted)
        pending: Sequence[int] = range(len(wanted))
        records = self._look([entry.key for entry, old in wanted if old is not None])
        while pending:
            for index in pending:
                entry, old = wanted[index]
                obstacles[index] = _obstacle(records.get(entry.key), old)
            free: list[int] = [index for index in pending if obstacles[index] is None]
            now = self._now()
            entries = [wanted[index][0] for index in free]
            stored = self._store([_change(entry, now) for entry in entries], records, now)
            pending = [index for index, is_done in zip(free, stored, strict=True) if not is_done]
            records = self._look([wanted[index][0].key for index in pending])
        return obstacles

    def settle(self, results: Mapping[str, Entry | None], mark: bytes) -> list[bool]:
        """Put each entry, or nothing, in the place of a claim, and tell of each whether that was still there."""
        settled: set[str] = set()
        pending = list(results)
        while pending:
            records = self._look(pending)
            now = self._now()
            claims = {key: record for key, record in records.items() if record.value == mark}
            changes = [_settlement(key, results[key], claim, now) for key, claim in claims.items()]
            stored = self._store(changes, records, now)
            settled.update(change.key for change, is_done in zip(changes, stored, strict=True) if is_done)
            pending = [key for key in claims if key not in settled]  # as it was renewed meanwhile
        return [key in settled for key in results]

    def remove(self, keys: Sequence[str]) -> int:
        records = self._look(keys)
        removed = self._change([delete_command(item_name(key)) for key in records])
        return sum(done and record.value is not None for done, record in zip(removed, records.values(), strict=True))

    def count(self, key: str, by: int, ttl: float | None) -> int:
        while True:
            now = self._now()
            records = self._look((key,))
            old = records.get(key)
            total = counted(None if old is None else old.value, by)
            if old is None or old.value is None:
                change = Change(key, b"%d" % total, deadline_after(ttl, now))
            else:
                change = Change(key, b"%d" % total, old.deadline, old.born)
            if self._store([change], records, now)[0]:
                return total

    def expire(self, key: str, ttl: float | None) -> bool:
        while True:
            now = self._now()
            records = self._look((key,))
            old = records.get(key)
            if old is None or old.value is None or old.value[:1] == CLAIM_MARK:
                return False
            if self._store([Change(key, old.value, deadline_after(ttl, now), old.born)], records, now)[0]:
                return True

    def remove_matching(self, pattern: str) -> None:
        space = space_of_pattern(pattern)
        name = log_name(space)
        while True:
            self._begin_log(space)
            log = self._log(space, self.node.call(fetch, (name,))[0])
            if log is None:
                continue
            if self._change([cas_command(name, log.with_pattern(pattern, space), 0, log.number)])[0]:
                return

    # Items

    def _look(self, keys: Sequence[str]) -> dict[str, Record]:
        """Return the items that there are."""
        if not keys:
            return {}
        items, spaces, logs = self._fetch(keys)
        now = self._now()
        found = zip(keys, items, spaces, strict=True)
        return {key: judged(key, item, logs[space], now) for key, item, space in found if item is not None}

    def _fetch(self, keys: Sequence[str]) -> tuple[list[Item | None], list[str], dict[str, Log | None]]:
        """Return the item of each key, its namespace, and the logs of these, all in one round trip.

        The first log is known by its text, most of the time, and not read anew.
        """
        names = list(map(item_name, keys))
        spaces = list(map(space_of, keys))
        first, *others = dict.fromkeys(spaces)
        known = self._logs.get(first)
        text = NOTHING if known is None else known.text
        found, is_known = self.node.call(fetch, [log_name(first), *names, *map(log_name, others)], text)
        logs = {first: known if is_known else self._log(first, found)}
        for space in others:
            logs[space] = self._log(space, found)
        return [found.get(name) for name in names], spaces, logs

    def _store(self, changes: Sequence[Change], records: Mapping[str, Record], now: float) -> list[bool]:
        """Store what is to come in the place of what was found, and tell of each whether nobody else did meanwhile."""
        self._begin_logs([change.key for change in changes])
        return self._change([_command(change, records.get(change.key), now) for change in changes])

    def _change(self, commands: Sequence[bytes]) -> list[bool]:
        return self.node.call(change, commands) if commands else []

    # Logs

    def _log(self, space: str, found: Mapping[str, Item]) -> Log | None:
        """Return the log that was read, and remember it, or that there is none."""
        name = log_name(space)
        if name not in found:
            self._logs.pop(space, None)
            return None
        data, number = found[name]
        try:
            log = Log(name, data, number)
        except msgspec.DecodeError:
            self._logs.pop(space, None)
            self._change([delete_command(name)])
            return None
        self._remember(space, log)
        return log

    def _begin_logs(self, keys: Iterable[str]) -> None:
        """See to it that there are logs: without one, nothing that is written would count."""
        for key in keys:
            space = space_of(key)
            if space not in self._logs:
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


def _change(entry: Entry, now: float) -> Change:
    return Change(entry.key, entry.value, deadline_after(entry.ttl, now))


def _settlement(key: str, result: Entry | None, claim: Record, now: float) -> Change:
    """Return what comes in the place of a claim. It is as old as that, so that what was removed since stays removed."""
    if result is None:
        return Change(key, b"", 0.0, claim.born)  # over: removing an item by its number is not in the older protocol
    return Change(key, result.value, deadline_after(result.ttl, now), claim.born)


def _obstacle(record: Record | None, old: bytes | None) -> Record | None:
    return None if record is None or record.value is None or record.value == old else record


def _set_command(entry: Entry, now: float) -> bytes:
    deadline = deadline_after(entry.ttl, now)
    return set_command(item_name(entry.key), pack(entry.value, deadline), expiry(deadline, now))


def _command(change: Change, record: Record | None, now: float) -> bytes:
    """Return the command that makes a change unless somebody else came first."""
    name, data = item_name(change.key), pack(change.value, change.deadline, change.born)
    expires = expiry(change.deadline, now)
    if record is None:
        return add_command(name, data, expires)
    return cas_command(name, data, expires, record.number)


def judged(key: str, item: Item, log: Log | None, now: float) -> Record:
    """Return the record of an item, without its value if that does not count."""
    record = unpack(*item)
    if log is None or record.deadline <= now or log.drops(key, record.born):
        return Record(record.number)
    return record
