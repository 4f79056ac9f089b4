"""The in-process locking provider of Pilotis."""

from __future__ import annotations

from pilotis_locking_memory.provider import MemoryLocking

__all__ = ["MemoryLocking"]
