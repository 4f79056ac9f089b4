"""Computing values anew in the background, while the old ones are served."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from pilotis.bridge import reset_after_fork
from pilotis.clock import Clock
from pilotis.modules.cache.claims import Claims
from pilotis.modules.cache.store import Store

logger = logging.getLogger("pilotis.cache")

REST_SECONDS = 1.0
"""How long a refresh that failed is not repeated, by any process."""


class Subject(Protocol):
    """What a refresh is known by."""

    @property
    def key(self) -> str: ...
    def __hash__(self) -> int: ...


class Refreshes:
    """The refreshes of this process. Shared by all namespaces of a portable class.

    Of several processes one refreshes a value, where the provider knows claims. The claim is beside the value, so that
    readers everywhere go on being served; it is over with its lease, if its process dies.
    """

    def __init__(
        self, store: Store, claims: Claims, clock: Clock, spawn: Callable[[Coroutine[Any, Any, object], str], object]
    ) -> None:
        self._store = store
        self._claims = claims
        self._clock = clock
        self._spawn = spawn
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self.under_way: dict[Subject, object] = {}
        self._resting: dict[Subject, float] = {}
        """What failed, or is up to another process, and until when it is left alone: the oldest first."""

    def begin(
        self, subject: Subject, name: str, epochs: Mapping[str, int], compute: Callable[[], Coroutine[Any, Any, object]]
    ) -> None:
        """Compute a value anew, unless that is under way, or has just failed. `name` is the user's key, for the log."""
        if self._resting.get(subject, 0.0) > self._clock.monotonic():
            return
        mine = object()
        if self.under_way.setdefault(subject, mine) is mine:
            self._spawn(self._attempt(subject, name, epochs, compute), subject.key)

    async def _attempt(
        self, subject: Subject, name: str, epochs: Mapping[str, int], compute: Callable[[], Coroutine[Any, Any, object]]
    ) -> None:
        try:
            if not await self._in_turn(subject.key, epochs, compute):
                self._rest(subject)
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._store.tally.errors += 1
            logger.warning("the factory of %r failed; the old value is served on", name, exc_info=True)
            self._rest(subject)
        finally:
            self.under_way.pop(subject, None)

    async def _in_turn(
        self, key: str, epochs: Mapping[str, int], compute: Callable[[], Coroutine[Any, Any, object]]
    ) -> bool:
        """Compute, unless another process does; tell which."""
        if not self._store.has_claims:
            await compute()
            return True
        turn = await self._claims.refresh(key, epochs, REST_SECONDS)
        if turn.mine:
            async with turn:
                await compute()
        return bool(turn.mine)

    def _rest(self, subject: Subject) -> None:
        now = self._clock.monotonic()
        for rested in list(itertools.takewhile(lambda other: self._resting[other] <= now, self._resting)):
            self._resting.pop(rested, None)
        self._resting[subject] = now + REST_SECONDS
