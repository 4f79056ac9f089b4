"""Those who work on one subscription."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from pilotis.bridge import Latch
from pilotis.context import Context
from pilotis.modules.event.provider import Delivery
from pilotis.modules.event.subscriptions import Subscription

_AHEAD_SECONDS = 0.02
_MOST_AHEAD = 250


class Pace:
    """How quick handlers are, as far as anybody has seen. Not thread-safe."""

    def __init__(self) -> None:
        self.runs = 0
        """How many have ended since the beginning."""
        self._looked = (time.perf_counter(), 0)
        self._ahead = 0

    def ahead(self) -> int:
        """Return how many deliveries are handled in a moment, at the pace since this was asked last."""
        now = time.perf_counter()
        then, runs = self._looked
        if now - then > _AHEAD_SECONDS / 20:  # less says nothing
            self._ahead = min(int((self.runs - runs) / (now - then) * _AHEAD_SECONDS), _MOST_AHEAD)
            self._looked = (now, self.runs)
        return self._ahead


class Crew:
    """The deliveries of a subscription that were taken on, and how many stints are at them.

    At most one stint is on its way at a time, and whoever takes a delivery and sees more sends for the next one. So
    quick handlers are run one after the other by one stint, and slow ones side by side. Quick ones also have at hand
    what they handle in a moment, more than they can begin, so that they need not wait for the backend. Not so where the
    first crash ends an event: one that nobody has begun would die of another one.
    """

    def __init__(
        self,
        subscription: Subscription,
        *,
        begin: Callable[[Crew], None],
        hungry: Callable[[], None],
        most: int | None = None,
    ) -> None:
        self.subscription = subscription
        self._places = most
        self._begin = begin
        self._hungry = hungry
        self._lock = threading.Lock()
        self._backlog: deque[Delivery] = deque()
        self._filled = Latch()
        self._stints = 0
        self._running = 0
        self._coming = False
        self._gave_up = False
        """Whether it gave back what it had because nobody came: then it waits with empty hands."""
        self._pace = Pace()
        self._ahead = 0
        self._runs_seen = -1
        self._sated = True
        """Whether it was offered nothing when it was asked last: then nobody fetches anything for it."""

    @property
    def _size(self) -> int:
        """How many deliveries make one run."""
        return self.subscription.batch or 1

    @property
    def _concurrency(self) -> int:
        """How many runs there may be at once."""
        wanted = self.subscription.concurrency
        return wanted if self._places is None else min(wanted, self._places)

    @property
    def _most(self) -> int:
        """How many deliveries it takes on at most, those included that are being run."""
        return self._concurrency * self._size + self._ahead

    @property
    def _free(self) -> int:
        return 0 if self._gave_up else self._most - self._running * self._size - len(self._backlog)

    def free(self) -> int:
        """Return how many deliveries more it would take. Where that is none, it says when it has changed."""
        with self._lock:
            self._ahead = self._pace.ahead() if self.subscription.max_crashes > 1 else 0
            free = max(0, self._free)
            self._sated = not free
            return free

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries on."""
        with self._lock:
            self._backlog.extend(deliveries)
            if len(self._backlog) >= self._size:
                self._filled.set()
            missing = self._send_for_one()
        if missing:
            self._begin(self)

    def arrive(self) -> None:
        """Note that the stint that was sent for is here."""
        with self._lock:
            self._coming = False
            gave_up, self._gave_up = self._gave_up, False
        if gave_up:
            self._hungry()

    def next(self) -> list[Delivery]:
        """Return the deliveries to run now; none when the stint is over."""
        with self._lock:
            taken = [self._backlog.popleft() for _ in range(min(len(self._backlog), self._size))]
            if taken:
                self._running += 1
            else:
                self._stints -= 1
            missing = self._send_for_one()
        if missing:
            self._begin(self)
        return taken

    def rest(self) -> None:
        """Note that a stint ends although there may be more to do: another one is sent for."""
        with self._lock:
            self._stints -= 1
            missing = self._send_for_one()
        if missing:
            self._begin(self)

    def done(self) -> None:
        """Note that a run is over."""
        with self._lock:
            self._running -= 1
            self._pace.runs += 1
            hungry = self._sated and self._wants_more()
            self._sated = self._sated and not hungry
        if hungry:
            self._hungry()

    def _wants_more(self) -> bool:
        """Tell whether to fetch more: nothing is at hand, or half of what it could have. One by one would be dear."""
        free = self._free
        return free > 0 and (len(self._backlog) < self._size or 2 * free >= self._most)

    def _send_for_one(self) -> bool:
        if not self._backlog or self._coming or self._stints >= self._concurrency:
            return False
        self._stints += 1
        self._coming = True
        return True

    async def gather_batch(self, context: Context) -> None:
        """Wait until there is a whole batch, or until the first of it has waited for long enough."""
        with self._lock:
            if not 0 < len(self._backlog) < self._size:
                return
            if self._filled.is_set():
                self._filled = Latch()
            filled = self._filled
        await context.clock.wait(filled, self.subscription.within)

    def leave(self, *, running: bool) -> None:
        """Note that a stint broke off: in a run, or between two, or before it arrived."""
        with self._lock:
            self._stints -= 1
            self._running -= running
            self._coming = self._gave_up = False
        self._hungry()

    def stuck(self) -> list[Delivery]:
        """Give back what is too much, at the pace since this was asked last: others may be free.

        Where no run has ended, that is all that nobody has begun, while all who may work on it are busy, or while there
        is no place for those who would. Else it is what cannot begin before this is asked again.
        """
        with self._lock:
            ended, self._runs_seen = self._pace.runs - self._runs_seen, self._pace.runs
            if ended:
                return self._keep(max(ended, self._concurrency - self._running) * self._size)
            if not (self._coming or self._running >= self._concurrency):
                return []
            self._gave_up = self._coming and not self._running
        return self.clear()

    def _keep(self, most: int) -> list[Delivery]:
        """Give back what was taken on last, but so many deliveries."""
        surplus = [self._backlog.pop() for _ in range(len(self._backlog) - most)]
        return surplus[::-1]

    def clear(self) -> list[Delivery]:
        """Give back what nobody has begun."""
        with self._lock:
            left, self._backlog = list(self._backlog), deque()
            self._filled.set()
        return left
