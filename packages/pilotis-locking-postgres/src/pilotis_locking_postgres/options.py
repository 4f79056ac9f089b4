"""What can be set about locks in PostgreSQL."""

from __future__ import annotations

import re
from typing import Literal

from pilotis.errors import InvalidInputError
from pilotis_postgres import PostgresOptions
from pilotis_postgres.sql import check_name

Mode = Literal["transaction", "session", "table"]


class PostgresLocksOptions(PostgresOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the PostgreSQL locking provider."""

    mode: Mode = "transaction"
    """`transaction`: advisory locks that live as long as a transaction, through any pooler. `session`: advisory locks
    that live as long as a connection, without a pooler for transactions. `table`: leases in a table, with a ttl."""
    table: str = "pilotis_locks"
    """What `pilotis locks migrate` makes: the sequence of tokens `<table>_token`, and for leases `<table>` and
    `<table>_queue`. A schema may stand before it."""
    namespace: str | None = None
    """Whoever names the same one has the same locks. Without it, that is the app's name."""
    max_connections: int = 20
    """As for every provider; in the modes of advisory locks, each lock that is held or waited for has one of as many
    again to itself."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name(self.table, "table")
        if self.namespace is not None and re.fullmatch(r"[^\s\x00]{1,200}", self.namespace) is None:
            raise InvalidInputError(
                f"namespace: expected 1 to 200 characters without spaces, such as 'shop', got {self.namespace!r}"
            )
