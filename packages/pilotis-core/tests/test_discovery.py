"""Discovery: what is found, what is imported, and what is said when it is not there."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pilotis import discovery
from pilotis.errors import ConfigurationError, ProviderConflictError, ProviderLoadError, ProviderNotFoundError
from pilotis.known import FIRST_PARTY
from pilotis.provider import Provider

Distribution = Callable[..., None]

PLUGIN = """
from pilotis.discovery import interface
from pilotis.hooks import hookimpl

class Found(interface("{module}")):
    pass

@hookimpl
def pilotis_provider():
    return Found
"""


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("PILOTIS_PROVIDERS", raising=False)
    monkeypatch.setattr(discovery, "_loaded", {})
    monkeypatch.setattr(discovery, "_registered", {})
    before = set(sys.modules)
    discovery.plugins.cache_clear()
    yield
    discovery.plugins.cache_clear()
    for name in set(sys.modules) - before:
        if name.startswith("made_up_"):
            del sys.modules[name]


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Distribution:
    """Put a distribution on the path: its metadata, and a plugin module of the given source."""

    def make(
        name: str, *entries: str, group: str = "pilotis.cache", version: str = "9.9", plugin: str | None = None
    ) -> None:
        place = tmp_path / name
        metadata = place / f"{name.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        package = f"made_up_{name.replace('-', '_')}"
        lines = "".join(f"{entry} = {package}\n" for entry in entries)
        (metadata / "entry_points.txt").write_text(f"[{group}]\n{lines}")
        source = PLUGIN.format(module=group.removeprefix("pilotis.")) if plugin is None else plugin
        (place / f"{package}.py").write_text(textwrap.dedent(source))
        monkeypatch.syspath_prepend(place)  # pyright: ignore[reportUnknownMemberType]

    return make


def mine(module: str = "cache") -> type[Provider]:
    """Make a provider class for a module."""
    return type("Mine", (discovery.interface(module),), {})


def failing(error: type[ConfigurationError], module: str, name: str) -> str:
    """Return the message of the error that resolving raises."""
    with pytest.raises(error) as caught:
        discovery.resolve(module, name)
    return str(caught.value)


def test_an_installed_provider_is_found_by_its_entry_name(distribution: Distribution) -> None:
    """The hook of the plugin gives the class."""
    distribution("acme-cache", "acme")
    assert discovery.resolve("cache", "acme").__name__ == "Found"


def test_only_the_chosen_provider_is_imported(distribution: Distribution) -> None:
    """Neither its siblings nor those of other distributions are."""
    distribution("acme-cache", "acme")
    distribution("bolt-cache", "bolt", plugin="raise SystemExit")
    discovery.resolve("cache", "acme")
    assert "made_up_acme_cache" in sys.modules
    assert "made_up_bolt_cache" not in sys.modules


def test_one_plugin_may_have_several_names(distribution: Distribution) -> None:
    """As `redis` and `rediss` do: the same class answers to both."""
    distribution("acme-cache", "acme", "acmes", "acme+tls")
    found = {discovery.resolve("cache", name) for name in ("acme", "acmes", "acme+tls", "acme")}
    assert len(found) == 1


def test_a_first_party_provider_that_is_missing_says_how_to_install_it(
    distribution: Distribution, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What, what there is, what to do."""
    distribution("pilotis-event-made-up", "elsewhere", group="pilotis.event")
    monkeypatch.setitem(FIRST_PARTY["event"], "pigeons", "pilotis-event-pigeons")  # whatever is installed here
    message = failing(ProviderNotFoundError, "event", "pigeons")
    names = ", ".join(discovery.installed("event"))
    assert message == (
        f"No event provider named 'pigeons' is installed (installed: {names}). "
        f"Install it with: pip install pilotis-event-pigeons"
    )
    assert "elsewhere" in names


def test_a_misspelt_name_says_the_nearest(distribution: Distribution) -> None:
    """First-party names count, installed or not."""
    distribution("pilotis-cache-redis", "redis")
    names = ", ".join(discovery.installed("cache"))
    assert failing(ProviderNotFoundError, "cache", "rediss-") == (
        f"No cache provider named 'rediss-' is installed (installed: {names}). Did you mean 'rediss'?"
    )


