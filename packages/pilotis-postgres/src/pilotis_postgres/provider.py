"""The base of every provider on PostgreSQL."""

from __future__ import annotations

from collections.abc import Hashable, MutableMapping
from typing import Any, Literal

from pilotis.errors import ConfigurationError, OperationError
from pilotis.providers import Provider, Shared

from pilotis_postgres.client import Postgres
from pilotis_postgres.faults import classify, is_lost
from pilotis_postgres.options import PostgresOptions
from pilotis_postgres.startup import Facts, check


class PostgresBacked(Provider):
    """Life cycle, errors and address. A provider derives from this first, and from its module's interface next."""

    Options = PostgresOptions
    shared = True
    facts: Facts
    """What was found when it was opened."""

    def __init__(self, options: PostgresOptions | None = None, *, client: Any = None, async_client: Any = None) -> None:
        super().__init__(options, client=client, async_client=async_client)
        if client is not None or async_client is not None:
            raise ConfigurationError(
                f"{type(self).__name__} makes its own connections, and takes no client: name the server by its url"
            )
        self._use(Shared(Postgres(_connection_options(self.options))))

    @property
    def address(self) -> str:
        return self.postgres.address

    def share(self, shared: MutableMapping[Hashable, Shared[Any]], connection: str) -> None:
        """Use the connections of every provider on PostgreSQL that names the same, and has the same options of them."""
        options = (getattr(self.options, field) for field in PostgresOptions.__struct_fields__)
        self._use(shared.setdefault(("postgres", connection, *options), self._shared))

    async def open(self) -> None:
        self._shared.join(self)
        self.facts = await check(self.postgres)

    async def ping(self) -> None:
        await self.postgres.execute("SELECT 1")

    async def close(self) -> None:
        if self._shared.leave(self):
            await self.postgres.close()

    def classify(self, error: Exception) -> type[OperationError] | None:
        return classify(error) or super().classify(error)

    def outcome(self, error: Exception) -> Literal["unknown"] | None:
        return "unknown" if is_lost(error) else None

    def _use(self, shared: Shared[Postgres]) -> None:
        self._shared = shared
        self.postgres = shared.thing


def _connection_options(options: PostgresOptions) -> PostgresOptions:
    """Return the options that are about connections, without those that a provider adds."""
    return PostgresOptions(**{field: getattr(options, field) for field in PostgresOptions.__struct_fields__})
