"""The Redis workflow engine of Pilotis."""

from __future__ import annotations

__all__: list[str] = []
