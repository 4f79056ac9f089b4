"""Secrets never show in a repr, a text or an error."""

from __future__ import annotations

import contextlib
import string
import traceback
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilotis.errors import ConfigurationError
from pilotis.settings import Masked, Secret, Settings, convert_options, load, mask_text, mask_url
from pilotis.settings.secrets import mask_urls, mask_value


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://:pw@h:1/0", "redis://:***@h:1/0"),
        ("redis://user:pw@h:1/0", "redis://user:***@h:1/0"),
        ("redis://h:1/0", "redis://h:1/0"),
        ("postgresql://shop@localhost/shop", "postgresql://shop@localhost/shop"),
        ("redis://:p@ss/w?rd#x@h:1/0", "redis://:***@h:1/0"),
        ("redis://h/0?password=pw&db=1", "redis://h/0?password=***&db=1"),
        (
            "s3://b?aws_secret_access_key=a&API_TOKEN=b;key=c#d",
            "s3://b?aws_secret_access_key=***&API_TOKEN=***;key=***#d",
        ),
        ("redis://h/0?password=a@b", "redis://h/0?password=***"),
        ("redis://u:p@h/0?secret=x@y", "redis://u:***"),
        ("redis+sentinel://:pw@a:1,b:2/main", "redis+sentinel://:***@a:1,b:2/main"),
        ("redis://:pw@h/0?token=t", "redis://:***@h/0?token=***"),
        ("user:pw@h:11211", "user:***@h:11211"),
        ("localhost:11211", "localhost:11211"),
        ("memory://", "memory://"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, masked: str) -> None:
    """Host, path and user stay, so that people know which it is."""
    assert mask_url(url) == masked


@given(st.text(max_size=8), st.text(max_size=8), st.sampled_from(["", "?token=t", "?a=b@c&key=k", "/0#x@y"]))
def test_no_part_of_a_password_is_shown(before: str, after: str, rest: str) -> None:
    """Whatever characters stand around it, encoded or not."""
    assert "hunter2" not in mask_url(f"redis://user:{before}hunter2{after}@h:6379{rest}")


@given(st.text(max_size=8), st.sampled_from(["", "u@", "u:p@"]))
def test_no_part_of_a_secret_parameter_is_shown(before: str, user: str) -> None:
    """Up to the next parameter."""
    value = f"{before}hunter2".replace("&", "").replace(";", "").replace("#", "")
    assert "hunter2" not in mask_url(f"redis://{user}h:6379/0?db=1&api_key={value}&x=y")


def test_text_that_is_no_url_is_not_shown() -> None:
    """Nobody can tell what it is."""
    assert mask_text("hunter2") == "***"
    assert mask_text("redis://:pw@h") == "redis://:***@h"


def test_a_secret_is_text_that_does_not_show() -> None:
    """An SDK can use it as it is."""
    secret = Secret("hunter2")
    assert repr(secret) == "'***'"
    assert repr([secret, {"k": secret}]) == "['***', {'k': '***'}]"
    assert secret == "hunter2"
    assert f"Bearer {secret}" == "Bearer hunter2"
    assert repr(Secret("redis://:pw@h")) == "'redis://:***@h'"


def test_a_masked_dict_shows_names_and_numbers() -> None:
    """Which is what helps when something is wrong."""
    masked = Masked(url="redis://:pw@h", size=5, on=True, none=None, api_key="k", nested={"token": "t"}, items=["a"])
    assert repr(masked) == (
        "{'url': 'redis://:***@h', 'size': 5, 'on': True, 'none': None, 'api_key': '***', 'nested': '***', "
        "'items': '***'}"
    )


class Options(msgspec.Struct, kw_only=True):
    """Options of a provider that refuses much."""

    count: int = 0
    api_key: Secret = Secret("")
    mode: str = ""

    def __post_init__(self) -> None:
        if self.mode:
            msg = "the mode is not known"
            raise ValueError(msg)


