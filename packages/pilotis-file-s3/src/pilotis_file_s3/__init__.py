"""The S3 file provider of Pilotis."""

from __future__ import annotations

__all__: list[str] = []
