"""Mutual exclusion under fire: processes go through critical sections while they are killed and paused.

`Battle` runs them. A provider's test says which settings the app has, and what else happens meanwhile:

    with battle(tmp_path, {"url": url, "ttl": 1}) as fight:
        fight.win(sections=size(300, 20_000), kills=size(2, 40), pauses=size(2, 40), others=[server.restart])
"""

from __future__ import annotations

import itertools
import json
import math
import random
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from pilotis import Pilotis
from pilotis.errors import OperationError
from pilotis.providers import LockingCapability

from pilotis_testing.chaos import FULL, Journal, Process, Team, eventually, size, team
from pilotis_testing.locking_history import Section, faults_in
from pilotis_testing.locking_sections import KEY, FencedCounter, Record, note_fields

LONG = 1800.0 if FULL else 120.0
"""Seconds that one step of a campaign may take."""
PROCESSES = size(4, 8)
SEED = 5


class Battle:
    """A team of processes, the counter that they count up, and who ill-treats them."""

    def __init__(self, folder: Path, crew: Team, app: Pilotis) -> None:
        self.team = crew
        self.app = app
        self.counter = FencedCounter(folder / "counter")
        self.journal = Journal(folder / "journal")
        self._colours = itertools.cycle(["blocking", "async"])
        self._dice = random.Random(SEED)

    def win(self, *, sections: int, kills: int, pauses: int, others: Sequence[Callable[[], object]] = ()) -> None:
        """Have sections be gone through while all this happens to those who do, and prove that each was one.

        Fails with the faults that are found. What `others` do, such as restarting the backend, comes in between.
        """
        happenings = [self.kill_one] * kills + [self.pause_one] * pauses + list(others)
        self._dice.shuffle(happenings)
        for _ in range(PROCESSES):
            self.start_one()
        for turn, happen in enumerate(happenings, 1):
            self.until_counted(sections * turn // (len(happenings) + 1))
            happen()
        self.until_counted(sections)
        self.team.dismiss()
        self.prove()

    def prove(self) -> None:
        """Assert that the history is linearizable, with nobody at work any more."""
        history = history_of(self.journal)
        assert [] == faults_in(history, self.counter.last().value)
        done = {(it.pid, it.token) for it in history if it.ended < math.inf and not it.is_refused}
        refused = {(it.pid, it.token) for it in self.counter.records() if it.kind == "refused"}
        assert set() == done & refused

    def start_one(self) -> None:
        """Start one more process, in the other colour than the last."""
        self.team.start(next(self._colours))

    def until_counted(self, value: int) -> None:
        """Wait until the counter has come to a value."""
        eventually(lambda: self.counter.last().value >= value, LONG)

    def kill_one(self) -> None:
        """End a process inside of a section as `kill -9` does, and start another."""
        victim, _ = self.stop_inside()
        self.team.kill(victim)
        self.start_one()

    def pause_one(self) -> None:
        """Stop a process inside of a section, and have it go on when others came after it, where leases end.

        Its late write is refused then, by its token.
        """
        victim, inside = self.stop_inside()
        if LockingCapability.EXPIRY in self.app.locking.capabilities:
            eventually(lambda: self.counter.last().token > inside.token, LONG)
            self.team.resume(victim)
            eventually(lambda: ("refused", victim.pid, inside.token) in self._happened(), LONG)
        else:
            self.team.resume(victim)

    def stop_inside(self) -> tuple[Process, Record]:
        """Stop a process between its reading and its writing, and return it, with what it read."""
        for _ in range(10_000):
            inside = self.counter.last()
            victim = next((it for it in self.team.members if it.pid == inside.pid), None)
            if inside.kind == "read" and victim is not None:
                self.team.pause(victim)
                if self.counter.last() == inside and self.counter.is_at_hand():
                    return victim, inside
                self.team.resume(victim)
            time.sleep(self._dice.random() / 1000)
        raise AssertionError("nobody is inside of a section")

    def until_free(self) -> float:
        """Return how many seconds it takes until the key can be had."""
        begun = time.monotonic()
        eventually(self._is_free, LONG)
        return time.monotonic() - begun

    def _is_free(self) -> bool:
        try:
            return self.app.locking.acquire(KEY).release()
        except OperationError:
            return False

    def _happened(self) -> set[tuple[str, int, int]]:
        return {(record.kind, record.pid, record.token) for record in self.counter.records()}


@contextmanager
def battle(folder: Path, locking: Mapping[str, Any]) -> Generator[Battle]:
    """Lend a battle for the length of a block: processes whose app has these settings of locking."""
    settings = {"name": "battle", "locking": dict(locking)}
    (folder / "settings.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pilotis_testing.locking_sections", str(folder)]
    with Pilotis(settings) as app, team(command, folder / "log", {}) as crew:
        fight = Battle(folder, crew, app)
        try:
            yield fight
        finally:
            fight.journal.close()
            fight.counter.close()


def history_of(journal: Journal) -> list[Section]:
    """Return what was written down, a section for each time that somebody got in."""
    sections: dict[str, Section] = {}
    for note in journal.of(KEY, "began", "done", "refused"):
        value, at = note_fields(note)
        if note.what == "began":
            sections[note.id] = Section(pid=note.pid, token=note.attempt, began=at, value=value)
        else:
            is_refused = note.what == "refused"
            sections[note.id] = replace(sections[note.id], ended=at, is_refused=is_refused)
    return list(sections.values())
