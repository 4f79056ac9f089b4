"""`get_or_set`: one computation per key at a time, in the foreground or behind the readers' backs."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar, cast

import msgspec

from pilotis.bridge import Flights, Latch, detached_context, on_loop, reset_after_fork, running_loop
from pilotis.context import Context
from pilotis.errors import ClosedError, InvalidInputError, OperationTimeoutError
from pilotis.modules.cache.claims import Claims, Quest, Turn
from pilotis.modules.cache.envelope import Head, with_head
from pilotis.modules.cache.provider import Entry
from pilotis.modules.cache.refreshing import Refreshes
from pilotis.modules.cache.removals import Removals
from pilotis.modules.cache.store import Found, Sight, Store
from pilotis.modules.cache.terms import Terms
from pilotis.runtime import Job, is_async

logger = logging.getLogger("pilotis.cache")

R = TypeVar("R")

CLOSE_SECONDS = 5.0


class Fill(msgspec.Struct, frozen=True):
    """What a caller asks for: values, and how to come by them."""

    keys: Mapping[str, str]
    """The user's key of each of ours."""
    tags: Sequence[str]
    terms: Terms
    type: Any
    factory: Callable[..., Any]
    loop: asyncio.AbstractEventLoop | None
    """Where the caller is at home, and so its async factory."""


class Ticket(NamedTuple):
    """What a computation is known by. Who comes after a removal joins none from before."""

    key: str
    epochs: tuple[int, ...]
    removals: int

    def __repr__(self) -> str:
        return repr(self.key)


