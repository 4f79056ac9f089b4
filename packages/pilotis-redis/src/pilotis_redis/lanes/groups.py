"""Entries that are kept back until all of them are wanted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec
from pilotis.bridge import Latch, reset_after_fork
from pilotis.runtime import Job, Runtime
from redis.exceptions import RedisError

from pilotis_redis.lanes.entry import Push, milliseconds
from pilotis_redis.lanes.keys import BusKeys
from pilotis_redis.link import RedisLink

logger = logging.getLogger("pilotis.redis")

KEPT = 60.0
"""Seconds for which a group outlives the process that staged it."""
_PAGE = 200

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Push).decode


class Staged(msgspec.Struct, frozen=True):
    """What a group held when it was read."""

    key: str
    pushes: list[Push]
    ids: list[bytes]
    """Of their places in the stream."""

    @property
    def last(self) -> bytes:
        """Two readings with as many entries and this one as the last are the same: none is ever put in between."""
        return self.ids[-1]


class Groups:
    """A stream for each group. It ends by itself, unless the process that put something into it renews it."""

    def __init__(self, link: RedisLink, keys: BusKeys, runtime: Callable[[], Runtime], kept: float = KEPT) -> None:
        self._link = link
        self._keys = keys
        self._runtime = runtime
        self._kept = kept
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Leave the groups of the parent to the parent."""
        self._lock = threading.Lock()
        self._renewed: set[str] = set()
        self._job: Job[None] | None = None
        self._stopped = Latch()

    async def stage(self, groups: Mapping[str, Sequence[Push]]) -> None:
        """Put entries at the ends of groups, all or none."""
        staged = {self._keys.group(group): pushes for group, pushes in groups.items()}
        entries = [("XADD", key, "*", "p", _encode(push)) for key, pushes in staged.items() for push in pushes]
        if entries:
            ends = [("PEXPIRE", key, milliseconds(self._kept)) for key in staged]
            await self._link.transaction([*entries, *ends])
            self._renew(staged)

    async def read(self, group: str) -> Staged:
        """Return what a group holds; nothing, of one that is not there."""
        key = self._keys.group(group)
        ids: list[bytes] = []
        pushes: list[Push] = []
        while page := await self._link.execute("XRANGE", key, b"(" + ids[-1] if ids else "-", "+", "COUNT", _PAGE):
            ids += [id for id, _ in page]
            pushes += [_decode(fields[b"p"]) for _, fields in page]
        return Staged(key, pushes, ids)

    async def clear(self, group: str, names: Collection[str] | None) -> int:
        """Drop what a group holds, or only entries of these names, and return how many."""
        staged = await self.read(group)
        meant = [id for id, push in zip(staged.ids, staged.pushes, strict=True) if names is None or push.name in names]
        return await self._link.execute("XDEL", staged.key, *meant) if meant else 0

    async def close(self) -> None:
        """Renew nothing any more."""
        with self._lock:
            job, self._job = self._job, None
            self._renewed.clear()
            stopped, self._stopped = self._stopped, Latch()
        stopped.set()
        if job is not None:
            await job.ended.wait()

    def _renew(self, keys: Iterable[str]) -> None:
        with self._lock:
            self._renewed.update(keys)
            if self._job is None:
                self._job = self._runtime().spawn(self._keep(self._stopped), "renewal of staged events")

    async def _keep(self, stopped: Latch) -> None:
        """Renew what there is, until nothing is left. Real seconds: the server counts them."""
        while not await stopped.wait(self._kept / 3):
            with self._lock:  # what is staged meanwhile is noted anew
                renewed, self._renewed = list(self._renewed), set()
            try:
                replies = await self._link.pipeline([("PEXPIRE", it, milliseconds(self._kept)) for it in renewed])
            except RedisError as error:
                logger.warning("staged events could not be renewed, which is tried again: %s", error)
                replies = [True] * len(renewed)
            with self._lock:
                self._renewed |= {key for key, is_there in zip(renewed, replies, strict=True) if is_there}
                if not self._renewed and not stopped.is_set():
                    self._job = None
                    return
