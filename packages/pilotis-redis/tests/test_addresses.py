"""URLs of Redis: what they say, which ones are refused, and what is shown of them."""

from __future__ import annotations

import pytest
from pilotis.errors import ConfigurationError, InvalidInputError
from pilotis.settings import convert_options
from pilotis.settings.secrets import Secret
from pilotis_redis import RedisOptions
from pilotis_redis.addresses import read_address

SHOWN = {
    "redis://": "redis://localhost:6379/0",
    "redis://cache.example": "redis://cache.example:6379/0",
    "redis://:s%40crt@h:7000/3": "redis://h:7000/3",
    "rediss://ada:s@crt@h": "rediss://h:6379/0",
    "redis://[::1]:7000": "redis://[::1]:7000/0",
    "unix:///run/redis.sock": "unix:///run/redis.sock?db=0",
    "unix://:secret@/run/a%20b.sock?db=2": "unix:///run/a b.sock?db=2",
    "redis+sentinel://a,b:27000/main/2": "redis+sentinel://a:26379,b:27000/main/2",
    "redis+cluster://a:7000,b": "redis+cluster://a:7000,b:6379",
}
REFUSED = {
    "": "begins with one of redis://",
    "localhost:6379": "begins with one of redis://",
    "http://h": "begins with one of redis://",
    "redis://h:port": "expected redis://host:port/database",
    "redis://h:0": "expected redis://host:port/database",
    "redis://h:99999": "expected redis://host:port/database",
    "redis://h/zero": "expected redis://host:port/database",
    "redis://h/-1": "expected redis://host:port/database",
    "redis://h/1/2": "expected redis://host:port/database",
    "redis://a,b": "expected redis://host:port/database",
    "redis://h 1": "expected redis://host:port/database",
    "redis://[::1": "Invalid IPv6 URL",
    "redis://h#1": "expected redis://host:port/database",
    "redis://h?ssl_cert_reqs=none": "no 'ssl_cert_reqs' in a URL.*tls_verify",
    "unix://": "expected unix:///path",
    "unix:///s?db=x": "expected unix:///path",
    "redis+sentinel://h": "expected redis\\+sentinel://host:port,host:port/service",
    "redis+cluster://h/1": "expected redis\\+cluster://host:port,host:port",
}


@pytest.mark.parametrize("url", SHOWN)
def test_an_address_is_shown_without_user_and_password(url: str) -> None:
    """With the defaults that stand for what the URL leaves out."""
    assert SHOWN[url] == read_address(url).shown


def test_user_and_password_are_read() -> None:
    """With percent-escapes undone; those that stand beside the URL count instead."""
    options = RedisOptions(url="redis://ada:s%40crt%2F@h")
    assert ("ada", "s@crt/") == (options.address.username, options.address.password)
    other = RedisOptions(url="redis://ada:old@h", username="bob", password=Secret("new"))
    assert ("bob", "new") == (other.address.username, other.address.password)


@pytest.mark.parametrize("url", REFUSED)
def test_garbage_is_refused(url: str) -> None:
    """When the options are made, with the form that was expected."""
    with pytest.raises(InvalidInputError, match=f"url: .*{REFUSED[url]}"):
        RedisOptions(url=url)


@pytest.mark.parametrize("url", ["redis://:hidden@h:port", "http://:hidden@h", "redis://ada:hidden@h/x", "hidden"])
def test_errors_and_reprs_show_no_password(url: str) -> None:
    """Whatever else is wrong with the URL."""
    with pytest.raises(InvalidInputError) as caught:
        RedisOptions(url=url)
    assert "hidden" not in str(caught.value)
    assert "hidden" not in repr(RedisOptions(url="redis://ada:hidden@h", password=Secret("hidden")))


def test_settings_tell_where_a_bad_url_stands() -> None:
    """The place in the settings, without the password."""
    with pytest.raises(ConfigurationError, match=r"^cache: url: expected redis://host") as caught:
        convert_options({"url": "redis://:hidden@h:port"}, RedisOptions, "cache")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"), [("timeout", 0), ("connect_timeout", -1), ("max_connections", 0), ("reconnects", -1)]
)
def test_numbers_out_of_range_are_refused(name: str, value: float) -> None:
    """By name."""
    with pytest.raises(InvalidInputError, match=f"^{name}: expected"):
        RedisOptions(**{name: value})  # pyright: ignore[reportArgumentType]
