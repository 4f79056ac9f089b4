"""Where a Redis is: read from a URL, and told without its password."""

from __future__ import annotations

import re
from typing import Literal, NoReturn
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec
from pilotis.errors import InvalidInputError
from pilotis.settings.secrets import Secret, mask_url

Kind = Literal["server", "unix", "sentinel", "cluster"]

KINDS: dict[str, Kind] = {
    "redis": "server",
    "rediss": "server",
    "unix": "unix",
    "redis+sentinel": "sentinel",
    "redis+cluster": "cluster",
}
FORMS: dict[Kind, str] = {
    "server": "redis://host:port/database",
    "unix": "unix:///path/of/the.sock?db=0",
    "sentinel": "redis+sentinel://host:port,host:port/service/database",
    "cluster": "redis+cluster://host:port,host:port",
}
PORTS: dict[Kind, int] = {"server": 6379, "unix": 0, "sentinel": 26379, "cluster": 6379}

_NODE = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.%]+)\]|(?P<host>[^\s:,@/\[\]]+))(?::(?P<port>\d{1,5}))?")


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """One server, a socket of one, the sentinels that know a master, or some nodes of a cluster."""

    kind: Kind
    scheme: str
    nodes: tuple[tuple[str, int], ...] = ()
    path: str = ""
    """Of a socket."""
    service: str = ""
    """What sentinels call the master."""
    database: int = 0
    username: str | None = None
    password: Secret | None = None

    @property
    def shown(self) -> str:
        """For messages: without user and password."""
        if self.kind == "unix":
            return f"unix://{self.path}?db={self.database}"
        nodes = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.nodes)
        service = f"/{self.service}" if self.service else ""
        database = "" if self.kind == "cluster" else f"/{self.database}"
        return f"{self.scheme}://{nodes}{service}{database}"


def read_address(url: str) -> Address:
    """Return what a URL says. Raises `InvalidInputError` that shows the form it should have, and no password."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidInputError(f"url: {error}: {mask_url(url)!r}") from None
    kind = KINDS.get(parts.scheme)
    if kind is None:
        schemes = ", ".join(f"{scheme}://" for scheme in KINDS)
        raise InvalidInputError(f"url: expected one that begins with one of {schemes}; got {_shown(url)}")
    credentials, _, place = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    service, database = _path(url, parts, kind)
    return Address(
        kind=kind,
        scheme=parts.scheme,
        nodes=() if kind == "unix" else _nodes(url, place, kind),
        path=unquote(parts.path) if kind == "unix" else "",
        service=service,
        database=database,
        username=unquote(username) or None,
        password=Secret(unquote(password)) if password else None,
    )


def _nodes(url: str, place: str, kind: Kind) -> tuple[tuple[str, int], ...]:
    nodes = tuple(_node(url, text, kind) for text in (place or "localhost").split(","))
    if kind == "server" and len(nodes) > 1:
        _refuse(url, kind)
    return nodes


def _node(url: str, text: str, kind: Kind) -> tuple[str, int]:
    found = _NODE.fullmatch(text)
    if found is None:
        _refuse(url, kind)
    port = int(found["port"] or PORTS[kind])
    if not 0 < port < 65536:
        _refuse(url, kind)
    return found["ipv6"] or unquote(found["host"]), port


def _path(url: str, parts: SplitResult, kind: Kind) -> tuple[str, int]:
    """Return the service that sentinels know, and the number of the database."""
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    database = query.pop("db", "0") if kind == "unix" else "0"
    segments = [] if kind == "unix" else [unquote(segment) for segment in parts.path.split("/") if segment]
    if query:
        raise InvalidInputError(
            f"url: there is no {min(query)!r} in a URL; options stand beside it, and with these names: "
            "timeout, connect_timeout, max_connections, protocol, tls_verify, tls_ca"
        )
    service = segments.pop(0) if kind == "sentinel" and segments else ""
    if kind in ("server", "sentinel") and segments:
        database = segments.pop(0)
    is_whole = bool(service) == (kind == "sentinel") and bool(parts.path) >= (kind == "unix")
    if segments or parts.fragment or not is_whole or not re.fullmatch(r"\d{1,9}", database, re.ASCII):
        _refuse(url, kind)
    return service, int(database)


def _refuse(url: str, kind: Kind) -> NoReturn:
    raise InvalidInputError(f"url: expected {FORMS[kind]}, got {_shown(url)}")


def _shown(url: str) -> str:
    return repr(mask_url(url)) if "://" in url else "no URL"
