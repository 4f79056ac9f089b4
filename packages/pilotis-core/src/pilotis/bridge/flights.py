"""Flights: one computation per key, for threads and tasks together."""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Hashable, Iterable, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, TypeVar, cast

from pilotis.bridge.contexts import scoped
from pilotis.bridge.forks import reset_after_fork
from pilotis.bridge.latch import Latch
from pilotis.errors import ReentrantCallError

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")

_led = scoped("pilotis_led_flights", cast("tuple[_Flight[Any], ...]", ()))


class _State(enum.Enum):
    RUNNING = enum.auto()
    DONE = enum.auto()
    FAILED = enum.auto()
    ABANDONED = enum.auto()  # its leader was cancelled or interrupted: a follower takes over


class _Flight(Generic[R]):
    """One computation under way, and the flights that its leader waits for."""

    __slots__ = ("awaits", "error", "landed", "result", "state")

    def __init__(self) -> None:
        self.landed = Latch()
        self.state = _State.RUNNING
        self.result: R | None = None
        self.error: Exception | None = None
        self.awaits: list[_Flight[Any]] = []

    def leads_to(self, others: tuple[_Flight[Any], ...]) -> bool:
        """Tell whether this flight waits, at any remove, for one of `others`."""
        return self in others or any(flight.leads_to(others) for flight in self.awaits)


class Flights:
    """Single flight: callers of one key share the result of whoever came first.

    A leader that fails fails its followers with the same error. A leader that was cancelled or interrupted
    hands over to a follower. Nobody waits longer than `lease` real seconds for a leader: then the next one
    leads, while the late leader still gets its own result. Two leaders that wait for each other's keys
    are found out before they wait; the second computes for itself. A computation that asks for its own key
    gets `ReentrantCallError`.
    """

    def __init__(self) -> None:
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Hashable, _Flight[Any]] = {}

    async def run(self, key: Hashable, compute: Callable[[], Awaitable[R]], *, lease: float = 30.0) -> R:
        """Return what `compute()` returns, computed by one caller of `key` at a time."""
        deadline = time.monotonic() + lease
        while True:
            flight, leads = self._board(key)
            if leads:
                return await self._lead(key, flight, compute)
            self.refuse_reentry(key)
            led = _led.get()
            if not self._depend(flight, led):
                return await compute()
            await self._follow(key, flight, led, deadline)
            if flight.state is _State.DONE:
                return flight.result  # pyright: ignore[reportReturnType] - set when done
            if flight.error is not None:
                raise flight.error
            if flight.state is _State.RUNNING:  # its lease is over
                deadline = time.monotonic() + lease

    def _board(self, key: Hashable) -> tuple[_Flight[Any], bool]:
        """Return the flight of `key`, and whether the caller leads it."""
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None:
                return flight, False
            flight = self._flights[key] = _Flight()
            return flight, True

    def refuse_reentry(self, key: Hashable) -> None:
        """Raise `ReentrantCallError` inside the computation of `key`, which would wait for itself."""
        if self._flights.get(key) in _led.get():
            raise ReentrantCallError(f"the computation of {key!r} asks for {key!r}, which it is computing")

    async def run_many(
        self, keys: Iterable[K], compute: Callable[[list[K]], Awaitable[Mapping[K, R]]], *, lease: float = 30.0
    ) -> dict[K, R]:
        """Like `run` for several keys: `compute` is called once for all of them that nobody else computes.

        It returns a result for each key that it is given. The rest are waited for only when that is done, so that two
        callers with keys in common never wait for each other.
        """
        boarded = {key: self._board(key) for key in keys}
        led = {key: flight for key, (flight, leads) in boarded.items() if leads}
        results = await self._lead_many(led, compute) if led else {}

        async def alone(key: K) -> R:
            return (await compute([key]))[key]

        for key in boarded:
            if key not in led:
                results[key] = await self.run(key, partial(alone, key), lease=lease)
        return results

    async def _lead(self, key: Hashable, flight: _Flight[R], compute: Callable[[], Awaitable[R]]) -> R:
        with self._leading({key: flight}):
            flight.result = result = await compute()
            flight.state = _State.DONE
            return result

    async def _lead_many(
        self, led: Mapping[K, _Flight[R]], compute: Callable[[list[K]], Awaitable[Mapping[K, R]]]
    ) -> dict[K, R]:
        with self._leading(led):
            results = await compute(list(led))
            for key, flight in led.items():
                flight.result = results[key]
                flight.state = _State.DONE
            return dict(results)

    @contextmanager
    def _leading(self, led: Mapping[Any, _Flight[Any]]) -> Generator[None, None, None]:
        """Surround a computation: whatever comes of it, its flights land."""
        token = _led.set((*_led.get(), *led.values()))
        try:
            yield
        except Exception as error:
            for flight in led.values():
                flight.error = error
                flight.state = _State.FAILED
            raise
        finally:
            _led.reset(token)
            for key, flight in led.items():
                if flight.state is _State.RUNNING:
                    flight.state = _State.ABANDONED
                self._forget(key, flight)
                flight.landed.set()

    def _depend(self, flight: _Flight[Any], led: tuple[_Flight[Any], ...]) -> bool:
        """Note that the led flights wait for `flight`, unless that would close a circle."""
        with self._lock:
            if flight.leads_to(led):
                return False
            for mine in led:
                mine.awaits.append(flight)
            return True

    async def _follow(
        self, key: Hashable, flight: _Flight[Any], led: tuple[_Flight[Any], ...], deadline: float
    ) -> None:
        try:
            landed = await flight.landed.wait(max(0.0, deadline - time.monotonic()))
        finally:
            with self._lock:
                for mine in led:
                    mine.awaits.remove(flight)
        if not landed:
            self._forget(key, flight)

    def _forget(self, key: Hashable, flight: _Flight[Any]) -> None:
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]
