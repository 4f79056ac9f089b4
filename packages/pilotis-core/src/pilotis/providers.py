"""The face for authors: every provider interface, its capabilities, and what provider code may wait with."""

from __future__ import annotations

from pilotis.bridge import (
    Flights,
    Latch,
    PerLoop,
    blocking,
    finish,
    gather,
    pause,
    reset_after_fork,
    run_blocking,
    run_blocking_with_undo,
)
from pilotis.clock import Clock
from pilotis.context import Context
from pilotis.provider import NoOptions, Provider

__all__ = [
    "Clock",
    "Context",
    "Flights",
    "Latch",
    "NoOptions",
    "PerLoop",
    "Provider",
    "blocking",
    "finish",
    "gather",
    "pause",
    "reset_after_fork",
    "run_blocking",
    "run_blocking_with_undo",
]