class Filler:
    """Computes what is missing. Shared by all namespaces of a portable class."""

    def __init__(self, store: Store, context: Context, lease: float) -> None:
        self._store = store
        self._context = context
        self._clock = context.clock
        self._tally = store.tally
        self._lease = lease
        self._flights = Flights()
        self._claims = Claims(store, context.clock, lease, self._spawn)
        self.refreshes = Refreshes(store, self._claims, context.clock, self._spawn)
        self.removals = Removals()
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self.removals.after_fork()
        self._jobs: dict[Job[Any], None] = {}

    async def stop(self) -> None:
        """End what runs in the background."""
        jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        for job in jobs:
            await job.ended.wait(CLOSE_SECONDS)

    # One value

    async def one(self, key: str, fill: Fill, data: Sequence[bytes | None]) -> Any:
        """Return the value of `key`, from the cache if it is there: in the `data` that was read of key and tags."""
        sight = await self._store.sight(data, (key,), fill.tags, fill.type)
        now = self._clock.time()
        found = sight.found.get(key)
        (ticket,) = await self._tickets((key,), fill, sight)
        if found is not None and now < found.expires + fill.terms.stale_for:
            self._serve(ticket, fill, found, now)
            return found.value
        self._tally.misses += 1
        return self._store.unseal(await self._awaited(ticket, fill, now, sight.seen), fill.type)

    async def _tickets(self, keys: Sequence[str], fill: Fill, sight: Sight) -> list[Ticket]:
        epochs = await self._store.epochs(fill.tags, sight.epochs)
        return [Ticket(key, tuple(epochs[tag] for tag in fill.tags), self.removals.count(key)) for key in keys]

    def _serve(self, ticket: Ticket, fill: Fill, found: Found, now: float) -> None:
        if now >= found.expires:
            self._tally.stale += 1
            self._refresh(ticket, fill, now)
            return
        self._tally.hits += 1
        if is_due_early(found, fill.terms.eagerness, now):
            self._refresh(ticket, fill, found.expires)

    async def _awaited(self, ticket: Ticket, fill: Fill, now: float, seen: Mapping[str, bytes]) -> bytes:
        timeout = fill.terms.timeout
        if timeout is None:
            return await self._computed(ticket, fill, now, seen)
        self._flights.refuse_reentry(ticket)
        outcome: Outcome[bytes] = Outcome(fill.keys[ticket.key])
        job = self._spawn(outcome.fill(self._computed(ticket, fill, now, seen)), ticket.key)
        job.ended.on_set(outcome.known.set)  # also where it was ended before it began
        if await self._clock.wait(outcome.known, timeout):
            return outcome.result()
        outcome.is_awaited = False
        raise OperationTimeoutError(
            f"the factory of {fill.keys[ticket.key]!r} took over {timeout:g} s; it goes on, and its result is kept",
            module="cache",
            operation="get_or_set",
        )

    async def _computed(
        self, ticket: Ticket, fill: Fill, outdated: float, seen: Mapping[str, bytes] | None = None
    ) -> bytes:
        """Return the stored form, computed by one caller at a time. What expires at `outdated` does not count.

        Other processes wait, too, where nothing that was `seen` before will do; without it, the old value serves them.
        """
        compute = functools.partial(self._compute, ticket, fill, outdated, seen)
        return await self._flights.run(ticket, compute, lease=self._lease)

    async def _compute(self, ticket: Ticket, fill: Fill, outdated: float, seen: Mapping[str, bytes] | None) -> bytes:
        key = ticket.key
        with self.removals.watching((key,)) as before:
            if seen is None or not self._store.has_claims:
                return await self._computed_alone(key, fill, outdated, before)
            quest = _quest(ticket, fill, outdated, seen)
            return await self._computed_in_turn(await self._claims.turn(key, quest), key, fill, quest, before)

    async def _computed_in_turn(
        self, turn: Turn, key: str, fill: Fill, quest: Quest, before: Mapping[str, int]
    ) -> bytes:
        if key in turn.found:
            return turn.found[key].sealed
        async with turn:
            sealed, entries = await self._filled(key, fill, quest.epochs)
            await turn.keep(self._timely(entries, before))
        return sealed

    async def _computed_alone(self, key: str, fill: Fill, outdated: float, before: Mapping[str, int]) -> bytes:
        sight = await self._store.look((key,), fill.tags, fill.type)  # somebody may have been first
        found = sight.found.get(key)
        if found is not None and found.expires > outdated:
            return found.sealed
        epochs = await self._store.epochs(fill.tags, sight.epochs)
        sealed, entries = await self._filled(key, fill, epochs)
        await self._keep(entries, before)
        return sealed

    async def _filled(self, key: str, fill: Fill, epochs: Mapping[str, int]) -> tuple[bytes, list[Entry]]:
        """Call the factory, and return the stored form of its value, and what to store."""
        start = self._clock.monotonic()
        value = await self._call(fill)
        cost = self._clock.monotonic() - start
        sealed = self._checked(value, fill, "value")
        return sealed, self._entries({key: (value, sealed)}, fill, epochs, cost=cost)

    # Several values

    async def many(self, fill: Fill) -> dict[str, Any]:
        """Return the values of all keys, by our key; those that the factory has none of are left out."""
        keys = list(fill.keys)
        sight = await self._store.look(keys, fill.tags, fill.type)
        values = {key: found.value for key, found in self._fresh(sight).items()}
        self._tally.hits += len(values)
        missing = [key for key in keys if key not in values]
        if not missing:
            return values
        self._tally.misses += len(missing)
        tickets = await self._tickets(missing, fill, sight)
        compute = functools.partial(self._compute_many, fill, sight.seen)
        for ticket, sealed in (await self._flights.run_many(tickets, compute, lease=self._lease)).items():
            if sealed is not None:
                values[ticket.key] = self._store.unseal(sealed, fill.type)
        return {key: values[key] for key in keys if key in values}

    async def _compute_many(
        self, fill: Fill, seen: Mapping[str, bytes], tickets: list[Ticket]
    ) -> dict[Ticket, bytes | None]:
        keys = [ticket.key for ticket in tickets]
        with self.removals.watching(keys) as before:
            if self._store.has_claims:
                quest = _quest(tickets[0], fill, self._clock.time(), seen)
                results = await self._results_in_turn(fill, keys, quest, before)
            else:
                results = await self._results(fill, keys, before)
        return {ticket: results[ticket.key] for ticket in tickets}

    async def _results_in_turn(
        self, fill: Fill, keys: list[str], quest: Quest, before: Mapping[str, int]
    ) -> dict[str, bytes | None]:
        """Compute at once what nobody else does, and wait for the rest when that is done: nobody waits in a circle."""
        turn = await self._claims.attempt(keys, quest)
        results = await self._taken(turn, fill, quest, before)
        for key, standing in turn.held.items():
            results |= await self._taken(await self._claims.turn(key, quest, standing), fill, quest, before)
        return results

    async def _taken(self, turn: Turn, fill: Fill, quest: Quest, before: Mapping[str, int]) -> dict[str, bytes | None]:
        results: dict[str, bytes | None] = {key: found.sealed for key, found in turn.found.items()}
        if not turn.mine:
            return results
        keys = list(turn.mine)
        async with turn:
            made = await self._made(fill, keys)
            await turn.keep(self._timely(self._entries(made, fill, quest.epochs), before))
        return results | dict.fromkeys(keys) | {key: sealed for key, (_, sealed) in made.items()}

    async def _results(self, fill: Fill, keys: list[str], before: Mapping[str, int]) -> dict[str, bytes | None]:
        sight = await self._store.look(keys, fill.tags, fill.type)
        results: dict[str, bytes | None] = dict.fromkeys(keys)
        results.update({key: found.sealed for key, found in self._fresh(sight).items()})
        missing = [key for key in keys if results[key] is None]
        if not missing:
            return results
        epochs = await self._store.epochs(fill.tags, sight.epochs)
        made = await self._made(fill, missing)
        await self._keep(self._entries(made, fill, epochs), before)
        return results | {key: sealed for key, (_, sealed) in made.items()}

    async def _made(self, fill: Fill, keys: list[str]) -> dict[str, tuple[Any, bytes]]:
        """Call the factory, and return each value with its stored form."""
        answer = await self._call(fill, [fill.keys[key] for key in keys])
        if not isinstance(answer, Mapping):
            raise InvalidInputError(
                f"factory: expected it to return a mapping of keys to values, got {type(answer).__name__}"
            )
        made = cast("Mapping[str, Any]", answer)
        names = {key: fill.keys[key] for key in keys if fill.keys[key] in made}
        return {key: (made[name], self._checked(made[name], fill, f"value[{name!r}]")) for key, name in names.items()}

    def _fresh(self, sight: Sight) -> dict[str, Found]:
        now = self._clock.time()
        return {key: found for key, found in sight.found.items() if found.expires > now}

    # Both

    async def _call(self, fill: Fill, *args: Any) -> Any:
        self._tally.factory_calls += 1
        home = fill.loop
        if home is not None and home is not running_loop() and home.is_running() and is_async(fill.factory):
            return await on_loop(home, fill.factory(*args))
        return await self._context.runtime.call(fill.factory, *args)

    def _checked(self, value: object, fill: Fill, at: str) -> bytes:
        """Return the stored form, or raise as the next reader would: nothing is kept that does not fit its type."""
        sealed = self._store.sealed(value, at)
        self._store.unseal(sealed, fill.type, at)
        return sealed

    def _entries(
        self, made: Mapping[str, tuple[Any, bytes]], fill: Fill, epochs: Mapping[str, int], *, cost: float = 0.0
    ) -> list[Entry]:
        """Return what to store of the computed values, each with its head and its own ttl."""
        now = self._clock.time()
        entries: list[Entry] = []
        for key, (value, sealed) in made.items():
            ttl = self._store.spread(fill.terms.ttl_of(value))
            head = Head(fill.terms.expiry(ttl, now), cost if fill.terms.eagerness else 0.0, dict(epochs))
            if ttl != 0:
                entries.append(Entry(key, with_head(head, sealed), fill.terms.lifetime(ttl)))
        return entries

    async def _keep(self, entries: Sequence[Entry], before: Mapping[str, int]) -> None:
        """Store what was computed, unless its key was removed or set meanwhile: that wins."""
        entries = self._timely(entries, before)
        await self._store.keep(entries)
        late = [entry.key for entry in entries if self._is_late(entry, before)]
        if late:  # some of it may have been stored in the very moment of the removal
            await self._store.forget(late)

    def _timely(self, entries: Sequence[Entry], before: Mapping[str, int]) -> list[Entry]:
        return [entry for entry in entries if not self._is_late(entry, before)]

    def _is_late(self, entry: Entry, before: Mapping[str, int]) -> bool:
        return self.removals.count(entry.key) != before[entry.key]

    # In the background

    def _refresh(self, ticket: Ticket, fill: Fill, outdated: float) -> None:
        """Compute a value anew, while the old one is served."""
        epochs = dict(zip(fill.tags, ticket.epochs, strict=True))
        compute = functools.partial(self._computed, ticket, fill, outdated)
        self.refreshes.begin(ticket, fill.keys[ticket.key], epochs, compute)

    def _spawn(self, work: Coroutine[Any, Any, object], key: str) -> Job[Any]:
        job = self._context.runtime.spawn(work, f"cache {key}", context=detached_context())
        self._jobs[job] = None
        job.ended.on_set(functools.partial(self._jobs.pop, job, None))
        return job


