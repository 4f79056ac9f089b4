"""What can be set about a connection to Redis, the same for every provider on it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
from pilotis.durations import seconds
from pilotis.errors import InvalidInputError
from pilotis.settings.secrets import Secret

from pilotis_redis.addresses import Address, read_address


class RedisOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of a provider on Redis. Durations are seconds.

    Raises `InvalidInputError` for a URL that cannot be one, for numbers out of range and for files that are not there.
    """

    url: str = "redis://localhost:6379/0"
    """redis://, rediss:// (TLS), unix://, redis+sentinel:// or redis+cluster://; user and password may be in it."""
    username: str | None = None
    """Instead of the one in the URL."""
    password: Secret | None = None
    """Instead of the one in the URL."""
    sentinel_username: str | None = None
    sentinel_password: Secret | None = None
    """What the sentinels themselves ask for."""
    tls: bool = False
    """Whether sentinels' and clusters' servers are spoken to over TLS. `rediss://` says so by itself."""
    tls_verify: bool = True
    """Whether the server must show a certificate that is valid and in its name."""
    tls_ca: Path | None = None
    """The certificates to trust; the system's without it."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    """This client's own certificate and its key."""
    max_connections: int = 50
    """Of a process, and of each event loop in it. Who finds all in use waits for one, up to `timeout`."""
    timeout: float = 5
    """How long an answer may take."""
    connect_timeout: float = 3
    reconnects: int = 2
    """How often connecting is tried again, with a growing pause, before a command fails. No command is sent twice."""
    protocol: Literal[2, 3] = 2
    """The version of the Redis serialization protocol."""
    client_name: str | None = None
    """What `CLIENT LIST` shows."""

    def __post_init__(self) -> None:
        read_address(self.url)
        msgspec.structs.force_setattr(self, "url", Secret(self.url))  # its password shows in no repr
        for name in ("timeout", "connect_timeout"):
            seconds(getattr(self, name), name, minimum=0.001)
        for name, least in (("max_connections", 1), ("reconnects", 0)):
            if getattr(self, name) < least:
                raise InvalidInputError(f"{name}: expected {least} or more, got {getattr(self, name)}")
        self._check_files()

    def _check_files(self) -> None:
        """Raise for a file that is not there: the error of TLS would not say which."""
        for name in ("tls_ca", "tls_cert", "tls_key"):
            file: Path | None = getattr(self, name)
            if file is not None and not file.is_file():
                raise InvalidInputError(f"{name}: expected a file, and there is none at {file}")
        if self.tls_key is not None and self.tls_cert is None:
            raise InvalidInputError("tls_cert: expected the certificate that belongs to tls_key")

    @property
    def address(self) -> Address:
        """Where the server is, with the user and password that count."""
        address = read_address(self.url)
        return msgspec.structs.replace(
            address,
            username=self.username or address.username,
            password=self.password or address.password,
        )

    @property
    def is_tls(self) -> bool:
        return self.tls or self.url.startswith("rediss:")
