"""The dispatcher: hands the deliveries of all lanes to their handlers, and settles what became of them.

It has jobs on the background loop, one that receives, one that settles and one that looks after crews that are stuck,
and runs handlers in *stints*: a stint takes one delivery after the other from its crew's backlog, so that a thread or
a loop is entered once for many.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from pilotis.backoff import Backoff
from pilotis.bridge import Latch, drive, pause, run_blocking
from pilotis.context import Context
from pilotis.errors import OperationError
from pilotis.modules.base import Guard
from pilotis.modules.event.crew import Crew
from pilotis.modules.event.places import Places
from pilotis.modules.event.provider import Delivery, EventProvider, Outcome
from pilotis.modules.event.running import CLEAN_UP_SECONDS, Runner
from pilotis.modules.event.subscriptions import Registry, Subscription
from pilotis.runtime import Job

logger = logging.getLogger("pilotis.event")

T = TypeVar("T")

_OUTAGE = Backoff.exponential(0.1, maximum=5, jitter=0.2)
_MOST_SETTLED = 500
_GATHER_SECONDS = 0.001
_STUCK_SECONDS = 1.0
_YIELD_SECONDS = 1e-6
_TURN_SECONDS = 0.02


class Dispatcher:
    """Works on the lanes of one bus, from `begin` to `stop`."""

    def __init__(
        self,
        provider: EventProvider,
        runner: Runner,
        context: Context,
        registry: Registry,
        *,
        concurrency: int | None,
        declare: Callable[[], Awaitable[None]],
        calling: Callable[[str], Guard],
    ) -> None:
        self._provider = provider
        self._runner = runner
        self._context = context
        self._registry = registry
        self._concurrency = concurrency
        self._declare = declare
        self._calling = calling
        self.reset()

    def reset(self) -> None:
        """Forget everything: jobs and deliveries belong to a parent process, or ended with `stop`."""
        self._lock = threading.Lock()
        self._jobs: list[Job[Any]] = []
        self._stints: set[Job[Any]] = set()
        self._places = Places(self._most_at_once, self._start_stint)
        self._crews: dict[str, Crew] = {}
        self._version = 0
        """That of the registry for which the crews were made."""
        self._in_flight: dict[str, Delivery] = {}
        self._outcomes: list[Outcome] = []
        self._stopping = False
        self._halted = Latch()
        self._wake = Latch()
        self._posted = Latch()
        self.settled = Latch()
        """Set when deliveries have been settled, and replaced by a new one."""
        self.fenced = 0
        """How many deliveries were settled in vain, because they were somebody else's by then."""
        self.tally: Counter[str] = Counter()
        """How many deliveries were settled, by verdict."""
        self._last = False
        self._quiet = Latch()

    @property
    def at_hand(self) -> int:
        """How many deliveries were received and have no outcome yet."""
        return len(self._in_flight)

    @property
    def begun(self) -> bool:
        """Whether it works."""
        return bool(self._jobs)

    def begin(self) -> None:
        """Start to work. Doing so again does nothing."""
        with self._lock:
            if self._jobs or self._stopping:
                return
            self._places = Places(self._most_at_once, self._start_stint)
            spawn = self._context.runtime.spawn
            self._jobs = [
                spawn(self._receive(), "event receiver"),
                spawn(self._settle(), "event settler"),
                spawn(self._watch(), "event watch"),
            ]

    def announce(self) -> None:
        """Have those who wait for deliveries to be settled look again."""
        with self._lock:  # of two at a time, both would replace the same latch, and one of theirs never be set
            settled, self.settled = self.settled, Latch()
        settled.set()

    def poke(self) -> None:
        """Have it look again: at what it may receive, and for which lanes."""
        self._wake.set()

    async def stop(self, grace: float) -> None:
        """Begin nothing more, give back what was not begun, and wait up to `grace` real seconds for the rest.

        Handlers that are not done by then are cancelled, and their deliveries given back.
        """
        self._stopping = True
        self._halted.set()
        self.poke()
        if not self._jobs:
            return
        receiver, settler, watch = self._jobs
        await receiver.ended.wait()
        await watch.ended.wait()
        for crew in self._crews.values():
            self._give_back(crew.clear())
        await self._await_quiet(grace)
        self._give_back(list(self._in_flight.values()))
        for job in list(self._stints):
            job.cancel()
        await self._await_quiet(CLEAN_UP_SECONDS)
        self._post([], last=True)
        await settler.ended.wait()
        self._jobs = []

    async def _await_quiet(self, seconds: float) -> None:
        """Wait until no stint is left. Real seconds: a test's clock would not move by itself."""
        with self._lock:
            if not self._stints:
                return
            if self._quiet.is_set():  # and else somebody waits for it, who closes at the same time
                self._quiet = Latch()
            quiet = self._quiet
        await quiet.wait(seconds)

    # Receiving

    async def _receive(self) -> None:
        while True:
            self._wake = Latch()
            if self._stopping:
                return
            await self._persist("declare", self._declare)
            capacity = self._capacity()
            deliveries = await self._persist("receive", partial(self._provider.receive, capacity, self._wake))
            if deliveries:
                self._hand_out(deliveries)
                await pause(_YIELD_SECONDS)  # so that handlers on this loop begin before more is fetched

    def _capacity(self) -> dict[str, int]:
        if self._version != self._registry.version:
            self._regroup()
        return {lane: free for lane, crew in self._crews.items() if (free := crew.free())}

    def _regroup(self) -> None:
        """Have a crew for each subscription there is."""
        self._version = self._registry.version
        before, self._crews = self._crews, {it.lane: self._crew(it) for it in self._registry.all()}
        for lane in before.keys() - self._crews.keys():
            self._give_back(before[lane].clear())

    def _crew(self, subscription: Subscription) -> Crew:
        crew = self._crews.get(subscription.lane)
        if crew is None:
            return Crew(subscription, begin=self._places.ask, hungry=self.poke, most=self._most_at_once)
        crew.subscription = subscription
        return crew

    def _hand_out(self, deliveries: Sequence[Delivery]) -> None:
        by_lane: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            self._in_flight[delivery.receipt] = delivery
            by_lane.setdefault(delivery.lane, []).append(delivery)
        for lane, mine in by_lane.items():
            self._crews[lane].add(mine)

    @property
    def _most_at_once(self) -> int | None:
        return self._context.concurrency or self._concurrency

    def _start_stint(self, crew: Crew) -> None:
        job = self._context.runtime.spawn(self._work(crew), f"event handlers of {crew.subscription.lane}")
        with self._lock:
            self._stints.add(job)
        job.ended.on_set(partial(self._end_stint, job))

    def _end_stint(self, job: Job[Any]) -> None:
        self._places.leave()
        with self._lock:
            self._stints.discard(job)
            quiet = not self._stints
        if quiet:
            self._quiet.set()

    # Running

    async def _work(self, crew: Crew) -> None:
        held: list[Delivery] = []
        try:
            if crew.subscription.runs_on_thread:
                await run_blocking(drive, self._stint(crew, held), "handler")
            else:
                await self._context.runtime.call(self._stint, crew, held)
        except BaseException:  # the loop of the handlers ended, or the dispatcher was told to
            self._give_back([*held, *crew.clear()])
            crew.leave(running=bool(held))
            raise

    async def _stint(self, crew: Crew, held: list[Delivery]) -> None:
        """Run one delivery after the other, here: on a thread of its own, or on the handlers' home loop."""
        crew.arrive()
        turn_ends = time.monotonic() + _TURN_SECONDS
        while True:
            if self._places.wanted and time.monotonic() > turn_ends:
                crew.rest()
                return
            if crew.subscription.batch is not None:
                await crew.gather_batch(self._context)
            held[:] = crew.next()
            if not held:
                return
            judged = await self._runner.run(crew.subscription, held)
            self._post([it.outcome for it in judged])
            held.clear()
            crew.done()

    async def _watch(self) -> None:
        """Hand back what was fetched for quick handlers that turned out to be slow."""
        while not await self._halted.wait(_STUCK_SECONDS):
            for crew in list(self._crews.values()):
                self._give_back(crew.stuck())

    def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        if deliveries:
            self._post([Outcome(delivery=delivery, verdict="back") for delivery in deliveries])

    def _post(self, outcomes: Sequence[Outcome], *, last: bool = False) -> None:
        """Note how deliveries ended. What comes after a delivery was given back is refused."""
        with self._lock:
            self._outcomes.extend(it for it in outcomes if self._in_flight.pop(it.delivery.receipt, None) is not None)
            self._last |= last
            posted = self._posted
        if not posted.is_set():
            posted.set()

    # Settling

    async def _settle(self) -> None:
        while True:
            await self._posted.wait()
            if self._in_flight and not self._last:  # more is to come soon, and one call of the backend does for many
                await pause(_GATHER_SECONDS)
            with self._lock:
                self._posted = Latch()
                outcomes, self._outcomes = self._outcomes, []
                last = self._last
            for start in range(0, len(outcomes), _MOST_SETTLED):
                await self._settle_some(outcomes[start : start + _MOST_SETTLED])
            self.announce()
            if last:
                return

    async def _settle_some(self, outcomes: Sequence[Outcome]) -> None:
        settled = await self._persist("settle", partial(self._provider.settle, outcomes))
        self.tally.update(it.verdict for it, mine in zip(outcomes, settled or (), strict=False) if mine)
        refused = [it.delivery for it, mine in zip(outcomes, settled or (), strict=False) if not mine]
        if refused:
            self.fenced += len(refused)
            logger.warning(
                "%d deliveries were no longer this process's when it had handled them, and may be handled again: %s",
                len(refused), ", ".join(f"{it.id} of {it.lane!r}" for it in refused[:3]),
            )  # fmt: skip

    async def _persist(self, operation: str, call: Callable[[], Awaitable[T]]) -> T | None:
        """Repeat a call of the provider until it succeeds; an outage is logged once."""
        failures = 0
        while True:
            try:
                with self._calling(operation):
                    return await call()
            except OperationError as error:
                failures += 1
                if failures == 1:
                    logger.warning("events wait for their backend: %s", error)
                if self._stopping:
                    return None
                await self._context.clock.wait(self._halted, _OUTAGE.delay(failures))
