"""Settings: what each way of writing them means, and what is said of mistakes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pilotis import providers
from pilotis.backoff import Backoff
from pilotis.discovery import interface
from pilotis.errors import ConfigurationError
from pilotis.provider import Provider
from pilotis.settings import (
    CacheSettings,
    EventSettings,
    LockingSettings,
    ModuleSettings,
    NotificationSettings,
    OutboxSettings,
    load,
)


def section(source: dict[str, Any], module: str = "cache", instance: str = "default") -> ModuleSettings:
    """Return the settings of one module."""
    return load(source).modules[module][instance]


def refused(source: dict[str, Any]) -> str:
    """Return the message of the error that loading raises. Its path is where it begins."""
    with pytest.raises(ConfigurationError) as caught:
        load(source)
    assert caught.value.path is not None
    assert str(caught.value).startswith(f"{caught.value.path}: ")
    return str(caught.value)


def test_names_are_text() -> None:
    """At any depth; the place is told."""
    assert refused({1: 2}).startswith("1: there is no such setting")  # pyright: ignore[reportArgumentType]
    assert "cache: expected names that are text, got int" == refused({"cache": {1: 2}})
    assert "file.instances: expected names that are text, got int" == refused({"file": {"instances": {1: "local"}}})


# Providers


@pytest.mark.parametrize(
    ("written", "provider", "options"),
    [
        ("memory", "memory", {}),
        ("redis://localhost:6379/0", "redis", {"url": "redis://localhost:6379/0"}),
        ("redis+sentinel://h/0", "redis+sentinel", {"url": "redis+sentinel://h/0"}),
        ("unix:///run/redis.sock", "unix", {"url": "unix:///run/redis.sock"}),
        ({}, "memory", {}),
        ({"max_entries": 5}, "memory", {"max_entries": 5}),
        ({"provider": "redis"}, "redis", {}),
        ({"url": "rediss://h"}, "rediss", {"url": "rediss://h"}),
        ({"provider": "acme", "url": "redis://h"}, "acme", {"url": "redis://h"}),
        ({"provider": "redis", "url": "redis://h", "default_ttl": 1}, "redis", {"url": "redis://h"}),
    ],
)
def test_a_provider_is_named_in_many_ways(written: Any, provider: str, options: dict[str, object]) -> None:
    """By its name, by a URL, or in a table; what is not portable is its option."""
    found = section({"cache": written})
    assert (found.provider, found.options, found.path, found.name) == (provider, options, "cache", "default")


def test_a_connection_is_named_instead_of_a_url() -> None:
    """The modules that name it know that they share it."""
    source = {
        "connections": {"main": "redis://h:1/0"},
        "cache": {"url": "main"},
        "event": {"url": "main"},
        "locking": "redis://h:1/0",
    }
    modules = load(source).modules
    found = [modules[module]["default"] for module in ("cache", "event", "locking")]
    assert [item.options["url"] for item in found] == ["redis://h:1/0"] * 3
    assert [item.provider for item in found] == ["redis"] * 3
    assert [item.connection for item in found] == ["main", "main", None]


def test_an_instance_inherits_nothing() -> None:
    """Not even the provider of its module."""
    source = {"cache": {"url": "redis://h", "default_ttl": 5, "instances": {"sessions": {"max_entries": 1}}}}
    found = section(source, instance="sessions")
    assert (found.provider, found.name, found.path) == ("memory", "sessions", "cache.instances.sessions")
    assert (found.options, found.portable) == ({"max_entries": 1}, CacheSettings())
    assert section({"cache": {"instances": {"s": "redis://h"}}}, instance="s").provider == "redis"


def test_a_provider_object_stands_for_itself() -> None:
    """Alone, or in a table beside portable settings."""
    kind: Any = type("Mine", (interface("cache"),), {})
    kind.__abstractmethods__ = frozenset()
    provider = kind()
    alone = section({"cache": provider})
    beside = section({"cache": {"provider": provider, "default_ttl": 5}})
    assert alone.instance is provider
    assert alone.provider is None
    assert (beside.instance, beside.portable) == (provider, CacheSettings(default_ttl=5))
    message = refused({"cache": {"provider": provider, "max_entries": 5}})
    assert message == "cache: a provider object has its options already: remove max_entries"


def test_a_provider_object_of_another_module_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it stands, before anything calls it."""
    cache_interface = type("CacheProvider", (Provider,), {})
    monkeypatch.setattr(providers, "CacheProvider", cache_interface, raising=False)
    other = type("Other", (Provider,), {"__module__": "shop"})()
    assert refused({"cache": other}) == (
        "cache: shop.Other is no cache provider: expected a class that derives from pilotis.providers.CacheProvider"
    )


@pytest.mark.parametrize("written", [int, object(), {"provider": 5}, {"provider": None}])
def test_what_is_no_provider_is_refused(written: object) -> None:
    """A class with a hint to make an object of it."""
    message = refused({"cache": written})
    hint = ". Make one: int(...)" if written is int else ""
    assert message == f"cache.provider: expected the name of a provider, or a provider object{hint}"


