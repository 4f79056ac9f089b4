"""What an app lends to its portable classes and providers."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Any, Literal

import msgspec

from pilotis.clock import SYSTEM_CLOCK, Clock
from pilotis.runtime import Runtime
from pilotis.sharing import Shared
from pilotis.telemetry import Telemetry

Role = Literal["all", "emit", "work"]


class Context(msgspec.Struct, kw_only=True):
    """The surroundings of a module: the service's name, its role, its clock and its background loop."""

    name: str = "pilotis"
    role: Role = "all"
    clock: Clock = SYSTEM_CLOCK
    runtime: Runtime = msgspec.field(default_factory=Runtime)
    telemetry: Telemetry | None = None
    blocking_in_loop: Literal["error", "thread"] = "error"
    opened: bool = False
    """Whether the app was opened as a whole: then what is declared begins by itself."""
    concurrency: int | None = None
    """How many event handlers run at once in this process, where its worker was told. Else the settings say."""
    ends_by: float | None = None
    """When a worker that was told to stop has to have ended, by `time.monotonic`."""
    common: dict[Hashable, Shared[Any]] = msgspec.field(default_factory=dict[Hashable, Shared[Any]])
    """What providers have in common, under keys of theirs: see `Provider.share`."""

    def patience(self, own: float) -> float:
        """Return how many real seconds a module may take to close: what is left to the worker, else its `own`."""
        return own if self.ends_by is None else max(0.0, self.ends_by - time.monotonic())
