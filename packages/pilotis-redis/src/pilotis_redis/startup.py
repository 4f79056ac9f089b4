"""What is looked at before a Redis is relied on."""

from __future__ import annotations

import enum
import logging
import re
from typing import TYPE_CHECKING, Any

from pilotis.errors import OperationError
from redis.exceptions import NoPermissionError

if TYPE_CHECKING:
    from pilotis_redis.link import RedisLink

logger = logging.getLogger("pilotis.redis")

OLDEST = (7, 0)


class Eviction(enum.Enum):
    """What it would mean if Redis dropped keys when its memory is full."""

    WELCOME = enum.auto()
    """The data can be had again, and refusing writes would be worse."""
    HARMFUL = enum.auto()
    """The data are lost."""


async def check(link: RedisLink, eviction: Eviction) -> None:
    """Raise unless the server answers, lets us in and is new enough; warn of a `maxmemory-policy` that does not fit."""
    try:
        facts = await link.info()
    except NoPermissionError:
        logger.info("%s does not allow INFO: its version and maxmemory-policy are not known", link.address)
        return
    _check_version(facts, link.address)
    _check_policy(facts, eviction, link.address)


def _check_version(facts: dict[str, Any], address: str) -> None:
    if facts.get("redis_mode") == "sentinel":
        raise OperationError(f"{address} is a sentinel, no server; write redis+sentinel://host:port/service")
    version = str(facts.get("redis_version", ""))
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is not None and (int(numbers[1]), int(numbers[2])) < OLDEST:
        raise OperationError(f"expected Redis 7.0 or newer at {address}, got {version}; upgrade the server")


def _check_policy(facts: dict[str, Any], eviction: Eviction, address: str) -> None:
    policy = str(facts.get("maxmemory_policy", ""))
    if not policy or not facts.get("maxmemory"):
        return
    if eviction is Eviction.WELCOME and policy == "noeviction":
        logger.warning(
            "%s refuses writes when its memory is full (maxmemory-policy noeviction); for a cache set allkeys-lru",
            address,
        )
    elif eviction is Eviction.HARMFUL and policy != "noeviction":
        logger.warning(
            "%s drops keys when its memory is full (maxmemory-policy %s), and with them what must not be lost; "
            "set noeviction",
            address,
            policy,
        )
