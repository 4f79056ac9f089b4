"""What goes into lanes, is taken out of them, and stays behind."""

from __future__ import annotations

import logging
import math
from typing import Literal

import msgspec

logger = logging.getLogger("pilotis.redis.lanes")

Priority = Literal["h", "n", "l"]
"""High, normal and low: also what the streams of a lane are called."""
Stream = Literal["s", "h", "n", "l"]
"""The streams of a lane: suspects, and one for each priority."""


class Head(msgspec.Struct, array_like=True):
    """What lanes know of an entry, beside its body. Scripts read it too: no bytes may be in it, and order counts."""

    id: str
    name: str
    priority: Priority = "n"
    attempts: int = 0
    """Runs that counted, and after which it went on."""
    crashes: int = 0
    """Workers that died while they had it."""
    member: str = ""
    """Its place in the chain of its key; empty without a key."""
    first: int = 0
    """When it failed first, or a worker died of it first: ms since 1970, 0 before."""


class Push(msgspec.Struct):
    """An entry on its way into every lane whose pattern its name matches. Durations are seconds."""

    id: str
    name: str
    body: bytes
    delay: float = 0.0
    priority: Priority = "n"
    key: str | None = None
    """Entries of one key are handed out one after the other."""
    dedupe: str | None = None
    dedupe_ttl: float = 0.0
    """For how long `name` and `dedupe` are remembered; 0: not at all."""
    remember: float = 0.0
    """For how long the id is remembered; 0: not at all."""


class Pushed(msgspec.Struct, frozen=True):
    """What became of an entry."""

    id: str
    """Its id, or that of the entry that it repeats."""
    lanes: int
    """How many lanes took it."""
    repeated: bool = False


class Taken(msgspec.Struct, frozen=True):
    """An entry in the hands of a worker, until that settles it."""

    lane: str
    stream: Stream
    entry: str
    """Its id in that stream."""
    worker: str
    head: Head
    body: bytes


class Letter(msgspec.Struct, frozen=True):
    """A dead letter."""

    lane: str
    head: Head
    body: bytes
    cause: str
    """As the worker said; "crashed" where workers died of it."""
    error: str
    traceback: str
    worker: str
    """Who had it last."""
    died: int
    """When: ms since 1970."""


HEADS = msgspec.msgpack.Decoder(Head)
"""Reads heads."""


def read_taken(place: tuple[str, Stream, str, str], head: bytes, body: bytes) -> Taken:
    """Return an entry as it was handed out: its lane, stream and id, and the worker who has it, go before.

    One that others wrote, and whose head nobody can read, has no body either, so that nobody handles it by mistake.
    What there was stays in Redis, and is in the dead letter.
    """
    try:
        return Taken(*place, HEADS.decode(head), body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        lane, _, entry, _ = place
        logger.exception("entry %s of lane %r cannot be read", entry, lane)
        return Taken(*place, Head(entry, "?"), b"")


class WorkerInfo(msgspec.Struct, kw_only=True):
    """What a worker says of itself."""

    service: str
    host: str
    pid: int
    started: float
    """Seconds since 1970."""
    lanes: dict[str, list[str]]
    """The lanes that it reads, each with the names of its handlers: workers that name others disagree."""


def milliseconds(seconds: float) -> int:
    """Return whole milliseconds, and never fewer, so that nothing comes early."""
    return math.ceil(round(seconds * 1000, 3))
