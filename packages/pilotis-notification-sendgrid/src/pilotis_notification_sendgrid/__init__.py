"""The SendGrid notification provider of Pilotis."""

from __future__ import annotations

__all__: list[str] = []
