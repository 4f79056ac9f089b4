"""What keeps a worker alive: a thread of its own that beats, and listens to news in between."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from pilotis.backoff import Backoff
from pilotis.bridge import drive
from redis.exceptions import RedisClusterException, RedisError

from pilotis_redis.lanes.keys import BusKeys
from pilotis_redis.lanes.presence import dismiss
from pilotis_redis.link import RedisLink, each_stream
from pilotis_redis.scripts import Script

logger = logging.getLogger("pilotis.redis.lanes")

BEAT = Script.load("pilotis_redis", "entries", "beat")
BEATS = 3
"""In a life: two may come late."""
MOST_NEWS = 500
EVERYTHING = "*"
"""The news that any lane may have changed. No lane is called so."""

_OUTAGE = Backoff.exponential(0.1, maximum=5, jitter=0.5)


class Listener(Protocol):
    """Who is told, on the thread of the pulse."""

    def is_there(self) -> bool:
        """Tell whether there is somebody left to listen."""
        ...

    def hear(self, news: list[str]) -> None:
        """Take in what is new."""
        ...

    def die(self) -> None:
        """Take in that this worker is taken for dead. Nothing more is said after that."""
        ...

    def find_dead(self, infos: list[str]) -> None:
        """Take in what those said of themselves who were found dead."""
        ...


class Ticks:
    """Whether event loops go round: each is asked to answer, and asked again when it has."""

    def __init__(self, loops: Callable[[], Iterable[AbstractEventLoop]], stall: float) -> None:
        self._loops = loops
        self._stall = stall
        self._asked: dict[AbstractEventLoop, float] = {}
        """Since when a loop owes an answer. Loops change it, so it must stay this very dictionary."""

    def stalled(self) -> AbstractEventLoop | None:
        """Return a loop that owes an answer for longer than it may."""
        now = time.monotonic()
        loops = set(self._loops())
        for loop in self._asked.keys() - loops:
            self._asked.pop(loop, None)
        for loop in loops:
            if now - self._asked.get(loop, now) > self._stall:
                return loop
            if loop not in self._asked:
                self._asked[loop] = now
                with contextlib.suppress(RuntimeError):  # it was closed
                    loop.call_soon_threadsafe(self._asked.pop, loop, None)
        return None


class Pulse:
    """The thread of one life of a worker, with a connection of its own.

    It ends when it is stopped, and when the worker is taken for dead. Outages it outlives.
    """

    def __init__(
        self, worker: str, link: RedisLink, keys: BusKeys, *, liveness: float, ticks: Ticks, listener: Listener
    ) -> None:
        """Stand on a link that is its own, and is closed by it."""
        self._link = link
        self._keys = keys
        self._worker = worker
        self._liveness = liveness
        self._ticks = ticks
        self._listener = listener
        self._last = "0-0"
        self._is_stopped = False
        self._steady_since = time.monotonic()
        """Since when it has beaten without a gap."""
        self._failures = 0
        self._is_stalled = False

    def start(self, last: str) -> None:
        """Begin, with the news after those that are named."""
        self._last = last
        threading.Thread(target=self._run, daemon=True, name="pilotis-lanes-pulse").start()

    async def stop(self) -> None:
        """Have it end; it is not waited for."""
        self._is_stopped = True
        await self._link.close()

    def _run(self) -> None:
        try:
            while not self._is_stopped and self._listener.is_there():
                self._round()
        except Exception:
            logger.exception("the pulse of worker %s ended", self._worker)
        finally:
            drive(self._link.close())

    def _round(self) -> None:
        """Beat, and listen until it is time for the next beat."""
        end = time.monotonic() + self._liveness / BEATS
        try:
            self._beat()
            while not self._is_stopped and (left := end - time.monotonic()) > 0:
                self._listen(left)
        except (RedisError, RedisClusterException, OSError) as error:
            if not self._is_stopped:
                self._suffer(error)

    def _beat(self) -> None:
        if self._stalls():
            return
        keys, started = self._keys, time.monotonic()
        may_tell = started - self._steady_since >= self._liveness
        is_alive, late = self._run_script(
            BEAT,
            (keys.workers, keys.bell(self._worker)),
            (self._worker, int(self._liveness * 1000), int(may_tell)),
        )
        if self._failures:
            self._recover()
        if not is_alive:
            self._is_stopped = True
            self._listener.die()
        elif late:
            self._dismiss([worker.decode() for worker in late])

    def _dismiss(self, workers: list[str]) -> None:
        infos = drive(dismiss(self._link, self._keys, workers, only_late=True, is_heir_wanted=True))
        if infos:  # else others were quicker
            self._listener.find_dead(infos)

    def _stalls(self) -> bool:
        loop = self._ticks.stalled()
        if loop is not None and not self._is_stalled:
            logger.error("%s does not go round: something blocks it. Worker %s counts as dead", loop, self._worker)
        self._is_stalled = loop is not None
        if self._is_stalled:
            self._steady_since = time.monotonic()
        return self._is_stalled

    def _listen(self, seconds: float) -> None:
        reply = drive(
            self._link.execute(
                "XREAD",
                "COUNT",
                MOST_NEWS,
                "BLOCK",
                max(1, int(seconds * 1000)),
                "STREAMS",
                self._keys.news,
                self._last,
            )
        )
        for _, entries in each_stream(reply):
            self._last = entries[-1][0].decode()
            news = [fields[b"w"].decode() for _, fields in entries]
            self._listener.hear(news if len(news) < MOST_NEWS else [EVERYTHING])  # else some may be gone already

    def _run_script(self, script: Script, keys: Any, arguments: Any) -> Any:
        return drive(self._link.script(script, keys, arguments))

    def _suffer(self, error: Exception) -> None:
        self._steady_since = time.monotonic()
        self._failures += 1
        if self._failures == 1:
            logger.warning("worker %s cannot tell Redis that it is alive: %s", self._worker, error)
        time.sleep(min(_OUTAGE.delay(self._failures), self._liveness / BEATS))

    def _recover(self) -> None:
        """Go on after an outage, of which nobody knows what was missed."""
        logger.info("worker %s reaches Redis again", self._worker)
        self._failures = 0
        self._steady_since = time.monotonic()
        self._listener.hear([EVERYTHING])
