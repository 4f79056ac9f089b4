"""How everything that belongs to lanes is called in Redis. docs/design/lanes.md says what is under each key."""

from __future__ import annotations

PARTS = ("s", "h", "n", "l", "z", "e", "c", "q", "d", "x", "m")
"""What a lane consists of, in the order in which scripts are given it: suspects, high, normal, low, due, entries,
chains, held, dead, letters, counters. The constants in lua/entries.lua follow it."""
STREAMS = PARTS[:4]
GROUP = "g"


class BusKeys:
    """The keys of one bus. They share a hash tag, and so a node of a cluster."""

    def __init__(self, bus: str) -> None:
        self.prefix = f"{{{bus}}}"
        self.version = f"{self.prefix}:ver"
        self.registry = f"{self.prefix}:reg"
        self.paused = f"{self.prefix}:paused"
        self.news = f"{self.prefix}:news"
        self.sequence = f"{self.prefix}:seq"
        self.workers = f"{self.prefix}:w"
        self.infos = f"{self.prefix}:wi"
        self.tail = f"{self.prefix}:tail"
        """There while somebody looks on: what they are shown."""
        self._lanes: dict[str, LaneKeys] = {}

    def lane(self, lane: str) -> LaneKeys:
        """Return the keys of a lane."""
        found = self._lanes.get(lane)
        if found is None:
            found = self._lanes[lane] = LaneKeys(f"{self.prefix}:l:{lane}")
        return found

    def place(self, key: str) -> tuple[str, str]:
        """Return the lane that a key belongs to, and which part of it that is."""
        lane, _, part = key.removeprefix(f"{self.prefix}:l:").rpartition(":")
        return lane, part

    def bell(self, worker: str) -> str:
        return f"{self.prefix}:b:{worker}"

    def id(self, id: str) -> str:
        return f"{self.prefix}:i:{id}"

    def dedupe(self, name: str, dedupe: str) -> str:
        return f"{self.prefix}:d:{name} {dedupe}"  # names have no spaces

    def group(self, group: str) -> str:
        return f"{self.prefix}:g:{group}"


class LaneKeys:
    """The keys of one lane."""

    def __init__(self, prefix: str) -> None:
        self.all = tuple(f"{prefix}:{part}" for part in PARTS)
        """In the order of `PARTS`."""
        self.streams = self.all[: len(STREAMS)]
        self.suspects, self.high, self.normal, self.low = self.streams
        self.due, self.entries, self.chains, self.held, self.dead, self.letters, self.counters = self.all[
            len(STREAMS) :
        ]