class Outcome(Generic[R]):
    """What will become of a computation that its caller may stop waiting for."""

    def __init__(self, key: str) -> None:
        self.known = Latch()
        self.is_awaited = True
        self._key = key
        self._result: R | None = None
        self._error: BaseException | None = self._closed()

    def _closed(self) -> ClosedError:
        return ClosedError(f"the cache was closed while {self._key!r} was computed")

    async def fill(self, computation: Awaitable[R]) -> None:
        try:
            self._result = await computation
            self._error = None
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # whatever it is, it is the caller's, and not the background loop's
            self._error = error
            if not self.is_awaited:
                logger.warning("the factory of %r failed after its caller was gone", self._key, exc_info=True)
        finally:
            self.known.set()

    def result(self) -> R:
        if self._error is not None:
            raise self._error
        return self._result  # pyright: ignore[reportReturnType] - set when there is no error


def _quest(ticket: Ticket, fill: Fill, outdated: float, seen: Mapping[str, bytes]) -> Quest:
    return Quest(fill.tags, dict(zip(fill.tags, ticket.epochs, strict=True)), fill.type, outdated, seen)


def is_due_early(found: Found, eagerness: float, now: float) -> bool:
    """Tell whether to refresh before expiry: the likelier, the nearer it is and the costlier the value was.

    This is XFetch, from Vattani, Chierichetti and Lowenstein, "Optimal probabilistic cache stampede prevention",
    VLDB 2015.
    """
    if not eagerness or math.isinf(found.expires):
        return False
    return now - found.cost * eagerness * math.log(1.0 - random.random()) >= found.expires
