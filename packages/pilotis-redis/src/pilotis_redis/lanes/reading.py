"""The one read that waits, for all lanes of a worker."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, cast

from pilotis.runtime import Job, Runtime

from pilotis_redis.lanes.entry import Stream, Taken, read_taken
from pilotis_redis.lanes.keys import GROUP, STREAMS, BusKeys
from pilotis_redis.link import RedisLink, each_stream

LONGEST = 5.0
"""Seconds that a read waits on the server. One that broke off there, unnoticed, is found out soon after."""


Arrived = Callable[[list[Taken], AbstractSet[str]], None]


class Reader:
    """Waits in the name of one life of a worker, on a connection of its own. Used by the tasks of one loop."""

    def __init__(self, link: RedisLink, keys: BusKeys, worker: str, runtime: Runtime, arrived: Arrived) -> None:
        """`arrived` is told when a read is over: what came, and of which lanes the bell says that they are paused."""
        self._link = link
        self._keys = keys
        self._worker = worker
        self._runtime = runtime
        self._arrived = arrived
        self._bell = keys.bell(worker)
        self._job: Job[Any] | None = None
        self._began = 0.0
        self._may_suspect = False
        self.lanes: AbstractSet[str] = frozenset()
        """Those of the last read."""
        self.heard: list[bytes] = []
        """Entries of the bell that were read, and are to be removed."""
        self.is_rung = False
        self.error: Exception | None = None
        """What the last read broke off with."""

    @property
    def is_waiting(self) -> bool:
        """Whether a read is under way."""
        return self._job is not None

    @property
    def age(self) -> float:
        """For how many seconds it has been under way."""
        return time.monotonic() - self._began

    def covers(self, lanes: AbstractSet[str], *, may_suspect: bool) -> bool:
        """Tell whether the read under way would find what comes into these lanes."""
        return self.is_waiting and self.lanes >= lanes and self._may_suspect >= may_suspect

    def begin(self, lanes: AbstractSet[str], *, may_suspect: bool) -> None:
        """Begin to wait for what comes into these lanes."""
        self.lanes, self._may_suspect = frozenset(lanes), may_suspect
        self._began = time.monotonic()
        self.is_rung = False
        self._job = self._runtime.spawn(self._read(), "lanes reader")

    async def ended(self, seconds: float) -> bool:
        """Wait for the read under way to be over, and tell whether it is."""
        job = self._job
        return job is None or await job.ended.wait(seconds)

    async def close(self) -> None:
        """Break off what is under way, and close the connection."""
        if self._job is not None:
            self._job.cancel()
            await self._job.ended.wait()
        await self._link.close()

    async def _read(self) -> None:
        taken: list[Taken] = []
        paused: set[str] = set()
        try:
            reply = await self._link.execute(*self._command())
            taken, paused = self._sorted_out(reply)
        except Exception as error:
            self.error = error
        finally:
            self._job = None
            self._arrived(taken, paused)

    def _command(self) -> list[Any]:
        skipped = 0 if self._may_suspect else 1
        streams = [self._bell]
        for lane in self.lanes:
            streams += self._keys.lane(lane).streams[skipped:]
        wait = int(min(LONGEST, self._link.patience / 2) * 1000)
        return ["XREADGROUP", "GROUP", GROUP, self._worker, "COUNT", 1, "BLOCK", wait, "STREAMS",
                *streams, *[">"] * len(streams)]  # fmt: skip

    def _sorted_out(self, reply: Any) -> tuple[list[Taken], set[str]]:
        """Return the entries, suspects first and the rest by priority, and the lanes that the bell names."""
        taken: list[Taken] = []
        named: set[str] = set()
        for key, entries in each_stream(reply):
            if key.decode() == self._bell:
                self.heard += [id for id, _ in entries]
                named |= {fields[b"w"].decode() for _, fields in entries} - {""}
            else:
                taken += [self._taken(key, *entry) for entry in entries]
        taken.sort(key=_urgency)
        return taken, named

    def _taken(self, key: bytes, id: bytes, fields: dict[bytes, bytes]) -> Taken:
        lane, part = self._keys.place(key.decode())
        stream = cast("Stream", part)
        place = (lane, stream, id.decode(), self._worker)
        return read_taken(place, fields.get(b"h", b""), fields.get(b"b", b""))


def _urgency(taken: Taken) -> int:
    return STREAMS.index(taken.stream)