@pytest.mark.parametrize("written", [None, 5, True, ["redis://h"], b"redis://h"])
def test_a_section_of_another_kind_is_refused(written: object) -> None:
    """It says what can stand there."""
    expected = "expected a URL, the name of a provider, a table or a provider object"
    assert refused({"cache": written}) == f"cache: {expected}"
    assert refused({"cache": {"instances": {"s": written}}}) == f"cache.instances.s: {expected}"


@pytest.mark.parametrize("written", ["", "redis:/h:hunter2", "my cache", "-x", "hunter2@h", "memory\n"])
def test_what_is_neither_name_nor_url_is_not_shown(written: str) -> None:
    """It may be a URL with a slip of the pen, and a password in it."""
    expected = "cache: expected a URL, such as 'redis://localhost:6379/0', or the name of a provider"
    assert refused({"cache": written}) == expected


@pytest.mark.parametrize("url", ["mian", "redis:/:hunter2@h", "", "bad scheme://h", "redis://[::1"])
def test_a_url_that_is_none_lists_the_connections(url: str) -> None:
    """And says the nearest."""
    near = " Did you mean 'main'?" if url == "mian" else ""
    assert refused({"connections": {"main": "redis://h", "other": "redis://i"}, "cache": {"url": url}}) == (
        f"cache.url: expected a URL, such as 'redis://localhost:6379/0', or a name from [connections] "
        f"(there: main, other).{near}"
    )


# Parts


def test_the_outbox_and_the_ledger_have_providers() -> None:
    """Where they are configured."""
    outbox = section({"event": {"outbox": {"url": "sqlite:///a.db", "poll": 1, "table": "t"}}}, "event").outbox
    ledger = section({"notification": {"ledger": "sqlite:///b.db"}}, "notification").ledger
    assert outbox is not None
    assert (outbox.module, outbox.provider, outbox.path) == ("outbox", "sqlite", "event.outbox")
    assert (outbox.portable, outbox.options) == (OutboxSettings(poll=1), {"url": "sqlite:///a.db", "table": "t"})
    assert ledger is not None
    assert (ledger.module, ledger.provider, ledger.path) == ("ledger", "sqlite", "notification.ledger")
    assert section({}, "event").outbox is None
    assert section({}, "notification").ledger is None


def test_an_instance_has_parts_of_its_own() -> None:
    """By the same rules, at its own place."""
    source = {"event": {"instances": {"audit": {"outbox": "sqlite:///a.db"}}}}
    outbox = section(source, "event", "audit").outbox
    assert outbox is not None
    assert outbox.path == "event.instances.audit.outbox"
    assert section(source, "event").outbox is None


def test_a_channel_has_one_provider_or_several() -> None:
    """In the order in which they are tried."""
    channels = section(
        {
            "notification": {
                "sender": "shop@example.com",
                "channels": {
                    "email": [{"provider": "sendgrid", "api_key": "k", "sender": "mail@example.com"}, "local"],
                    "sms": "acme://h",
                },
            }
        },
        "notification",
    ).channels
    first, second = channels["email"]
    assert (first.provider, first.path, first.name) == ("sendgrid", "notification.channels.email[0]", "email")
    assert first.options == {"api_key": "k", "sender": "mail@example.com"}
    assert (second.provider, second.path) == ("local", "notification.channels.email[1]")
    assert [(item.provider, item.path) for item in channels["sms"]] == [("acme", "notification.channels.sms")]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"event": {"outbox": {}}}, "event.outbox: expected a provider or a url"),
        ({"notification": {"ledger": {"url": "x"}}}, "notification.ledger.url: expected a URL, such as"),
        ({"notification": {"channels": {"email": {}}}}, "notification.channels.email: expected a provider or a url"),
        (
            {"notification": {"channels": {"email": ["local", 5]}}},
            "notification.channels.email[1]: expected a URL, the",
        ),
        ({"notification": {"channels": "local"}}, "notification.channels: expected a table"),
        ({"cache": {"instances": ["a"]}}, "cache.instances: expected a table"),
        ({"cache": {"instances": {"default": {}}}}, "cache.instances.default: the default instance is [cache] itself"),
        ({"cache": {"instances": {"a.b": {}}}}, "cache.instances: 'a.b' cannot be a name here: expected 1 to 64"),
        ({"cache": {"instances": {"": {}}}}, "cache.instances: '' cannot be a name here"),
        ({"connections": {"main": "localhost"}}, "connections.main: expected a URL, such as"),
        ({"connections": {"main": 5}}, "connections.main: expected text, got int"),
        ({"connections": "redis://h"}, "connections: expected a table"),
        ({"cache": {5: 1}}, "cache: expected names that are text, got int"),
    ],
)
def test_an_error_in_a_part_has_its_place(source: dict[str, Any], message: str) -> None:
    """Down to the entry of a list."""
    assert refused(source).startswith(message)


# Portable settings and settings of the app


