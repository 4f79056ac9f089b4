# /// script
# requires-python = ">=3.11"
# dependencies = ["redis[hiredis]"]
# ///
"""redis-py's own lock."""

from __future__ import annotations

from contest import Lock, main
from redis import Redis


def make(url: str, key: str) -> Lock:
    return Redis.from_url(url).lock(key, timeout=30)


if __name__ == "__main__":
    main(make)
