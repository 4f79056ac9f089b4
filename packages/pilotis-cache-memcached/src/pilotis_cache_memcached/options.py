"""What can be set about the Memcached cache, and what its URL says."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import msgspec
from pilotis.durations import seconds
from pilotis.errors import InvalidInputError
from pilotis.settings.secrets import mask_url

PORT = 11211
FORM = "memcached://host:port,host:port"

Place = tuple[str, int]

_HIDDEN = str.maketrans("[]", "<>")
_SHOWN = str.maketrans("<>", "[]")
_SERVER = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.%]+)\]|(?P<host>[^\s:,@/\[\]]+))(?::(?P<port>\d{1,5}))?")


class MemcachedCacheOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the Memcached cache. Durations are seconds.

    Raises `InvalidInputError` for a URL that cannot be one, and for numbers out of range.
    """

    url: str = "memcached://localhost:11211"
    """One server or several. Every process must name the same ones: their names decide which has which key."""
    max_connections: int = 50
    """Of a process, to each server. Who finds all in use waits for one, up to `timeout`."""
    timeout: float = 5
    """How long an answer may take."""
    connect_timeout: float = 3

    def __post_init__(self) -> None:
        read_url(self.url)
        for name in ("timeout", "connect_timeout"):
            seconds(getattr(self, name), name, minimum=0.001)
        if self.max_connections < 1:
            raise InvalidInputError(f"max_connections: expected 1 or more, got {self.max_connections}")


def read_url(url: str) -> list[Place]:
    """Return host and port of each server. Raises `InvalidInputError` that shows the form of a URL, and no password."""
    try:
        # Some Pythons refuse brackets that do not begin the place, as in a list; the pattern below checks them.
        parts = urlsplit(url.translate(_HIDDEN))
    except ValueError as error:
        raise InvalidInputError(f"url: {error}: {mask_url(url)!r}") from None
    if "@" in parts.netloc:
        raise InvalidInputError("url: expected no user and password: servers are spoken to without signing in")
    found = [_SERVER.fullmatch(text) for text in (parts.netloc.translate(_SHOWN) or "localhost").split(",")]
    places = [(server["ipv6"] or server["host"], int(server["port"] or PORT)) for server in found if server]
    is_plain = parts.scheme == "memcached" and parts.path in ("", "/") and not (parts.query or parts.fragment)
    is_whole = len(set(places)) == len(found) and all(0 < port < 65536 for _, port in places)
    if not (is_plain and is_whole):
        raise InvalidInputError(f"url: expected {FORM}, each server once, got {mask_url(url)!r}")
    return places


def shown(places: list[Place]) -> str:
    """Return the URL of some servers, for messages."""
    return "memcached://" + ",".join(map(name_of, places))


def name_of(place: Place) -> str:
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