def test_a_name_like_no_other_says_how_to_make_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is installed, it says so."""
    monkeypatch.setattr(sys, "path", [])
    assert failing(ProviderNotFoundError, "file", "xyzzy") == (
        "No file provider named 'xyzzy' is installed (installed: none). "
        "Install the distribution that has it, or register your own: pilotis.register('file', 'xyzzy', ...)"
    )


def test_a_missing_provider_is_a_lookup_error() -> None:
    """Callers may catch it as what it is to them."""
    with pytest.raises(LookupError):
        discovery.resolve("cache", "xyzzy")


def test_two_distributions_with_one_name_are_a_conflict(distribution: Distribution) -> None:
    """Neither wins silently, and neither is imported."""
    distribution("pilotis-cache-redis", "redis", plugin="raise SystemExit")
    distribution("acme-cache", "redis", plugin="raise SystemExit")
    assert failing(ProviderConflictError, "cache", "redis") == (
        "cache provider 'redis' is declared by several distributions: acme-cache, pilotis-cache-redis. "
        "Uninstall all but one."
    )
    with pytest.raises(ProviderConflictError):
        discovery.installed("cache")


def test_a_provider_that_cannot_be_imported_names_its_distribution(distribution: Distribution) -> None:
    """The cause stays reachable."""
    distribution("acme-cache", "broken", plugin="raise ModuleNotFoundError(\"No module named 'acme.missing'\")")
    with pytest.raises(ProviderLoadError) as caught:
        discovery.resolve("cache", "broken")
    assert str(caught.value) == (
        "cache provider 'broken' from acme-cache 9.9 failed to import: No module named 'acme.missing'"
    )
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert isinstance(caught.value, ImportError)


BAD_HOOKS = {
    "an argument that the hook does not have": "@hookimpl\ndef pilotis_provider(optoins): ...",
    "a hook that does not exist": "@hookimpl\ndef pilotis_providr(): ...",
    "a hook that does not exist beside the one that does": (
        PLUGIN.format(module="cache") + "\n@hookimpl\ndef pilotis_ping(): ..."
    ),
    "no hook": "",
    "a class of another kind": "@hookimpl\ndef pilotis_provider(): return dict",
    "no class": "@hookimpl\ndef pilotis_provider(): return 'redis'",
}


@pytest.mark.parametrize("hook", BAD_HOOKS.values(), ids=BAD_HOOKS)
def test_a_plugin_that_does_not_fit_is_refused_every_time(distribution: Distribution, hook: str) -> None:
    """A failed check leaves nothing behind: the second attempt fails alike."""
    distribution("acme-cache", "acme", plugin=f"from pilotis.hooks import hookimpl\n\n{hook}")
    first = failing(ProviderLoadError, "cache", "acme")
    assert first.startswith("cache provider 'acme' from acme-cache 9.9 failed to import: ")
    assert failing(ProviderLoadError, "cache", "acme") == first


def test_a_plugin_that_was_mended_loads(distribution: Distribution) -> None:
    """A failure is not remembered."""
    distribution("acme-cache", "acme", plugin="from pilotis.hooks import hookimpl\n\n@hookimpl\ndef pilotis_x(): ...")
    failing(ProviderLoadError, "cache", "acme")
    provider = mine()

    def pilotis_provider() -> type[Provider]:
        return provider

    from pilotis.hooks import hookimpl

    plugin = sys.modules["made_up_acme_cache"]
    delattr(plugin, "pilotis_x")
    plugin.pilotis_provider = hookimpl(pilotis_provider)  # pyright: ignore[reportAttributeAccessIssue]
    assert discovery.resolve("cache", "acme") is provider


def test_installed_lists_without_importing(distribution: Distribution) -> None:
    """Names with distribution and version."""
    distribution("acme-cache", "acme", "acmes", plugin="raise SystemExit", version="1.2")
    found = discovery.installed("cache")
    assert found["acme"] == ("acme-cache", "1.2")
    assert str(found["acmes"]) == "acme-cache 1.2"
    assert list(found) == sorted(found)


# The allow-list


@pytest.mark.parametrize("listed", ["acme-cache", "Acme_Cache", " acme.cache , other"])
@pytest.mark.parametrize("name", ["acme-cache", "Acme_Cache"])
def test_a_listed_distribution_may_be_loaded(
    distribution: Distribution, monkeypatch: pytest.MonkeyPatch, listed: str, name: str
) -> None:
    """Names are compared as package names are."""
    distribution(name, "acme")
    monkeypatch.setenv("PILOTIS_PROVIDERS", listed)
    assert list(discovery.installed("cache")) == ["acme"]
    assert discovery.resolve("cache", "acme").__name__ == "Found"


def test_a_distribution_that_is_not_listed_counts_as_not_installed(
    distribution: Distribution, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says that it is there, and where to add it."""
    distribution("acme-cache", "acme", plugin="raise SystemExit")
    distribution("bolt-cache", "bolt")
    monkeypatch.setenv("PILOTIS_PROVIDERS", "bolt-cache")
    assert failing(ProviderNotFoundError, "cache", "acme") == (
        "No cache provider named 'acme' is installed (installed: bolt). "
        "PILOTIS_PROVIDERS leaves out acme-cache, which has it: add it there."
    )


@pytest.mark.parametrize("allowed", ["acme-cache", "bolt-cache"])
def test_the_list_decides_between_two_with_one_name(
    distribution: Distribution, monkeypatch: pytest.MonkeyPatch, allowed: str
) -> None:
    """Whatever their order on the path, the one left out is not imported."""
    distribution("acme-cache", "redis", plugin=PLUGIN.format(module="cache") if allowed == "acme-cache" else "0/0")
    distribution("bolt-cache", "redis", plugin=PLUGIN.format(module="cache") if allowed == "bolt-cache" else "0/0")
    monkeypatch.setenv("PILOTIS_PROVIDERS", allowed)
    assert discovery.resolve("cache", "redis").__module__ == f"made_up_{allowed.replace('-', '_')}"


