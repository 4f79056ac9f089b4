"""Settings: a mapping, a file and the environment, to typed structs.

Later layers win: defaults, then the file, then the environment, then the mapping. Every text may hold `${VAR}`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pilotis.settings.layout import DEFAULT_PROVIDER
from pilotis.settings.model import (
    CacheSettings,
    ChannelSettings,
    EventSettings,
    FileSettings,
    LedgerSettings,
    LockingSettings,
    ModuleSettings,
    NearSettings,
    NotificationSettings,
    OutboxSettings,
    PortableSettings,
    Settings,
    WorkflowSettings,
)
from pilotis.settings.secrets import Masked, Secret, mask_text, mask_url

if TYPE_CHECKING:
    from pilotis.settings.convert import convert_options
    from pilotis.settings.loading import load
    from pilotis.settings.sources import find_file, read_toml

__all__ = [
    "DEFAULT_PROVIDER",
    "CacheSettings",
    "ChannelSettings",
    "EventSettings",
    "FileSettings",
    "LedgerSettings",
    "LockingSettings",
    "Masked",
    "ModuleSettings",
    "NearSettings",
    "NotificationSettings",
    "OutboxSettings",
    "PortableSettings",
    "Secret",
    "Settings",
    "WorkflowSettings",
    "convert_options",
    "find_file",
    "load",
    "mask_text",
    "mask_url",
    "read_toml",
]

_LATER = {"convert_options": "convert", "find_file": "sources", "load": "loading", "read_toml": "sources"}


def __getattr__(name: str) -> Any:
    """Import what reads settings when it is first used: importing `pilotis` needs the structs alone."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
