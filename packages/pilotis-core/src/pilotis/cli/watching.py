"""Noticing that code has changed: for development."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})


class Sources:
    """The Python files under some directories, those that are hidden or were installed left out."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self._directories = directories
        self._known = self._times()

    def changed(self) -> list[str]:
        """Return the files that were written, added or removed since this was asked last."""
        before, self._known = self._known, self._times()
        return sorted({path for path, _ in before.items() ^ self._known.items()})

    def _times(self) -> dict[str, int]:
        return dict(pair for directory in self._directories for pair in _files_in(str(directory)))


def _files_in(directory: str) -> Iterator[tuple[str, int]]:
    """Go through files with the times at which they were written, in nanoseconds."""
    for place, inner, files in os.walk(directory):
        inner[:] = [name for name in inner if not _is_skipped(place, name)]
        for name in files:
            if name.endswith(".py"):
                path = Path(place, name)
                try:
                    yield str(path), path.stat().st_mtime_ns
                except OSError:  # it was removed just now
                    continue


def _is_skipped(place: str, name: str) -> bool:
    return name.startswith(".") or name in _SKIPPED or Path(place, name, "pyvenv.cfg").exists()
