"""Written once, called from both colours: what portable and provider code may wait with.

The mode is stored nowhere. A running event loop on this thread means asyncio, none means blocking.
"""

from __future__ import annotations

from pilotis.bridge.colours import blocking, blocking_iterator, drive
from pilotis.bridge.contexts import detached_context, scoped
from pilotis.bridge.flights import Flights
from pilotis.bridge.forks import reset_after_fork
from pilotis.bridge.latch import Latch
from pilotis.bridge.loops import PerLoop, on_loop
from pilotis.bridge.mode import blocked_loops, running_loop
from pilotis.bridge.tasks import finish, gather, pause
from pilotis.bridge.threads import THREADS, run_blocking, run_blocking_with_undo

__all__ = [
    "THREADS",
    "Flights",
    "Latch",
    "PerLoop",
    "blocked_loops",
    "blocking",
    "blocking_iterator",
    "detached_context",
    "drive",
    "finish",
    "gather",
    "on_loop",
    "pause",
    "reset_after_fork",
    "run_blocking",
    "run_blocking_with_undo",
    "running_loop",
    "scoped",
]