secrets = st.text(string.ascii_letters + string.digits, min_size=12, max_size=30).map(lambda text: f"zq{text}qz")
# Options, and portable settings that are no free text. Those that are (`require`, `namespace`, `sender`) are names.
NAMES = ["api_key", "count", "mode", "password", "root", "near", "default_ttl", "on_error", "max_value_bytes"]
SHAPES: list[Callable[[str], object]] = [
    lambda secret: secret,
    lambda secret: [secret],
    lambda secret: {"inner": secret},
    lambda secret: {"inner": [secret]},
    lambda secret: f"redis://:{secret}@h",
    lambda secret: f"redis://u:{secret}@h/0?token={secret}",
    lambda secret: f"${{{secret}",
    lambda secret: f"${{ABSENT:-{secret}}}",
]
PLACES: list[Callable[[dict[str, object]], dict[str, Any]]] = [
    lambda options: {"cache": options},
    lambda options: {"cache": {"instances": {"sessions": options}}},
    lambda options: {"event": {"outbox": {"provider": "sqlite", **options}}},
    lambda options: {"notification": {"channels": {"email": [{"provider": "sendgrid", **options}]}}},
]


def seen(error: BaseException) -> str:
    """Return everything that a log would show of an error."""
    return "".join(traceback.format_exception(error)) + repr(error) + str(error)


def everything(settings: Settings) -> list[Any]:
    """Return every provider's settings."""
    modules = [item for instances in settings.modules.values() for item in instances.values()]
    parts = [item.outbox for item in modules if item.outbox]
    return modules + parts + [item for module in modules for chain in module.channels.values() for item in chain]


def shown_of(source: dict[str, Any], env: dict[str, str] | None = None) -> str:
    """Return what loading and converting shows, whether it works or not."""
    shown: list[str] = []
    try:
        settings = load(source, env=env)
    except ConfigurationError as error:
        return seen(error)
    shown.append(f"{settings} {settings!r} {settings.connections}")
    for item in everything(settings):
        shown.append(f"{item} {item!r} {item.options} {item.options!r}")
        with contextlib.suppress(ConfigurationError):
            shown.append(repr(convert_options({"api_key": item.options.get("api_key", "")}, Options, item.path)))
        try:
            convert_options(item.options, Options, item.path)
        except ConfigurationError as error:
            shown.append(seen(error))
    return "\n".join(shown)


@given(secrets, st.sampled_from(NAMES), st.sampled_from(SHAPES), st.sampled_from(PLACES))
def test_a_secret_in_any_option_is_never_shown(
    secret: str, name: str, shape: Callable[[str], object], place: Callable[[dict[str, object]], dict[str, Any]]
) -> None:
    """Wherever it stands, whatever else is wrong with it."""
    assert secret not in shown_of(place({name: shape(secret)}))


@given(secrets, st.sampled_from(NAMES))
def test_a_secret_in_the_environment_is_never_shown(secret: str, name: str) -> None:
    """Of the variable only its name is."""
    assert secret not in shown_of({}, {f"PILOTIS_CACHE__{name.upper()}": secret})
    assert secret not in shown_of({}, {f"PILOTIS_CACHE__{name.upper()}": f"{{{secret}"})
    assert secret not in shown_of({}, {"PILOTIS_CACHE": f"redis:/:{secret}@h"})


@given(secrets)
def test_the_password_of_a_url_is_never_shown(secret: str) -> None:
    """In a module, a connection, or one that is misspelt."""
    for url in (f"redis://:{secret}@h", f"redis:/:{secret}@h", f"redis//:{secret}@h", f"red is://:{secret}@h"):
        assert secret not in shown_of({"cache": url})
        assert secret not in shown_of({"cache": {"url": url}})
        assert secret not in shown_of({"connections": {"main": url}, "cache": {"url": "main"}})


def test_a_message_keeps_its_words_and_loses_the_secrets_of_its_urls() -> None:
    """Drivers put the address that they were given into what they raise."""
    message = "cannot reach redis://shop:hunter2@h:1/0, nor https://h/?token=hunter2: it is 12:30, user@example.com"
    masked = "cannot reach redis://shop:***@h:1/0, nor https://h/?token=*** it is 12:30, user@example.com"
    assert mask_urls(message) == masked


@pytest.mark.parametrize(("value", "shown"), [(3, 3), (None, None), (True, True), ("x", "***"), (["x"], "***")])
def test_of_a_value_numbers_may_be_shown(value: object, shown: object) -> None:
    """Anything else could hold a secret."""
    assert mask_value(value) == shown