def test_an_empty_list_allows_all(distribution: Distribution, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set to nothing is as not set."""
    distribution("acme-cache", "acme")
    monkeypatch.setenv("PILOTIS_PROVIDERS", "")
    assert "acme" in discovery.installed("cache")


# Registering


def test_a_registered_class_wins_over_an_installed_one(distribution: Distribution) -> None:
    """Before and after the installed one was loaded, until it is unregistered."""
    distribution("acme-cache", "acme")
    provider = mine()
    installed = discovery.resolve("cache", "acme")
    discovery.register("cache", "acme", provider)
    assert discovery.resolve("cache", "acme") is provider
    discovery.unregister("cache", "acme")
    assert discovery.resolve("cache", "acme") is installed


def test_a_registered_class_needs_no_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """The allow-list is about what is installed."""
    monkeypatch.setenv("PILOTIS_PROVIDERS", "other")
    provider = mine()
    discovery.register("cache", "mine", provider)
    assert discovery.resolve("cache", "mine") is provider


def test_a_registered_name_is_offered() -> None:
    """It is as good as installed."""
    discovery.register("cache", "mine", mine())
    message = failing(ProviderNotFoundError, "cache", "mime")
    assert "mine" in message.partition(")")[0]
    assert message.endswith("Did you mean 'mine'?")


@pytest.mark.parametrize("module", discovery.INTERFACES)
def test_every_module_and_part_takes_registrations(module: str) -> None:
    """The outbox and the ledger too."""
    provider = mine(module)
    discovery.register(module, "mine", provider)
    assert discovery.resolve(module, "mine") is provider


@pytest.mark.parametrize("other", [dict, "redis", None, Provider()])
def test_what_is_no_provider_of_the_module_is_refused(other: object) -> None:
    """The message names the class to derive from."""
    with pytest.raises(ConfigurationError, match="is no cache provider: expected a class that derives from pilotis"):
        discovery.register("cache", "mine", other)  # pyright: ignore[reportArgumentType]


def test_a_name_is_not_given_twice() -> None:
    """Unless the caller says so; the same class again does nothing."""
    first, second = mine(), mine()
    discovery.register("cache", "mine", first)
    discovery.register("cache", "mine", first)
    with pytest.raises(ProviderConflictError, match=r"'mine' is registered already, as .*Mine\. .* replace=True"):
        discovery.register("cache", "mine", second)
    assert discovery.resolve("cache", "mine") is first
    discovery.register("cache", "mine", second, replace=True)
    assert discovery.resolve("cache", "mine") is second


@pytest.mark.parametrize("name", ["", "my cache", "redis://", "-x", "a_b", "a\n"])
def test_a_name_that_cannot_be_a_scheme_is_refused(name: str) -> None:
    """It would never be found in a URL."""
    with pytest.raises(ConfigurationError, match="cannot name a cache provider"):
        discovery.register("cache", name, mine())


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        (discovery.resolve, ["x"]),
        (discovery.register, ["x", dict]),
        (discovery.installed, []),
        (discovery.interface, []),
    ],
)
def test_an_unknown_module_is_an_error(call: Callable[..., object], arguments: list[object]) -> None:
    """It says which there are."""
    with pytest.raises(ConfigurationError, match=r"there is no module 'cash' \(modules: cache, event, file"):
        call("cash", *arguments)


# Plugins of the whole app

APP_PLUGIN = """
from pilotis.hooks import hookimpl

@hookimpl
def pilotis_app_opened(app):
    app.append("{name}")
"""


def test_every_plugin_is_asked(distribution: Distribution, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of the same name from two distributions too; one that is not allowed is not."""
    for name in ("acme", "bolt", "crux"):
        distribution(f"{name}-plugin", "audit", group="pilotis.plugins", plugin=APP_PLUGIN.format(name=name))
    monkeypatch.setenv("PILOTIS_PROVIDERS", "acme-plugin,bolt-plugin")
    told: list[str] = []
    discovery.plugins().hook.pilotis_app_opened(app=told)
    assert sorted(told) == ["acme", "bolt"]


@pytest.mark.parametrize(
    "source", ["0/0", "from pilotis.hooks import hookimpl\n\n@hookimpl\ndef pilotis_app_opend(app): ..."]
)
def test_a_broken_plugin_is_named(distribution: Distribution, source: str) -> None:
    """With its distribution."""
    distribution("acme-plugin", "audit", group="pilotis.plugins", plugin=source)
    with pytest.raises(ProviderLoadError, match=r"^plugin 'audit' from acme-plugin 9\.9 failed to import: "):
        discovery.plugins()
