# /// script
# requires-python = ">=3.11"
# dependencies = ["tooz", "redis[hiredis]", "psycopg2-binary", "setuptools<81"]
# ///
"""tooz, on whatever the URL names."""

from __future__ import annotations

import uuid

from contest import Lock, main
from tooz import coordination


def make(url: str, key: str) -> Lock:
    coordinator = coordination.get_coordinator(url, uuid.uuid4().bytes)
    coordinator.start()
    return coordinator.get_lock(key.encode())


if __name__ == "__main__":
    main(make)
