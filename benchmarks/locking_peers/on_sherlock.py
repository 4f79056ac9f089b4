# /// script
# requires-python = ">=3.11"
# dependencies = ["sherlock[redis]", "redis[hiredis]"]
# ///
"""sherlock."""

from __future__ import annotations

import sherlock
from contest import Lock, main
from redis import StrictRedis


def make(url: str, key: str) -> Lock:
    return sherlock.RedisLock(key, client=StrictRedis.from_url(url), expire=30, timeout=60)


if __name__ == "__main__":
    main(make)
