# /// script
# requires-python = ">=3.11"
# dependencies = ["python-redis-lock", "redis[hiredis]"]
# ///
"""python-redis-lock."""

from __future__ import annotations

import redis_lock
from contest import Lock, main
from redis import Redis


def make(url: str, key: str) -> Lock:
    return redis_lock.Lock(Redis.from_url(url), key, expire=30)


if __name__ == "__main__":
    main(make)
