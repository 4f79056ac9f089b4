"""Where providers stand in the settings: modules, their instances, and the parts that have providers of their own."""

from __future__ import annotations

import re

from pilotis.settings.model import (
    CacheSettings,
    ChannelSettings,
    EventSettings,
    FileSettings,
    LedgerSettings,
    LockingSettings,
    NotificationSettings,
    OutboxSettings,
    PortableSettings,
    WorkflowSettings,
)

PORTABLE: dict[str, type[PortableSettings]] = {
    "cache": CacheSettings,
    "event": EventSettings,
    "file": FileSettings,
    "locking": LockingSettings,
    "notification": NotificationSettings,
    "workflow": WorkflowSettings,
}
"""The six modules."""

DEFAULT_PROVIDER = {
    "cache": "memory",
    "event": "local",
    "file": "local",
    "locking": "memory",
    "notification": "local",
    "workflow": "memory",
}

PARTS = {"event": ("outbox",), "notification": ("ledger", "channels")}
"""The tables inside a module that hold providers, beside `instances`."""

_PART_SETTINGS: dict[str, type[PortableSettings]] = {"outbox": OutboxSettings, "ledger": LedgerSettings}


def section_at(path: str) -> type[PortableSettings] | None:
    """Return the portable settings of the provider that stands at `path`, None where no provider stands."""
    module, *rest = re.sub(r"\[\d+\]$", "", path).split(".")
    if module not in PORTABLE:
        return None
    if rest[:1] == ["instances"] and len(rest) > 1:
        rest = rest[2:]
    match rest:
        case []:
            return PORTABLE[module]
        case [part] if part in PARTS.get(module, ()):
            return _PART_SETTINGS.get(part)
        case ["channels", _] if module == "notification":
            return ChannelSettings
        case _:
            return None


def tables_in(path: str) -> tuple[str, ...]:
    """Return the names of the tables that stand inside the provider's table at `path`."""
    module, *rest = path.split(".")
    if not rest:
        return ("instances", *PARTS.get(module, ()))
    return PARTS.get(module, ()) if len(rest) == 2 and rest[0] == "instances" else ()
