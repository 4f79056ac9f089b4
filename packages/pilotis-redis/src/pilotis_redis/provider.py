"""The base of every provider on Redis."""

from __future__ import annotations

from collections.abc import Hashable, MutableMapping
from typing import Any, ClassVar, Literal

from pilotis.errors import OperationError
from pilotis.providers import Provider, Shared

from pilotis_redis.faults import classify, is_lost
from pilotis_redis.link import RedisLink
from pilotis_redis.options import RedisOptions
from pilotis_redis.startup import Eviction, check


class RedisBacked(Provider):
    """Life cycle, errors and address. A provider derives from this first, and from its module's interface next."""

    Options = RedisOptions
    shared = True
    eviction: ClassVar[Eviction] = Eviction.HARMFUL
    """What it means for this provider's data if Redis drops keys."""

    def __init__(self, options: RedisOptions | None = None, *, client: Any = None, async_client: Any = None) -> None:
        super().__init__(options, client=client, async_client=async_client)
        self._use(Shared(RedisLink(self.options, client=client, async_client=async_client)))

    @property
    def address(self) -> str:
        return self.link.address

    def share(self, shared: MutableMapping[Hashable, Shared[Any]], connection: str) -> None:
        """Use the connections of every provider on Redis that names the same, and has the same options of them."""
        options = (getattr(self.options, field) for field in RedisOptions.__struct_fields__)
        self._use(shared.setdefault(("redis", connection, *options), self._shared))

    async def open(self) -> None:
        self._shared.join(self)
        await check(self.link, self.eviction)

    async def ping(self) -> None:
        await self.link.execute("PING")

    async def close(self) -> None:
        if self._shared.leave(self):
            await self.link.close()

    def classify(self, error: Exception) -> type[OperationError] | None:
        return classify(error) or super().classify(error)

    def outcome(self, error: Exception) -> Literal["unknown"] | None:
        return "unknown" if is_lost(error) else None

    def native(self, kind: type) -> object | None:
        return self.link.native(kind)

    def _use(self, shared: Shared[RedisLink]) -> None:
        self._shared = shared
        self.link = shared.thing
