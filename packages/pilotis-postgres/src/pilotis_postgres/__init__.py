"""What all PostgreSQL providers of Pilotis stand on: a client in both colours, notifications, start-up checks."""

from __future__ import annotations

__all__: list[str] = []
