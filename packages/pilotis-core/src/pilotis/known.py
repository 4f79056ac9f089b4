"""Which first-party distribution declares which provider: for telling what to install."""

from __future__ import annotations

_REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster")
_POSTGRES_SCHEMES = ("postgres", "postgresql")

FIRST_PARTY: dict[str, dict[str, str]] = {
    "cache": {
        "memory": "pilotis-cache-memory",
        **dict.fromkeys(_REDIS_SCHEMES, "pilotis-cache-redis"),
        "memcached": "pilotis-cache-memcached",
    },
    "event": {
        "local": "pilotis-event-local",
        **dict.fromkeys(_REDIS_SCHEMES, "pilotis-event-redis"),
    },
    "file": {"local": "pilotis-file-local", "s3": "pilotis-file-s3"},
    "locking": {
        "memory": "pilotis-locking-memory",
        **dict.fromkeys(_REDIS_SCHEMES, "pilotis-locking-redis"),
        **dict.fromkeys(_POSTGRES_SCHEMES, "pilotis-locking-postgres"),
    },
    "notification": {"local": "pilotis-notification-local", "sendgrid": "pilotis-notification-sendgrid"},
    "workflow": {
        "memory": "pilotis-workflow-memory",
        **dict.fromkeys(_REDIS_SCHEMES, "pilotis-workflow-redis"),
    },
    "outbox": {"sqlite": "pilotis-store-sqlite", **dict.fromkeys(_POSTGRES_SCHEMES, "pilotis-store-postgres")},
    "ledger": {"sqlite": "pilotis-store-sqlite", **dict.fromkeys(_POSTGRES_SCHEMES, "pilotis-store-postgres")},
}
"""Module (or the part of one that has providers of its own) to entry name to distribution."""
