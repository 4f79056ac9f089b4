"""Processes that are killed and paused inside of critical sections, on a Redis that is restarted and cut off."""

from __future__ import annotations

from pathlib import Path

import pytest
from pilotis_testing.chaos import FULL, size
from pilotis_testing.locking_chaos import battle
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer

pytestmark = [pytest.mark.campaign, pytest.mark.slow, pytest.mark.timeout(3600 if FULL else 180)]


def test_critical_sections_exclude_one_another(tmp_path: Path, own_redis: RedisServer) -> None:
    """Whatever becomes of their processes, and of a Redis that forgets all when it restarts."""

    def cut() -> None:
        tell(own_redis.url, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def cut_listeners() -> None:
        tell(own_redis.url, "CLIENT", "KILL", "TYPE", "pubsub")

    happenings = [own_redis.restart, cut, cut_listeners] * size(1, 10)
    with battle(tmp_path, {"url": own_redis.url, "ttl": 1}) as fight:
        fight.win(sections=size(300, 20_000), kills=size(2, 40), pauses=size(2, 40), others=happenings)
