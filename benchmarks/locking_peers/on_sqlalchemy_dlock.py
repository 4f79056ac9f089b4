# /// script
# requires-python = ">=3.11"
# dependencies = ["sqlalchemy-dlock", "sqlalchemy>=2", "psycopg[binary]>=3"]
# ///
"""sqlalchemy-dlock on PostgreSQL: advisory locks of a session."""

from __future__ import annotations

from contest import Lock, main
from sqlalchemy import create_engine
from sqlalchemy_dlock import create_sadlock


def make(url: str, key: str) -> Lock:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    return create_sadlock(engine.connect(), key)


if __name__ == "__main__":
    main(make)
