"""From settings to modules: which provider stands behind which portable class."""

from __future__ import annotations

from typing import Any

from pilotis.context import Context
from pilotis.discovery import resolve
from pilotis.errors import ConfigurationError
from pilotis.modules.base import Portable
from pilotis.modules.cache import Cache
from pilotis.modules.event import EventBus, Outbox
from pilotis.modules.file import FileStore
from pilotis.modules.locking import Locking
from pilotis.modules.notification import Notifier
from pilotis.modules.workflow import WorkflowEngine
from pilotis.provider import Provider
from pilotis.settings import ModuleSettings, Settings, convert_options

_PORTABLE: dict[str, Any] = {
    "cache": Cache,
    "event": EventBus,
    "file": FileStore,
    "locking": Locking,
    "workflow": WorkflowEngine,
}

ANY_CHANNEL = "*"


def build_module(configured: ModuleSettings, settings: Settings, context: Context) -> Portable[Any]:
    """Return the portable class in front of the provider that the settings name. No I/O.

    Raises `ConfigurationError` for options that cannot work, and `UnsupportedError` where a provider lacks a
    capability that `require` names.
    """
    if configured.module == "notification":
        portable: Portable[Any] = _build_notifier(configured, settings, context)
    else:
        provider = build_provider(configured, settings, context)
        parts = {} if configured.outbox is None else {"outbox": _build_outbox(configured, settings, context)}
        portable = _PORTABLE[configured.module](provider, settings=configured.portable, context=context, **parts)
    portable.require_named(configured.portable.require)
    return portable


def build_provider(configured: ModuleSettings, settings: Settings, context: Context) -> Any:
    """Return the provider that the settings name, or the object that stands in them."""
    if configured.provider is None:
        provider: Any = configured.instance
    else:
        provider = _construct(configured, configured.provider, context)
    if provider.shared and settings.name is None:
        raise ConfigurationError(
            f"expected the name of this service, because other services may share the backend of "
            f'{configured.path} (provider {provider.name!r}); set name = "..."',
            path="name",
        )
    return provider


def _construct(configured: ModuleSettings, name: str, context: Context) -> Provider:
    provider_class = resolve(configured.module, name)
    provider = provider_class(convert_options(configured.options, provider_class.Options, configured.path))
    provider.name = name
    if configured.connection is not None:
        provider.share(context.common, configured.connection)
    return provider


def _build_outbox(event: ModuleSettings, settings: Settings, context: Context) -> Outbox:
    configured: Any = event.outbox
    outbox = Outbox(build_provider(configured, settings, context), settings=configured.portable, context=context)
    outbox.instance = event.name
    outbox.require_named(configured.portable.require)
    return outbox


def _build_notifier(configured: ModuleSettings, settings: Settings, context: Context) -> Notifier:
    routes = {
        channel: [build_provider(provider, settings, context) for provider in providers]
        for channel, providers in configured.channels.items()
    }
    routes.setdefault(ANY_CHANNEL, [build_provider(configured, settings, context)])
    ledger = None if configured.ledger is None else build_provider(configured.ledger, settings, context)
    portable: Any = configured.portable
    return Notifier(routes, settings=portable, context=context, ledger=ledger)