def test_the_settings_of_the_app() -> None:
    """Each with its type."""
    settings = load(
        {"name": "shop-1", "app": "shop.main:app", "include": ["shop.a"], "role": "emit", "blocking_in_loop": "thread"}
    )
    assert (settings.name, settings.app, settings.include) == ("shop-1", "shop.main:app", ["shop.a"])
    assert (settings.role, settings.blocking_in_loop) == ("emit", "thread")


@pytest.mark.parametrize("value", [timedelta(minutes=1), 60, 60.0])
def test_a_duration_is_seconds_or_a_timedelta(value: object) -> None:
    """As everywhere."""
    assert section({"cache": {"default_ttl": value}}).portable == CacheSettings(default_ttl=60)


@pytest.mark.parametrize("value", [None, "never"])
def test_no_limit_is_none_or_never(value: object) -> None:
    """TOML has no None. Where there must be a limit, neither will do."""
    assert section({"cache": {"default_ttl": value}}).portable == CacheSettings(default_ttl=None)
    assert refused({"locking": {"ttl": value}}).startswith("locking.ttl: expected a number from 0")


@pytest.mark.parametrize(
    ("value", "backoff"),
    [
        (5, Backoff.fixed(5)),
        (timedelta(seconds=5), Backoff.fixed(5)),
        (Backoff.exponential(1, jitter=0.5), Backoff.exponential(1, jitter=0.5)),
        ({"first": 1, "factor": 3, "maximum": 9}, Backoff(1, 3, 9)),
    ],
)
def test_a_backoff_is_seconds_a_table_or_an_object(value: object, backoff: Backoff) -> None:
    """Whatever suits."""
    assert section({"event": {"backoff": value}}, "event").portable == EventSettings(backoff=backoff)


def test_a_directory_is_text_or_a_path() -> None:
    """The templates."""
    for written in ("templates/", Path("templates")):
        found = section({"notification": {"templates": written}}, "notification").portable
        assert found == NotificationSettings(templates=Path("templates"))


def test_every_module_takes_required_capabilities() -> None:
    """By their names."""
    found = section({"locking": {"require": ["cross_process"]}}, "locking").portable
    assert found == LockingSettings(require=["cross_process"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"cahce": {}}, "cahce: there is no such setting. Did you mean 'cache'?"),
        ({"xyzzy": 1}, "xyzzy: there is no such setting. Expected one of: app, blocking_in_loop, cache, connections,"),
        ({"name": 5}, "name: expected text or nothing, got int"),
        ({"name": ""}, "name: expected 1 to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit"),
        ({"name": "a b"}, "name: expected 1 to 64"),
        ({"name": "a" * 65}, "name: expected 1 to 64"),
        ({"name": "shop\n"}, "name: expected 1 to 64"),
        ({"role": "wrok"}, "role: expected 'all' or 'emit' or 'work', got another text"),
        ({"include": "shop.handlers"}, "include: expected a list of text, got another text"),
        ({"include": ["a", 5]}, "include[1]: expected str, got int"),
        ({"blocking_in_loop": True}, "blocking_in_loop: expected 'error' or 'thread', got bool"),
        ({"cache": {"default_ttl": "60"}}, "cache.default_ttl: expected a number from 0 up to "),
        ({"cache": {"default_ttl": -1}}, "cache.default_ttl: expected a number from 0 up to "),
        ({"cache": {"default_ttl": True}}, "cache.default_ttl: expected a number from 0 up to "),
        ({"cache": {"default_ttl": float("nan")}}, "cache.default_ttl: expected a number from 0 up to "),
        ({"cache": {"default_ttl": float("inf")}}, "cache.default_ttl: expected a number from 0 up to "),
        ({"cache": {"default_ttl": timedelta(-1)}}, "cache.default_ttl: expected a number from 0 up to "),
        ({"cache": {"on_error": "mis"}}, "cache.on_error: expected 'miss' or 'raise', got another text"),
        (
            {"cache": {"max_value_bytes": 0}},
            "cache.max_value_bytes: expected a whole number from 1 or nothing, got int",
        ),
        ({"cache": {"require": "tags"}}, "cache.require: expected a list of text, got another text"),
        ({"event": {"attempts": 1.5}}, "event.attempts: expected a whole number from 1, got float"),
        ({"event": {"backoff": "5"}}, "event.backoff: expected a number, got another text"),
        ({"event": {"backoff": -1}}, "event.backoff: "),
        ({"event": {"backoff": {"frist": 1}}}, "event.backoff.frist: there is no such setting. Did you mean 'first'?"),
        ({"event": {"backoff": {}}}, "event.backoff.first: is missing: expected a number"),
        ({"event": {"backoff": {"first": 5, "maximum": 1}}}, "event.backoff: "),
        ({"locking": {"instances": {"a": {"ttl": "x"}}}}, "locking.instances.a.ttl: expected a number from 0"),
    ],
)
def test_an_error_says_place_expectation_and_nearest_name(source: dict[str, Any], message: str) -> None:
    """And never the value."""
    assert refused(source).startswith(message)


def test_text_that_cannot_be_encoded_is_refused() -> None:
    """With its place, as any other wrong value."""
    assert "cache.default_ttl: expected" in refused({"cache": {"default_ttl": "\ud800"}})
