"""Entries of the ledger as rows of a table: for ledgers that keep them in a database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from pilotis.modules.notification.ledger import LedgerEntry, LedgerQuery
from pilotis.modules.notification.model import Notification

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_READER = msgspec.json.Decoder(Notification)


def ledger_row(entry: LedgerEntry) -> dict[str, Any]:
    """Return an entry as columns: the notification as JSON text, beside it what rows are found by.

    `created_at` is in microseconds since 1970. Nothing else is needed by `ledger_entry` than `notification`, `message`,
    `digest`, `version`, `leased_until` and `takeovers`.
    """
    known = entry.notification
    kind, about = known.resource or (None, None)
    return {
        "id": known.id,
        "idempotency_key": known.idempotency_key,
        "status": known.status,
        "recipient": known.to,
        "channel": known.channel,
        "resource_kind": kind,
        "resource_id": about,
        "created_at": microseconds(known.created_at),
        "notification": msgspec.json.encode(known).decode(),
        "message": entry.message,
        "digest": entry.digest,
        "version": entry.version,
        "leased_until": entry.leased_until,
        "takeovers": entry.takeovers,
    }


def ledger_entry(row: Mapping[str, Any]) -> LedgerEntry:
    """Return the entry of a row."""
    return LedgerEntry(
        notification=_READER.decode(row["notification"]),
        message=bytes(row["message"]),
        digest=row["digest"],
        version=row["version"],
        leased_until=row["leased_until"],
        takeovers=row["takeovers"],
    )


def ledger_searches(query: LedgerQuery) -> list[dict[str, Any]]:
    """Return the searches that together find what a query asks for, no entry twice: one for each status.

    Each says what the columns of a row are compared with, and has None for what it does not ask. `status` goes with
    `live_at`: rows without a lease, or one that ends later. `left_at` is for those whose lease has ended, then or
    before: they are unknown, whatever their status says.
    """
    kind, about = query.resource or (None, None)
    common = {
        "recipient": query.to,
        "channel": query.channel,
        "resource_kind": kind,
        "resource_id": about,
        "since": None if query.since is None else microseconds(query.since),
        "takeovers_below": query.takeovers_below,
        "limit": query.limit,
    }
    nothing = {"status": None, "live_at": None, "left_at": None}
    if query.statuses is None:
        return [nothing | common]
    searches = [nothing | common | {"status": status, "live_at": query.now} for status in query.statuses]
    return searches + ([nothing | common | {"left_at": query.now}] if "unknown" in query.statuses else [])


def newest_first(found: Iterable[LedgerEntry], limit: int | None) -> list[LedgerEntry]:
    """Return what several searches found as the answer of `find`."""
    return sorted(found, key=lambda entry: (entry.notification.created_at, entry.id), reverse=True)[:limit]


def microseconds(moment: datetime) -> int:
    """Return the microseconds since 1970, exactly."""
    return (moment - _EPOCH) // _MICROSECOND
