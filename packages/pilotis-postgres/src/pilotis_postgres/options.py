"""What can be set about connections to PostgreSQL, the same for every provider on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
from pilotis.durations import seconds
from pilotis.errors import InvalidInputError
from pilotis.settings.secrets import Secret, mask_url

SCHEMES = ("postgresql://", "postgres://")
_FILES = {"tls_ca": "sslrootcert", "tls_cert": "sslcert", "tls_key": "sslkey"}
_KEPT_ALIVE = {"keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}
"""Seconds, and milliseconds: a peer that is gone without a word is found out within half a minute."""


class PostgresOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of a provider on PostgreSQL. Durations are seconds.

    Raises `InvalidInputError` for a URL that cannot be one, for numbers out of range and for files that are not there.
    """

    url: str = "postgresql://localhost:5432/postgres"
    """postgresql://user:password@host:port/database; several hosts and libpq's parameters may be in it."""
    user: str | None = None
    """Instead of the one in the URL."""
    password: Secret | None = None
    """Instead of the one in the URL."""
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None = None
    """Whether to speak TLS, and what the server must show. Without it, what the URL says, else `prefer`."""
    tls_ca: Path | None = None
    """The certificates to trust."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    """This client's own certificate and its key."""
    max_connections: int = 10
    """Of threads together, and of each event loop's tasks together; 2 or more. Who finds all in use waits for one."""
    timeout: float = 5
    """How long an answer may take, and how long one waits for a connection."""
    connect_timeout: int = 3
    """Whole seconds, at least 2: PostgreSQL's own library knows no finer."""
    reconnects: int = 2
    """How often connecting is tried again, with a growing pause, before a verb fails. No statement is sent twice."""
    application_name: str = "pilotis"
    """What `pg_stat_activity` shows."""

    def __post_init__(self) -> None:
        if not self.url.startswith(SCHEMES):
            raise InvalidInputError(f"url: expected postgresql://host:port/database, got {mask_url(self.url)!r}")
        msgspec.structs.force_setattr(self, "url", Secret(self.url))  # its password shows in no repr
        seconds(self.timeout, "timeout", minimum=0.001)
        for name, least in (("max_connections", 2), ("connect_timeout", 2), ("reconnects", 0)):
            if getattr(self, name) < least:
                raise InvalidInputError(f"{name}: expected {least} or more, got {getattr(self, name)}")
        self._check_files()
        self.parameters()

    def _check_files(self) -> None:
        for name in _FILES:
            file: Path | None = getattr(self, name)
            if file is not None and not file.is_file():
                raise InvalidInputError(f"{name}: expected a file, and there is none at {file}")
        if self.tls_key is not None and self.tls_cert is None:
            raise InvalidInputError("tls_cert: expected the certificate that belongs to tls_key")

    def parameters(self) -> dict[str, Any]:
        """Return libpq's parameters: those of the URL, and what is set beside it."""
        own = {name: getattr(self, name) for name in ("user", "password", "sslmode")}
        own |= {libpq: getattr(self, name) for name, libpq in _FILES.items()}
        return (
            _KEPT_ALIVE
            | {"application_name": self.application_name, "connect_timeout": self.connect_timeout}
            | _read(self.url)
            | {name: str(value) for name, value in own.items() if value is not None}
        )

    @property
    def shown(self) -> str:
        """Where the server is, without user and password: for messages."""
        facts = _read(self.url)
        hosts = str(facts.get("host", "localhost")).split(",")
        ports = str(facts.get("port", 5432)).split(",")
        ports = ports * len(hosts) if len(ports) == 1 else ports
        places = ",".join(f"{host}:{port or 5432}" for host, port in zip(hosts, ports, strict=True))
        return f"postgresql://{places}/{facts.get('dbname', '')}"


def _read(url: str) -> dict[str, Any]:
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        return dict(conninfo_to_dict(url))
    except ProgrammingError:
        pass  # its words have the password in them
    raise InvalidInputError(
        f"url: expected postgresql://user:password@host:port/database?parameter=value, got {mask_url(url)!r}; "
        f"write special characters of a password percent-encoded, and parameters as libpq names them"
    )
