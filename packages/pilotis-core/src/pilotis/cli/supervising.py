"""A worker of several processes: the parent, which does no work itself."""

from __future__ import annotations

import contextlib
import logging
import selectors
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from pilotis.backoff import Backoff
from pilotis.cli.children import Child
from pilotis.cli.living import BEAT
from pilotis.cli.watching import Sources
from pilotis.signals import ENDING, Hearing, end_at_once, heard

logger = logging.getLogger("pilotis.worker")

_AGAIN = Backoff.exponential(0.5, maximum=30, jitter=0.1)

_SETTLED = 60.0
"""A child that lived for so many seconds begins anew with short pauses."""

_LOOK = 1.0
"""Seconds between two looks at what no signal tells of: the health of children, and the code."""


class Place:
    """One of the processes, which is started again and again."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.child: Child | None = None
        self.due = 0.0
        """When to start the next child, by `time.monotonic`."""
        self.failures = 0

    def end(self, now: float, *, at_once: bool) -> float:
        """Note that the child has ended. Return in how many seconds there will be another."""
        child, self.child = self.child, None
        assert child is not None
        self.failures = 0 if at_once else 1 + (self.failures if now - child.started < _SETTLED else 0)
        pause = _AGAIN.delay(self.failures) if self.failures else 0.0
        self.due = now + pause
        return pause


class Supervisor:
    """Starts children with `arguments`, and others in the place of those that die, until it is told to end.

    `beats` are called while all children give signs of life. With `sources` children are started afresh when
    the code has changed.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        processes: int,
        beats: Sequence[Callable[[], object]],
        sources: Sources | None = None,
    ) -> None:
        self._arguments = arguments
        self._places = [Place(number) for number in range(1, processes + 1)]
        self._beats = beats
        self._sources = sources
        self._worked = False
        """Whether any child ever got as far as to work."""
        self._stopping = False
        self._code = 0
        self._looked = time.monotonic()
        self._beaten = self._looked - BEAT

    def run(self) -> int:
        """Work until the end, and return the exit code."""
        with heard(*ENDING, signal.SIGCHLD) as hearing, selectors.DefaultSelector() as selector:
            selector.register(hearing.reader, selectors.EVENT_READ)
            logger.info("supervisor started", extra={"processes": len(self._places)})
            try:
                while not self._ended():
                    self._start_due()
                    if selector.select(self._patience()):
                        self._hear(hearing)
                    self._note_ends()
                    self._look()
            finally:
                self._let_go()
            logger.info("supervisor stopped", extra={"exit_code": self._code})
        return self._code

    @property
    def _children(self) -> list[Child]:
        return [place.child for place in self._places if place.child is not None]

    def _ended(self) -> bool:
        return self._stopping and not self._children

    def _patience(self) -> float:
        """Return for how many seconds there is nothing to do, as far as can be known."""
        now = time.monotonic()
        due = min((place.due - now for place in self._places if place.child is None), default=_LOOK)
        return max(0.0, min(due, self._looked + _LOOK - now)) if not self._stopping else _LOOK

    def _start_due(self) -> None:
        now = time.monotonic()
        for place in self._places:
            if place.child is None and place.due <= now and not self._stopping:
                place.child = Child(self._arguments)
                logger.info("process started", extra={"place": place.number, "child": place.child.pid})

    # Signals

    def _hear(self, hearing: Hearing) -> None:
        for number in filter(ENDING.__contains__, hearing.read()):
            if self._stopping:
                for child in self._children:
                    child.kill()
                end_at_once(number)
            logger.info("supervisor stopping", extra={"signal": signal.Signals(number).name})
            self._stop()

    def _stop(self) -> None:
        self._stopping = True
        for child in self._children:
            child.end()

    def _let_go(self) -> None:
        """Have what is left of the children finish by themselves."""
        for child in self._children:
            child.close()

    # Ends

    def _note_ends(self) -> None:
        for place in self._places:
            if place.child is not None and (code := place.child.code()) is not None:
                self._note_end(place, place.child, code)

    def _note_end(self, place: Place, child: Child, code: int) -> None:
        child.close()
        self._worked = self._worked or child.worked
        facts: dict[str, Any] = {"place": place.number, "child": child.pid, "exit_code": code}
        if self._stopping:
            place.child = None
        elif code > 0 and not (self._worked or self._sources):  # what a signal ended might have worked
            place.child = None
            self._code = code
            logger.error("process could not start", extra=facts)
            self._stop()
        else:
            pause = place.end(time.monotonic(), at_once=child.told)
            level = logging.INFO if child.told else logging.ERROR
            logger.log(level, "process ended, another one follows", extra={**facts, "in_seconds": round(pause, 3)})

    # Looking

    def _look(self) -> None:
        now = time.monotonic()
        for child in self._children:
            child.listen()
        if now >= self._beaten + BEAT and self._all_alive(now):
            self._beaten = now
            self._beat()
        if now >= self._looked + _LOOK:
            self._looked = now
            changed = self._sources.changed() if self._sources is not None and not self._stopping else []
            if changed:
                self._reload(changed)

    def _all_alive(self, now: float) -> bool:
        return len(self._children) == len(self._places) and all(child.is_alive(now) for child in self._children)

    def _beat(self) -> None:
        for beat in self._beats:
            with contextlib.suppress(OSError):  # the next one may succeed, and whoever probes the file sees its age
                beat()

    def _reload(self, changed: Sequence[str]) -> None:
        logger.info("code changed, processes are started afresh", extra={"files": ", ".join(changed[:3])})
        for place in self._places:
            place.due = 0.0
        for child in self._children:
            child.end()
