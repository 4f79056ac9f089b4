"""Where the settings of an app come from, and the settings once they were read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilotis.settings.model import Settings

Source = Mapping[str, Any]


class SettingsReader:
    """Where an app's settings come from, and the settings once they were read."""

    def __init__(self, *sources: Source | None, files: bool) -> None:
        self._sources = sources
        self._files = files
        self._settings: Settings | None = None

    @property
    def done(self) -> bool:
        return self._settings is not None

    def read(self) -> Settings:
        if self._settings is None:
            from pilotis.settings.loading import load

            environment = os.environ if self._files else None
            self._settings = load(*self._sources, files=self._files, env=environment)
        return self._settings

    def mentions(self, module: str) -> bool:
        """Tell whether the settings say anything about a module, rather than leaving it at its default."""
        return module in self.read().mentioned

    def over(self, source: Source | None) -> SettingsReader:
        """Return a reader that lays `source` over this one."""
        return SettingsReader(*self._sources, source, files=self._files)
