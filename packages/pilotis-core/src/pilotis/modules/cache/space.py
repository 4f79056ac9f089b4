"""A namespace of a cache: its keys, and a life that it shares with the cache it is within."""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar, Self, TypeVar, cast
from weakref import WeakValueDictionary

from pilotis.bridge import blocking, reset_after_fork
from pilotis.context import Context
from pilotis.durations import optional_seconds
from pilotis.errors import ConfigurationError
from pilotis.keys import check_text
from pilotis.modules.base import Guard, Portable
from pilotis.modules.cache.breaker import Breaker, Gate, Watch
from pilotis.modules.cache.figures import CacheFigures
from pilotis.modules.cache.filling import Filler
from pilotis.modules.cache.names import Names
from pilotis.modules.cache.near import Near
from pilotis.modules.cache.provider import CacheCapability, CacheProvider
from pilotis.modules.cache.stats import CacheStats, Tally
from pilotis.modules.cache.store import Store
from pilotis.modules.cache.terms import checked_keys
from pilotis.settings.model import CacheSettings, NearSettings

if TYPE_CHECKING:
    from pilotis.modules.event.declaring import Declarations

SpaceT = TypeVar("SpaceT", bound="Space")


class Space(Portable[CacheProvider]):
    """What all namespaces of a cache have in common. Its own one is the root."""

    module: ClassVar[str] = "cache"

    def __init__(
        self, provider: CacheProvider, *, settings: CacheSettings | None = None, context: Context | None = None
    ) -> None:
        super().__init__(provider, context=context)
        self.settings = settings or CacheSettings()
        self._default_ttl = optional_seconds(self.settings.default_ttl, "cache.default_ttl")
        self._root: Self = self
        self.bus: Callable[[], Declarations] | None = None
        """Where events come from: set by an app, whose own bus it is."""
        self.after_fork()
        reset_after_fork(self)
        self._nested: WeakValueDictionary[tuple[str, ...], Self] = WeakValueDictionary()
        space = self.settings.namespace
        self._names = Names(self.context.name, () if space is None else (check_text(space, "cache.namespace"),))
        self._tally = Tally()
        self._figures = CacheFigures(self._tally)
        self.breaker = Breaker(self.settings, self.context.clock, self._tally)
        self._near = self._near_cache()
        self._store = Store(self, self._provider, self.settings, self.context.clock, self._tally, near=self._near)
        self._filler = Filler(self._store, self.context, self.settings.lease)

    def after_fork(self) -> None:
        self._nesting = threading.Lock()

    def _near_cache(self) -> Near | None:
        """Return what keeps entries at hand, where the settings say so and they are not in this process anyway.

        Raises `ConfigurationError` where the provider cannot have them kept up with changes.
        """
        if not self.settings.near or not self._own.shared:
            return None
        if CacheCapability.TRACKING not in self._own.capabilities:
            raise ConfigurationError(
                f"{self.provider_name!r} does not tell of changes (it lacks CacheCapability.TRACKING), so nothing may "
                "be kept at hand; leave `near` out, or set it to false",
                path="cache.near",
            )
        settings = NearSettings() if self.settings.near is True else self.settings.near
        return Near(self._provider, self._names.prefix, settings, self.context, self.explain, tally=self._tally)

    def namespace(self, name: str) -> Self:
        """Return a cache of its own within this one: other keys and tags, the same provider, settings and statistics.

        Its life is that of the cache it is within: closing it does nothing.
        """
        path = (*self._names.path, check_text(name, "namespace"))
        with self._root._nesting:
            found = self._root._nested.get(path)
            if found is None:
                found = self._root._nested[path] = self._within(path)
            return found

    def stats(self) -> CacheStats:
        """Return what this cache, with all its namespaces, did so far in this process."""
        stand_in = cast("Self | None", self.stand_in)
        return self._tally.taken() if stand_in is None else stand_in.stats()

    def _within(self, path: tuple[str, ...]) -> Self:
        inner = copy.copy(self)
        inner._names = Names(self.context.name, path)
        inner._follow()
        return inner

    def _follow(self) -> None:
        """Take over from the root whether verbs may start at once, and who stands in."""
        root = cast("Space", self._root)
        self.hot = root.hot
        stand_in = cast("Self | None", root.stand_in)
        inner_path = self._names.path[len(root._names.path) :]
        self.stand_in = None if stand_in is None else functools.reduce(_nested_in, inner_path, stand_in)

    # Life cycle

    async def aopen(self) -> None:
        """Open the provider and ping it. Opening twice does nothing.

        Raises `ConnectionFailedError` naming module, provider and address if the backend cannot be reached;
        a later call tries again.
        """
        await (super().aopen() if self._root is self else self._root.aopen())

    open = blocking(aopen)

    async def aclose(self) -> None:
        """End what runs in the background and close the provider. Idempotent. Later verbs raise `ClosedError`."""
        if self._root is self:
            try:
                await super().aclose()
            finally:
                self._figures.end()

    close = blocking(aclose)

    @property
    def is_open(self) -> bool:
        """Whether the provider was opened and not closed yet."""
        return super().is_open if self._root is self else self._root.is_open

    def guard(self, operation: str) -> Guard:
        if operation == "close":
            return super().guard(operation)
        # Whoever opens or pings wants to know, and it is how an outage is found to be over.
        watches: type[Watch] = Watch if operation in ("open", "ping") else Gate
        return watches(self, operation, self.breaker)

    async def ready(self) -> None:
        """Leave the opening to the first call of the provider: a backend that is down may be a miss."""

    async def _open(self) -> None:
        self._figures.begin(self.context.telemetry, self.facts)  # also where the backend is down from the start
        await super()._open()

    async def _started(self) -> None:
        if self._near is not None:
            self._near.start()

    async def _stopping(self) -> None:
        await self._filler.stop()
        if self._near is not None:
            await self._near.stop()

    def _warm(self) -> None:
        super()._warm()
        for inner in list(self._nested.values()):
            inner._follow()

    def _tags(self, tags: Iterable[str]) -> list[str]:
        return [self._names.tag(tag) for tag in checked_keys(tags, "tags")] if tags != () else []


def _nested_in(cache: SpaceT, name: str) -> SpaceT:
    return cache.namespace(name)
