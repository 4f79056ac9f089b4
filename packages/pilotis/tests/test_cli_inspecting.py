"""`pilotis providers`, `check` and `settings`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from pilotis import ProviderConflictError
from pilotis.cli import inspecting

Cli = Callable[..., Any]

EMBEDDED = {
    "cache": "memory",
    "event": "local",
    "file": "local",
    "locking": "memory",
    "notification": "local",
    "workflow": "memory",
}

UNREACHABLE = """
from pilotis import Pilotis
from pilotis_locking_memory import MemoryLocking

class Unreachable(MemoryLocking):
    async def ping(self) -> None:
        raise ConnectionRefusedError("connection to redis://shop:hunter2@redis.example refused")

app = Pilotis({"locking": Unreachable(), "cache": "memory"})
"""


def test_providers_are_listed_with_their_distributions(cli: Cli) -> None:
    """By module; their capabilities are not known, because none was imported."""
    ended = cli("providers", "--json")
    embedded = [provider for provider in ended.json if EMBEDDED.get(provider["module"]) == provider["name"]]
    assert ended.code == 0
    assert list(EMBEDDED) == [provider["module"] for provider in embedded]
    assert {
        "module": "cache",
        "name": "memory",
        "distribution": "pilotis-cache-memory",
        "version": version("pilotis-cache-memory"),
        "capabilities": None,
        "error": None,
    } == embedded[0]


def test_check_imports_providers_and_lists_their_capabilities(cli: Cli) -> None:
    """By the names that `require` understands."""
    ended = cli("providers", "--check", "--json")
    locking = next(provider for provider in ended.json if provider["module"] == "locking")
    assert ended.code == 0
    assert {"expiry", "fencing"} <= set(locking["capabilities"])


def test_a_provider_that_cannot_be_imported_is_shown_and_fails(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are listed all the same."""
    monkeypatch.setattr("pilotis.discovery._loaded", {})
    monkeypatch.setitem(sys.modules, "pilotis_locking_memory.plugin", None)
    ended = cli("providers", "--check", "--json")
    errors = {provider["module"]: provider["error"] for provider in ended.json if provider["error"]}
    assert ended.code == 1
    assert list(errors) == ["locking"]
    assert "locking provider 'memory' from pilotis-locking-memory" in errors["locking"]


def test_two_distributions_with_one_name_are_shown_and_fail(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """For their module; the others are listed all the same."""

    def installed(module: str) -> dict[str, Any]:
        if module == "cache":
            raise ProviderConflictError("cache provider 'x' is declared by several distributions: a, b.")
        return {}

    monkeypatch.setattr(inspecting, "installed", installed)
    ended = cli("providers", "--json")
    assert ended.code == 1
    assert [provider["error"] for provider in ended.json] == [
        "cache provider 'x' is declared by several distributions: a, b."
    ]


def test_people_get_a_table(cli: Cli) -> None:
    """One line for each provider, however narrow the terminal of nobody is."""
    ended = cli("providers")
    (line,) = [line.split() for line in ended.out.splitlines() if "pilotis-locking-memory" in line]
    assert line == ["locking", "memory", "pilotis-locking-memory", version("pilotis-locking-memory")]


def test_check_pings_what_is_configured(cli: Cli, shop: Any) -> None:
    """And succeeds when all can be used."""
    ended = cli("check", "--json")
    assert ended.code == 0
    assert ["event", "locking", "workflow"] == sorted(check["module"] for check in ended.json)
    assert all(check["ok"] for check in ended.json)


def test_check_handles_nothing(cli: Cli, shop: Any) -> None:
    """A probe that ran handlers would work behind the worker's back, and be killed in the midst of it."""
    app = shop.app.copy(role="emit")
    app.event.emit("order.placed", {"id": 1})
    assert cli("check").code == 0
    assert shop.handled == []
    app.close()


def test_check_tells_of_what_cannot_be_used(cli: Cli, elsewhere: Path) -> None:
    """Module, provider and the reason; the exit code is for probes."""
    (elsewhere / "down_app.py").write_text(UNREACHABLE)
    ended = cli("check", "--json", "--app", "down_app:app")
    found = {check["module"]: check for check in ended.json}
    assert (ended.code, found["cache"]["ok"], found["locking"]["ok"]) == (1, True, False)
    assert "refused" in found["locking"]["detail"]
    assert "hunter2" not in ended.out


def test_nothing_configured_is_said(cli: Cli) -> None:
    """In a sentence, or as an empty list."""
    assert cli("check").out == "No module is configured: all are at their defaults.\n"
    assert cli("check", "--json").json == []


def test_settings_are_shown_without_secrets(cli: Cli, elsewhere: Path) -> None:
    """In the shape of a settings file, defaults included; as paths and values for people."""
    (elsewhere / "pilotis.toml").write_text(
        'name = "shop"\n'
        "[connections]\n"
        'main = "redis://shop:hunter2@redis.example/0"\n'
        "[cache]\n"
        'url = "main"\n'
        "[cache.instances.sessions]\n"
        'provider = "memory"\n'
        "max_entries = 5\n"
        "[notification.channels]\n"
        'email = ["local", {provider = "sendgrid", api_key = "hunter2"}]\n'
    )
    tree = cli("settings", "--json")
    assert (tree.json["name"], tree.json["settings_file"]) == ("shop", str(elsewhere / "pilotis.toml"))
    assert tree.json["file"]["provider"] == "local"
    assert tree.json["cache"]["url"] == "redis://shop:***@redis.example/0"
    assert (tree.json["cache"]["default_ttl"], tree.json["cache"]["instances"]["sessions"]["max_entries"]) == (30, 5)
    assert tree.json["notification"]["channels"]["email"][1]["api_key"] == "***"
    table = cli("settings")
    lines = [line.split() for line in table.out.splitlines()]
    assert ["cache.instances.sessions.max_entries", "5"] in lines
    assert ["notification.channels.email[1].provider", "sendgrid"] in lines
    assert "hunter2" not in tree.out + table.out
