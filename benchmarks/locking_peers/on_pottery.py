# /// script
# requires-python = ">=3.11"
# dependencies = ["pottery", "redis[hiredis]"]
# ///
"""pottery's Redlock, on one Redis."""

from __future__ import annotations

from contest import Lock, main
from pottery import Redlock
from redis import Redis


def make(url: str, key: str) -> Lock:
    return Redlock(key=key, masters={Redis.from_url(url)}, auto_release_time=30)


if __name__ == "__main__":
    main(make)
