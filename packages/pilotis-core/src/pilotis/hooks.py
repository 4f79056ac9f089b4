"""The pluggy hooks: what an installed distribution may implement.

Apart from `discovery`, so that pluggy is imported when a provider is loaded, and not with `pilotis`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from pilotis.provider import Provider

hookspec = pluggy.HookspecMarker("pilotis")
hookimpl = pluggy.HookimplMarker("pilotis")
"""Marks the implementation of a hook: `@hookimpl def pilotis_provider() -> type[CacheProvider]`."""


class ProviderHooks:
    """The hooks of the groups `pilotis.cache`, `pilotis.event` and so on: one provider each."""

    @staticmethod
    @hookspec(firstresult=True)
    def pilotis_provider() -> type[Provider]:
        """Return the provider class. Import its SDK in here or later, never at the top of the plugin module."""
        raise NotImplementedError


class AppHooks:
    """The hooks of the group `pilotis.plugins`: every installed plugin is asked."""

    @staticmethod
    @hookspec
    def pilotis_app_opened(app: object) -> None:
        """Called when an app has been opened."""

    @staticmethod
    @hookspec
    def pilotis_app_closing(app: object) -> None:
        """Called when an app is about to drain and close."""

    @staticmethod
    @hookspec
    def pilotis_telemetry(app: object) -> object | None:
        """Return a telemetry for the app to report to, or None."""

    @staticmethod
    @hookspec
    def pilotis_commands(cli: object) -> None:
        """Add commands to the `pilotis` command line, a `typer.Typer`."""


def manager_of(hooks: type) -> pluggy.PluginManager:
    """Return a new plugin manager that knows these hooks."""
    manager = pluggy.PluginManager("pilotis")
    manager.add_hookspecs(hooks)
    return manager
