"""`pilotis providers` and `pilotis check`: what there is, and whether it works."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from pilotis.checks import Check
from pilotis.cli.finding import looking_into
from pilotis.cli.options import AppOption, JsonOption
from pilotis.cli.outcome import WRONG
from pilotis.cli.showing import Row, progress, show
from pilotis.discovery import INTERFACES, Installed, installed, resolve
from pilotis.errors import ConfigurationError


class Found(msgspec.Struct):
    """A provider that is installed, or what is wrong with those of a module."""

    module: str
    name: str | None = None
    distribution: str | None = None
    version: str | None = None
    capabilities: list[str] | None = None
    """Known once it was imported."""
    error: str | None = None


def providers(
    check: Annotated[bool, typer.Option("--check", help="Import each one, and list its capabilities.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the installed providers.

    None of them is imported, unless you ask for `--check`. Exits with 1 if one cannot be imported, or if
    several distributions declare the same one.
    """
    found = [provider for module in INTERFACES for provider in _providers_of(module, check=check)]
    show(found, as_json=as_json, row=_provider_row, nothing="No provider is installed: pip install pilotis")
    if any(provider.error for provider in found):
        raise typer.Exit(WRONG)


def _providers_of(module: str, *, check: bool) -> list[Found]:
    try:
        return [_found(module, name, source, check=check) for name, source in installed(module).items()]
    except ConfigurationError as error:
        return [Found(module, error=str(error))]


def _found(module: str, name: str, source: Installed, *, check: bool) -> Found:
    provider = Found(module, name, source.distribution, source.version)
    if check:
        try:
            provider.capabilities = [str(flag.name).lower() for flag in resolve(module, name).capabilities]
        except ConfigurationError as error:
            provider.error = str(error)
    return provider


def _provider_row(provider: Found) -> Row:
    row: dict[str, object] = {
        "module": provider.module,
        "name": provider.name,
        "distribution": provider.distribution,
        "version": provider.version,
    }
    return {**row, "capabilities": provider.error or provider.capabilities}


def check(app: AppOption = None, as_json: JsonOption = False) -> None:
    """Ping every configured module.

    Exits with 1 if one of them cannot be used. Nothing is handled meanwhile, whatever the role of the app.
    """
    with progress("Pinging ..."), looking_into(app) as looked_into:
        checks = looked_into.check()
    show(checks, as_json=as_json, row=_check_row, nothing="No module is configured: all are at their defaults.")
    if not all(one.ok for one in checks):
        raise typer.Exit(WRONG)


def _check_row(one: Check) -> Row:
    return {
        "module": one.module,
        "provider": one.provider,
        "ok": one.ok,
        "detail": one.detail,
        "seconds": one.seconds,
    }
