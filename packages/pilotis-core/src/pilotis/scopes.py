"""What surrounds a piece of user code and is seen by several modules: where events go, which locks are held.

The variables are set in plain `__enter__` and `__aenter__` and restored by value, never on a helper thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, Protocol

from pilotis.bridge import scoped


class Stage(Protocol):
    """Where events wait instead of being sent: a group, a transaction, a workflow run."""

    async def stage(self, bus: Any, messages: Sequence[Any]) -> None:
        """Keep the messages of an event bus until the surrounding block has ended."""
        ...


class Around(Protocol):
    """A transaction of the caller's, in whose outbox the starts of workflows wait for the commit."""

    async def stage_run(self, run: Any, instance: str) -> None:
        """Keep the start of a run; `instance` is that of its workflow module."""
        ...


stage: ContextVar[Stage | None] = scoped("pilotis_stage", None)
"""The innermost stage around the running code, or None: then events are sent at once."""

transaction: ContextVar[Around | None] = scoped("pilotis_transaction", None)
"""The innermost `event.transaction` around the running code, or None: then runs are started at once."""

held_locks: ContextVar[frozenset[str]] = scoped("pilotis_held_locks", frozenset())
"""The keys that `locking.hold` holds around the running code."""
