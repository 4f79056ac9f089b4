"""What an app lends to its portable classes and providers."""

from __future__ import annotations

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
    common: dict[Hashable, Shared[Any]] = msgspec.field(default_factory=dict[Hashable, Shared[Any]])
    """What providers have in common, under keys of theirs: see `Provider.share`."""
