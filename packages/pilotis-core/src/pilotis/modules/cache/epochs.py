"""The epochs of tags: whole numbers, stored beside the values that have them, and changed to invalidate those."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from pilotis.modules.cache.envelope import Head, with_head
from pilotis.modules.cache.provider import Entry

Epochs = Mapping[str, int | None]

NEVER = 0
"""The epoch of a tag while the backend keeps none: a value that has it is a miss."""

_LONGEST = 19


def tagged(sealed: bytes, epochs: Mapping[str, int]) -> bytes:
    """Return a stored form that is out of date once one of the epochs has passed."""
    return with_head(Head(epochs=dict(epochs)), sealed) if epochs else sealed


def is_current(head: Head, tags: Sequence[str], epochs: Epochs) -> bool:
    """Tell whether an entry has all of `tags`, and none of its own was invalidated or lost its epoch."""
    return all(tag in head.epochs for tag in tags) and all(epochs[tag] == mine for tag, mine in head.epochs.items())


def epoch_of(data: bytes | None) -> int | None:
    return None if data is None or len(data) > _LONGEST or not data.isdigit() else int(data)


def epoch_entry(tag: str, epoch: int) -> Entry:
    return Entry(tag, b"%d" % epoch, None)


def new_epoch() -> int:
    return (int.from_bytes(os.urandom(8)) >> 1) + 1  # not from `random`, which tests and simulations seed alike
