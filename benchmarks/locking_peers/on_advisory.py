"""Advisory locks of PostgreSQL and nothing else: the limit."""

from __future__ import annotations

import zlib

import psycopg
from contest import main


class AdvisoryLock:
    """An advisory lock of a connection of its own."""

    def __init__(self, url: str, key: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._key = zlib.crc32(key.encode())

    def acquire(self) -> None:
        self._connection.execute("SELECT pg_advisory_lock(%s)", (self._key,))

    def release(self) -> None:
        self._connection.execute("SELECT pg_advisory_unlock(%s)", (self._key,))


if __name__ == "__main__":
    main(AdvisoryLock)
