"""The queue side of lanes: what puts entries in, and looks after them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeVar

from pilotis.errors import ConflictError
from pilotis.runtime import Runtime

from pilotis_redis.lanes.emitting import emit
from pilotis_redis.lanes.entry import Letter, Push, Pushed
from pilotis_redis.lanes.groups import KEPT, Groups, Staged
from pilotis_redis.lanes.keys import BusKeys
from pilotis_redis.lanes.letters import Letters, Meant
from pilotis_redis.lanes.registry import LaneSpec, Registrar, Registry
from pilotis_redis.lanes.single import Singles
from pilotis_redis.lanes.state import LaneState, states, unattended
from pilotis_redis.lanes.tail import watch
from pilotis_redis.link import RedisLink
from pilotis_redis.scripts import Script

T = TypeVar("T")

_PAUSE = Script.load("pilotis_redis", "entries", "pause")
_PURGE = Script.load("pilotis_redis", "entries", "purge")
_PURGED = 200
"""Entries of a kind that one run of the script drops."""
_MOST_TRIES = 50


class Lanes:
    """The lanes of one bus: declared, filled and looked after. Usable from any thread and event loop.

    Every verb is a command or script of milliseconds, or several of them. Errors are redis-py's own.
    """

    def __init__(self, link: RedisLink, bus: str, *, runtime: Callable[[], Runtime], groups_kept: float = KEPT) -> None:
        """Stand on a link. No I/O. `runtime` returns where staged entries are renewed, every third of `groups_kept`."""
        self.link = link
        self.keys = BusKeys(bus)
        self.registrar = Registrar(link, self.keys)
        self._groups = Groups(link, self.keys, runtime, groups_kept)
        self._letters = Letters(link, self.keys)
        self._singles = Singles(link, self.keys)

    async def close(self) -> None:
        """Leave what is staged to its end."""
        await self._groups.close()

    # Lanes

    async def registry(self) -> Registry:
        """Return the lanes of all services on the bus, as far as is known here."""
        return await self.registrar.registry()

    async def fresh_registry(self) -> Registry:
        """Return the lanes of all services on the bus, as Redis has them now."""
        return await self.registrar.fresh()

    async def declare(self, lanes: Sequence[LaneSpec]) -> list[LaneSpec | None]:
        """Make lanes, or note what changed about them; return what was known of each until now, None of a new one."""
        return await self.registrar.declare(lanes)

    async def forget(self, lanes: Collection[str]) -> None:
        """Remove lanes with everything in them."""
        await self.registrar.forget(lanes)

    async def restore(self) -> None:
        """Where the database was emptied, declare again what was declared here, with a warning."""
        await self.registrar.fresh()

    async def pause(self, lanes: Collection[str], *, paused: bool) -> None:
        """Have lanes hand out nothing, or hand out again. Unknown ones do not matter."""
        found = await self._known(lanes)
        if found:
            bells = await self._bells() if paused else []
            keys = (self.keys.workers, self.keys.paused, self.keys.news, *bells)
            await self.link.script(_PAUSE, keys, (int(paused), *found))

    async def purge(self, lanes: Collection[str]) -> int:
        """Drop what waits in lanes, and return how many entries that were."""
        dropped = 0
        for lane in await self._known(lanes):
            is_more = True
            while is_more:
                number, is_more = await self.link.script(_PURGE, self.keys.lane(lane).all, (_PURGED,))
                dropped += number
        return dropped

    async def states(self, lanes: Sequence[str]) -> list[LaneState]:
        """Tell how lanes are doing, in their order."""
        return await states(self.link, self.keys, lanes)

    async def unattended(self, lanes: Sequence[str]) -> list[str]:
        """Return those of lanes that no live worker reads, or for which live workers name different handlers."""
        return await unattended(self.link, self.keys, lanes)

    async def _bells(self) -> list[str]:
        workers = await self.link.execute("ZRANGE", self.keys.workers, 0, -1)
        return [self.keys.bell(worker.decode()) for worker in workers]

    async def _known(self, lanes: Collection[str]) -> list[str]:
        known = (await self.registrar.fresh()).lanes  # others may have declared or forgotten some
        return [lane for lane in lanes if lane in known]

    # Entries

    async def emit(self, pushes: Sequence[Push]) -> list[Pushed]:
        """Put each entry into every lane whose pattern its name matches. All are taken, or none.

        Answers stand in the order of the entries. One that repeats another, by its id or its `name` and `dedupe`, is
        dropped, and its answer names the other.
        """
        if not pushes:
            return []
        if len(pushes) == 1:
            registry = self.registrar.known or await self.registry()
            pushed = await self._singles.emit(registry, pushes[0])
            if pushed is not None:
                return [pushed]

        async def attempt(registry: Registry) -> list[Pushed] | None:
            return await emit(self.link, self.keys, registry, pushes, None)

        return await self._until_fresh(attempt)

    async def stage(self, groups: Mapping[str, Sequence[Push]]) -> None:
        """Keep entries back, in order, until their group is released or cleared, or this process is dead.

        Those of all groups are kept, or none.
        """
        await self._groups.stage({group: pushes for group, pushes in groups.items() if pushes})

    async def release(self, group: str) -> list[Pushed]:
        """Put what was staged into lanes, all or nothing, and forget the group. An unknown group is empty."""

        async def attempt(registry: Registry) -> list[Pushed] | None:
            staged: Staged = await self._groups.read(group)
            return await emit(self.link, self.keys, registry, staged.pushes, staged) if staged.pushes else []

        return await self._until_fresh(attempt)

    async def clear(self, group: str, names: Collection[str] | None) -> int:
        """Drop what was staged, or only entries of these names, and return how many."""
        return await self._groups.clear(group, names)

    async def _until_fresh(self, attempt: Callable[[Registry], Awaitable[T | None]]) -> T:
        """Try with what is known of lanes, and where that is of the past, again with what is true."""
        registry = await self.registry()
        for _ in range(_MOST_TRIES):
            done = await attempt(registry)
            if done is not None:
                return done
            registry = await self.registrar.newer(registry)
        raise ConflictError(f"lanes, or what was staged, changed {_MOST_TRIES} times while entries were put into them")

    def tail(self) -> AsyncGenerator[Push, None]:
        """Yield each entry that is emitted from now on, until it is closed; what comes too fast is left out."""
        return watch(self.link, self.keys)

    # Dead letters

    def letters(self, meant: Meant) -> AsyncGenerator[Letter, None]:
        """List dead letters, the oldest first. What dies or goes meanwhile may or may not be among them."""
        return self._letters.all(meant)

    async def replay(self, meant: Meant) -> int:
        """Put dead letters back into their lanes, each once, with all their attempts; return how many."""
        return await self._letters.replay(meant)

    async def bury(self, meant: Meant) -> int:
        """Remove dead letters, and return how many."""
        return await self._letters.bury(meant)
