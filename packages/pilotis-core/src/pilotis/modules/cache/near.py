"""The near cache: a provider in front of a provider, which keeps entries at hand while it is told of their changes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager

from pilotis.backoff import Backoff
from pilotis.bridge import pause, reset_after_fork
from pilotis.context import Context
from pilotis.errors import OperationError
from pilotis.keys import glob
from pilotis.modules.cache.provider import CacheProvider, Entry
from pilotis.modules.cache.stats import Tally
from pilotis.modules.cache.tier import Tier
from pilotis.runtime import Job
from pilotis.settings.model import NearSettings

STOP_SECONDS = 5.0
RETRIES = Backoff.exponential(0.05, factor=2, maximum=5, jitter=0.5)
"""The pauses before changes are tracked again."""

Explain = Callable[[Exception, str], OperationError]


class Near(CacheProvider):
    """Answers at once what is at hand, and hands everything else on. What this process changes it forgets by itself.

    It forgets when a change is done, not when it begins: until then nobody was promised that it is seen.
    """

    def __init__(
        self,
        provider: CacheProvider,
        prefix: str,
        settings: NearSettings,
        context: Context,
        explain: Explain,
        *,
        tally: Tally,
    ) -> None:
        super().__init__(provider.options)
        self.context = context
        self.name = provider.name
        self.capabilities = provider.capabilities  # pyright: ignore[reportAttributeAccessIssue] - it hands them on
        self.tier = Tier(settings.max_entries, settings.ttl, context.clock)
        self._provider = provider
        self._prefix = prefix
        self._explain = explain
        self._tally = tally
        self._is_wanted = False
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._job: Job[None] | None = None
        self._failures = 0

    # Keeping up with changes

    def start(self) -> None:
        """Have changes tracked, in the background. Until they are, nothing is kept."""
        self._is_wanted = True
        self._track_soon()

    async def stop(self) -> None:
        """Forget everything, and track changes no more."""
        self._is_wanted = False
        with self._lock:
            job, self._job = self._job, None
        if job is not None:
            job.cancel()
            await job.ended.wait(STOP_SECONDS)
        self.tier.end()

    def _track_soon(self) -> None:
        with self._lock:
            if self._job is None and self._is_wanted:
                self._job = self.context.runtime.spawn(self._tracked(), "near cache")

    async def _tracked(self) -> None:
        while True:
            try:
                await self._provider.track(self._prefix, self._note)
            except Exception as error:  # whatever it is, it is tried again
                self._complain(error)
            finally:
                self.tier.end()
            self._failures += 1
            await pause(RETRIES.delay(self._failures))

    def _note(self, keys: Collection[str] | None) -> None:
        if keys is not None:
            self.tier.forget(keys)
            return
        if self._failures:
            self._failures = 0
            self._logger.info("the near cache is on again")
        self.tier.begin()

    def _complain(self, error: Exception) -> None:
        if not self._failures:
            reason = self._explain(error, "track")
            self._logger.warning("the near cache is off until changes can be tracked again: %s", reason)

    @property
    def _logger(self) -> logging.Logger:
        return logging.getLogger(f"pilotis.cache.{self.name or type(self._provider).__name__}")

    # Reading

    def read_now(self, keys: Sequence[str]) -> list[bytes | None] | None:
        known = self.tier.known(keys)
        self._tally.near_hits += known is not None
        return known

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        if not self.tier.is_live:
            self._track_soon()  # in a child process, nobody has yet
        found = self.tier.found(keys)
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        if missing:
            found |= await self._fetched(missing)
        return [found[key] for key in keys]

    async def _fetched(self, keys: list[str]) -> dict[str, bytes | None]:
        fetch = self.tier.begin_fetch(keys)
        fetched: dict[str, Entry | None] = {}
        try:
            fetched = dict(zip(keys, await self._provider.read_entries(keys), strict=True))
        finally:
            self.tier.end_fetch(fetch, fetched)
        return {key: None if entry is None else entry.value for key, entry in fetched.items()}

    async def read_entries(self, keys: Sequence[str]) -> list[Entry | None]:
        return await self._provider.read_entries(keys)

    async def await_change(self, key: str, mark: bytes, timeout: float) -> bool:
        return await self._provider.await_change(key, mark, timeout)

    # Changing

    async def write(self, entries: Sequence[Entry], *, only_absent: bool = False) -> list[bool]:
        with self._changing([entry.key for entry in entries]):
            return await self._provider.write(entries, only_absent=only_absent)

    async def remove(self, keys: Sequence[str]) -> int:
        with self._changing(keys):
            return await self._provider.remove(keys)

    async def count(self, key: str, by: int, ttl: float | None) -> int:
        with self._changing((key,)):
            return await self._provider.count(key, by, ttl)

    async def expire(self, key: str, ttl: float | None) -> bool:
        with self._changing((key,)):
            return await self._provider.expire(key, ttl)

    async def claim(self, keys: Mapping[str, bytes | None], mark: bytes, ttl: float) -> list[Entry | None]:
        with self._changing(keys):
            return await self._provider.claim(keys, mark, ttl)

    async def settle(self, results: Mapping[str, Entry | None], mark: bytes) -> list[bool]:
        with self._changing(results):
            return await self._provider.settle(results, mark)

    async def remove_matching(self, pattern: str) -> int | None:
        try:
            return await self._provider.remove_matching(pattern)
        finally:
            self.tier.forget_matching(glob(pattern))

    @contextmanager
    def _changing(self, keys: Iterable[str]) -> Generator[None]:
        """Surround a change. One that failed may have been made all the same."""
        try:
            yield
        finally:
            self.tier.forget(keys)
