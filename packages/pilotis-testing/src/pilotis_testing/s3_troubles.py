"""What the S3 of tests can have happen to a request."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

HELD_SECONDS = 60.0
DROP = 1024
"""Bytes of an answer that drips."""


class Trouble(NamedTuple):
    """What happens to a request. All that is left out does not."""

    status: int = 0
    """It is answered with this status, and not passed on."""
    code: str = ""
    headers: Mapping[str, str] = {}
    deaf: threading.Event | None = None
    """Its body is not read until this is set, at the latest after a minute."""
    cut_request: int | None = None
    """The connection is cut when so many bytes of the body have come, and nothing is passed on."""
    garble: bool = False
    """The last byte of its body is another one when it comes here."""
    cut_answer: int | None = None
    """It is passed on, and the connection cut when so many bytes of the answer's body are out; -1: before its head."""
    stall: threading.Event | None = None
    """Where the answer is cut off it stops until this is set, at the latest for a minute, and is cut off then."""
    drip: float = 0
    """So many seconds pass before each KiB of the answer."""
    alter: bool = False
    """The last byte of the answer's body is another one."""
    hold: threading.Event | None = None
    """It is passed on when this is set, at the latest after a minute."""


class CutError(Exception):
    """The connection is to be cut."""


def wait(event: threading.Event | None) -> None:
    """Wait for what a test decides, if it does."""
    if event is not None:
        event.wait(HELD_SECONDS)


def going_out(pieces: Iterable[bytes], trouble: Trouble) -> Iterator[bytes]:
    """Yield what goes out of an answer's body, in its time. Raises `CutError` where it is cut off."""
    left = trouble.cut_answer
    for piece in _dripping(pieces, trouble.drip):
        yield piece if left is None else piece[:left]
        if left is not None:
            left = max(0, left - len(piece))
            if left == 0:
                wait(trouble.stall)
                raise CutError


def _dripping(pieces: Iterable[bytes], seconds: float) -> Iterator[bytes]:
    if seconds == 0:
        yield from pieces
        return
    for piece in pieces:
        for start in range(0, len(piece), DROP):
            time.sleep(seconds)
            yield piece[start : start + DROP]


def garbled(body: bytes) -> bytes:
    """Return a body whose last byte is another one."""
    return body[:-1] + bytes([body[-1] ^ 1])
