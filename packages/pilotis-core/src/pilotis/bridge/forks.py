"""After a fork the child starts afresh: no thread, lock, flight or client of its parent is of use to it."""

from __future__ import annotations

import logging
import os
import weakref
from typing import Protocol, TypeVar


class Resettable(Protocol):
    def after_fork(self) -> None:
        """Forget everything that belonged to the parent process. Runs in the child, alone."""


T = TypeVar("T", bound=Resettable)

logger = logging.getLogger("pilotis.bridge")

_resettable: weakref.WeakSet[Resettable] = weakref.WeakSet()


def reset_after_fork(thing: T) -> T:
    """Have `thing.after_fork()` called in every child process, for as long as `thing` lives."""
    _resettable.add(thing)
    return thing


def _reset_all() -> None:
    """Reset every one, whatever becomes of the others: one that cannot must not leave them with the parent's locks."""
    for thing in list(_resettable):
        try:
            thing.after_fork()
        except Exception:
            logger.exception("%r could not be reset after a fork", type(thing))


os.register_at_fork(after_in_child=_reset_all)
