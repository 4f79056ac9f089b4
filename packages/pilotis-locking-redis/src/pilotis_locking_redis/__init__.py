"""The Redis locking provider of Pilotis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.faces import lazily

if TYPE_CHECKING:
    from pilotis_locking_redis.provider import RedisLocks, RedisLocksOptions

__all__ = ["RedisLocks", "RedisLocksOptions"]

__getattr__ = lazily(globals(), {"pilotis_locking_redis.provider": "RedisLocks RedisLocksOptions"})
