"""Cache: the portable class."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, final, overload

from pilotis.bridge import blocking, running_loop
from pilotis.codec import return_type
from pilotis.errors import UsageError
from pilotis.keys import check_text, glob
from pilotis.modules.base import operation
from pilotis.modules.cache.decorator import CachedFunction, Recipe, decorated
from pilotis.modules.cache.epochs import epoch_entry, new_epoch, tagged
from pilotis.modules.cache.filling import Fill
from pilotis.modules.cache.provider import CacheCapability, Entry
from pilotis.modules.cache.space import Space
from pilotis.modules.cache.store import UNCLEAR
from pilotis.modules.cache.terms import (
    Duration,
    Ttl,
    TtlOf,
    check_mapping,
    checked_increment,
    checked_keys,
    checked_terms,
    checked_ttl,
)
from pilotis.runtime import check_function

if TYPE_CHECKING:
    from pilotis.modules.event.model import Event

INVALIDATION_ATTEMPTS = 10

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
D = TypeVar("D")


@final
class Cache(Space):
    """Values kept for a while, computed once by many.

    Keys and tags are text of 1 to 1024 characters. A `ttl` is in seconds: `...` stands for the default of the settings
    (30), None keeps the value until it is evicted, 0 stores nothing and leaves what is there. Values are encoded, so
    that what is read is never the object that was stored; a cached None is a hit. `type` says what a reader gets:
    without one, MessagePack's own kinds. A stored value that does not fit the type is a miss, and stays; a corrupted
    one is removed.

    While the backend is down, `get*`, `set*` and `get_or_set*` are misses and drops, unless the settings say
    `on_error = "raise"`; the other verbs raise. Unfit arguments raise `InvalidInputError`.
    """

    # Reading

    @overload
    async def aget(self, key: str) -> Any: ...
    @overload
    async def aget(self, key: str, default: Any = None) -> Any: ...
    @overload
    async def aget(self, key: str, default: D = None, *, type: type[T]) -> T | D: ...
    @overload
    async def aget(self, key: str, default: Any = None, *, type: Any) -> Any: ...
    @operation
    async def aget(self, key: str, default: Any = None, *, type: Any = Any) -> Any:
        """Return the value of `key`, or `default` where there is none."""
        mapped = self._names.key(key)
        data = self._store.at_hand((mapped,)) or await self._store.asked((mapped,))
        value = self._store.plain(data[0], type)
        if value is UNCLEAR:
            return (await self._store.values(data, (mapped,), (key,), type)).get(key, default)
        return value

    get = blocking(aget)

    @overload
    async def aget_many(self, keys: Iterable[str]) -> dict[str, Any]: ...
    @overload
    async def aget_many(self, keys: Iterable[str], *, type: type[T]) -> dict[str, T]: ...
    @overload
    async def aget_many(self, keys: Iterable[str], *, type: Any) -> dict[str, Any]: ...
    @operation
    async def aget_many(self, keys: Iterable[str], *, type: Any = Any) -> dict[str, Any]:
        """Return the values of those `keys` that have one, in their order. One call of the provider for all."""
        names = checked_keys(keys)
        if not names:
            return {}
        mapped = self._names.keys(names)
        return await self._store.values(await self._store.read(mapped), mapped, names, type)

    get_many = blocking(aget_many)

    # Writing

    @operation
    async def aset(self, key: str, value: object, *, ttl: Ttl = ..., tags: Iterable[str] = ()) -> None:
        """Store a value for `ttl`, in place of what is there. `invalidate_tags` of any of its `tags` ends it sooner."""
        mapped, seconds, mapped_tags = self._names.key(key), checked_ttl(ttl, self._default_ttl), self._tags(tags)
        await self._keep({mapped: self._store.sealed(value, _place(key))}, seconds, mapped_tags)

    set = blocking(aset)

    @operation
    async def aset_many(self, values: Mapping[str, object], *, ttl: Ttl = ..., tags: Iterable[str] = ()) -> None:
        """Store several values, in one call of the provider. If one cannot be encoded, none is stored."""
        check_mapping(values, "values")
        seconds, mapped_tags = checked_ttl(ttl, self._default_ttl), self._tags(tags)
        sealed = {self._names.key(key): self._store.sealed(value, _place(key)) for key, value in values.items()}
        await self._keep(sealed, seconds, mapped_tags)

    set_many = blocking(aset_many)

    @operation
    async def aadd(self, key: str, value: object, *, ttl: Ttl = ...) -> bool:
        """Store a value unless there is one, and tell whether it was stored. Of several callers at once, one gets True.

        Raises while the backend is down. With a ttl of 0 nothing is stored, and the answer is False.
        """
        seconds = checked_ttl(ttl, self._default_ttl)
        entry = Entry(self._names.key(key), self._store.sealed(value, must_fit=True), seconds)
        if seconds == 0:
            return False
        (stored,) = await self._store.write_strictly((entry,), only_absent=True)
        self._tally.sets += stored
        return stored

    add = blocking(aadd)

    @operation
    async def aincrement(self, key: str, by: int = 1, *, ttl: Ttl = ...) -> int:
        """Add `by` to a whole number, atomically, and return the sum. A missing one counts from zero.

        `ttl` is for a number that is created; one that exists keeps its own. With a ttl of 0 nothing is stored.
        Raises `InvalidInputError` for a value that is no whole number or has tags, and for a sum outside 64 bits;
        raises while the backend is down.
        """
        mapped, by = self._names.key(key), checked_increment(by)
        seconds = checked_ttl(ttl, self._default_ttl)
        provider = await self._store.opened()
        if seconds == 0:
            with self.calling("increment"):
                (data,) = await provider.read((mapped,))
            return by + (0 if data is None else self._store.unseal(data, int, key))
        with self.calling("increment"):
            return await provider.count(mapped, by, seconds)

    increment = blocking(aincrement)

    @operation
    async def atouch(self, key: str, ttl: Ttl) -> bool:
        """Have the value last for `ttl` from now, and tell whether there is one. With a ttl of 0 it is removed.

        A value that `get_or_set` watches (`stale_for`, `refresh_ahead`) is no longer fresh at the same time as before.
        Raises while the backend is down.
        """
        mapped, seconds = self._names.key(key), checked_ttl(ttl, self._default_ttl)
        provider = await self._store.opened()
        if seconds == 0:
            self._filler.removals.note((mapped,))
        with self.calling("touch"):
            if seconds == 0:
                return await provider.remove((mapped,)) > 0
            return await provider.expire(mapped, seconds)

    touch = blocking(atouch)

    # Removing

    @operation
    async def adelete(self, *keys: str) -> int:
        """Remove values, and return how many there were. Raises while the backend is down.

        A value that this process is computing at this moment is not kept either; where another process
        computes it, use a tag.
        """
        mapped = self._names.keys(checked_keys(keys))
        return await self._remove(mapped) if mapped else 0

    delete = blocking(adelete)

    @operation
    async def ainvalidate(self, pattern: str) -> int | None:
        """Remove the value of a key, or of all keys that match, and return how many there were.

        For a pattern that is None where the provider cannot tell, as it lacks CacheCapability.MATCH_COUNT.

        In a pattern `*` stands for any run of characters, and all else for itself: "price:*:eur". It is the whole key
        that matches. Only this namespace is touched. Raises while the backend is down, and
        `UnsupportedError` for a pattern where the provider lacks CacheCapability.MATCHING.
        """
        mapped = self._names.key(pattern)
        if "*" not in pattern:
            return await self._remove([mapped])
        self.require(CacheCapability.MATCHING)
        provider = await self._store.opened()
        self._filler.removals.note_matching(glob(mapped))
        with self.calling("invalidate"):
            removed = await provider.remove_matching(mapped)
        self._tally.deletes += removed or 0
        return removed

    invalidate = blocking(ainvalidate)

    @operation
    async def ainvalidate_tags(self, *tags: str) -> None:
        """Have every value with one of the `tags` count as missing, however many there are: one short write.

        A value that is being computed at this moment is not kept either. Raises while the backend is down.
        """
        entries = [epoch_entry(self._names.tag(tag), new_epoch()) for tag in checked_keys(tags, "tags")]
        if entries:
            await self._store.write_strictly(entries)

    invalidate_tags = blocking(ainvalidate_tags)

    @operation
    async def aclear(self) -> None:
        """Remove everything in this namespace, and nothing else: other namespaces, also those within it, stay.

        Raises while the backend is down, and `UnsupportedError` where the provider lacks CacheCapability.MATCHING.
        """
        self.require(CacheCapability.MATCHING)
        provider = await self._store.opened()
        with self.calling("clear"):
            for pattern in self._names.patterns():
                self._filler.removals.note_matching(glob(pattern))
                await provider.remove_matching(pattern)

    clear = blocking(aclear)

    def invalidate_on(self, event: str, *, tags: Callable[[Event[Any]], Iterable[str]], id: str | None = None) -> None:
        """Invalidate tags of this namespace whenever an event of a name or pattern ("product.*") is emitted.

        `tags(event)`, plain or async, returns which, and runs where handlers do, once for all processes of the service.
        While the backend is down it is tried again, ten times in all, with the pauses of the event settings. A further
        rule for the same event in the same namespace needs an `id` of its own, or raises `ConfigurationError`. Raises
        `UsageError` for a cache that belongs to no app, which has no events.
        """
        if self.bus is None:
            raise UsageError(
                "invalidate_on needs the events of an app, and the cache stands alone; use that of a Pilotis app, "
                "or call invalidate_tags in a handler"
            )

        async def invalidate(event: Event[Any]) -> None:
            found = await self.context.runtime.call(tags, event)
            await self.ainvalidate_tags(*checked_keys(found, "tags"))

        name = "/".join(("invalidate", *self._names.path)) if id is None else id
        self.bus().on(event, id=name, attempts=INVALIDATION_ATTEMPTS)(invalidate)

    # Computing what is missing

    @operation
    async def aget_or_set(
        self,
        key: str,
        factory: Callable[[], Awaitable[R]] | Callable[[], R],
        *,
        ttl: TtlOf = ...,
        tags: Iterable[str] = (),
        stale_for: Duration = 0,
        refresh_ahead: float | None = None,
        timeout: Duration | None = None,
        type: Any = Any,
    ) -> R:
        """Return the value of `key`, computed by `factory()`, plain or async, where there is none.

        One caller computes at a time; the others wait for it, at most for the `lease` of the settings, and get
        its error if it fails. A computed value is returned as the next reader will get it, as a `type`, by default the
        one that the factory's return annotation names; what does not fit raises `TypeMismatchError` and is not kept.
        A factory that asks for its own key gets `ReentrantCallError`.

        `ttl` may be a function of the computed value. A value whose ttl is over is served for `stale_for` seconds more,
        at once, while it is computed anew in the background; when that fails, it is served on. `refresh_ahead`, usually
        1, computes anew before the ttl is over, the earlier the longer it takes. After `timeout` seconds the caller
        gets `OperationTimeoutError`; the factory goes on, and its result is kept. In the background, and wherever there
        is a `timeout`, a factory sees a copy of its caller's context variables, but is not inside the caller's group,
        locks or workflow. A refresh that failed is not repeated for a second.
        """
        mapped = self._names.key(key)
        terms = checked_terms(self._default_ttl, ttl, stale_for, refresh_ahead, timeout)
        kind = return_type(factory) if type is Any else type
        check_function(factory, "factory")
        mapped_tags = self._tags(tags)
        names = (mapped, *mapped_tags)
        data = self._store.at_hand(names) or await self._store.asked(names)
        if not mapped_tags and (value := self._store.plain(data[0], kind)) is not UNCLEAR:
            return value
        fill = Fill({mapped: key}, mapped_tags, terms, kind, factory, running_loop())
        return await self._filler.one(mapped, fill, data)

    get_or_set = blocking(aget_or_set)

    @operation
    async def aget_or_set_many(
        self,
        keys: Iterable[str],
        factory: Callable[[list[str]], Any],
        *,
        ttl: TtlOf = ...,
        tags: Iterable[str] = (),
        type: Any = Any,
    ) -> dict[str, Any]:
        """Return the values of `keys`; one call of `factory(missing)`, plain or async, computes all that are missing.

        It returns a mapping of keys to values. A key that it leaves out is left out of the answer too; one that nobody
        asked for is ignored. Keys that somebody else computes at this moment are waited for. `ttl` and `tags` are for
        each of the computed values. The rest is as with `get_or_set`.
        """
        asked = checked_keys(keys)
        names = dict(zip(self._names.keys(asked), asked, strict=True))
        terms = checked_terms(self._default_ttl, ttl)
        kind = value_type(factory) if type is Any else type
        fill = Fill(names, self._tags(tags), terms, kind, check_function(factory, "factory"), running_loop())
        if not names:
            return {}
        return {names[mapped]: value for mapped, value in (await self._filler.many(fill)).items()}

    get_or_set_many = blocking(aget_or_set_many)

    def cached(
        self,
        *,
        ttl: TtlOf = ...,
        key: str | None = None,
        tags: Sequence[str] = (),
        stale_for: Duration = 0,
        refresh_ahead: float | None = None,
        timeout: Duration | None = None,
        type: Any = Any,
    ) -> Callable[[Callable[P, R]], CachedFunction[P, R]]:
        """Decorate a function, plain or async, so that its results are kept as with `get_or_set`.

        `key` and `tags` are templates of its parameters: "price:{product.id}:{currency}". Without a key, one is made of
        the function's name and all arguments. A field that the function does not have, and a method without a key,
        raise `ConfigurationError` at once. `price.invalidate(...)` forgets the result for these arguments.
        """
        checked_terms(self._default_ttl, ttl, stale_for, refresh_ahead, timeout)
        if key is not None:
            check_text(key, "key")
        templates = checked_keys(tags, "tags")
        options = {"ttl": ttl, "stale_for": stale_for, "refresh_ahead": refresh_ahead, "timeout": timeout, "type": type}

        def decorate(function: Callable[P, R]) -> CachedFunction[P, R]:
            return decorated(function, Recipe(self, function, key, templates, options))

        return decorate

    # Parts of verbs

    async def _keep(self, sealed: Mapping[str, bytes], seconds: float | None, tags: Sequence[str]) -> None:
        if not sealed or seconds == 0:
            return
        epochs = await self._store.epochs(tags) if tags else {}
        self._filler.removals.note(sealed)
        await self._store.keep(
            [Entry(key, tagged(data, epochs), self._store.spread(seconds)) for key, data in sealed.items()]
        )

    async def _remove(self, mapped: Sequence[str]) -> int:
        provider = await self._store.opened()
        self._filler.removals.note(mapped)
        with self.calling("delete"):
            removed = await provider.remove(mapped)
        self._tally.deletes += removed
        return removed


def _place(key: str) -> str:
    return f"value of {key!r}"[:100]


def value_type(factory: Callable[..., Any]) -> Any:
    """Return the type of the values in the mapping that `factory` says it returns; Any where it does not say."""
    answer = return_type(factory)
    origin, arguments = typing.get_origin(answer), typing.get_args(answer)
    return arguments[1] if inspect.isclass(origin) and issubclass(origin, Mapping) and len(arguments) == 2 else Any
