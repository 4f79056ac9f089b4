"""What `find` is asked, checked."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import datetime
from typing import cast

from pilotis.errors import InvalidInputError
from pilotis.keys import check_text
from pilotis.modules.notification.checking import check_resource
from pilotis.modules.notification.ledger import LedgerQuery
from pilotis.modules.notification.model import STATUSES, Status


def as_query(
    *, now: float, status: object, to: object, channel: object, resource: object, since: object, limit: object
) -> LedgerQuery:
    """Return the query for the arguments of `find`. Raises `InvalidInputError` naming the one that is wrong."""
    return LedgerQuery(
        now=now,
        statuses=None if status is None else _statuses(status),
        to=None if to is None else check_text(to, "to"),
        channel=None if channel is None else check_text(channel, "channel"),
        resource=None if resource is None else check_resource(resource),
        since=None if since is None else _since(since),
        limit=None if limit is None else _limit(limit),
    )


def _statuses(status: object) -> tuple[Status, ...]:
    if not isinstance(status, Iterable):
        raise InvalidInputError(f"status: expected a status or several, got {type(status).__name__}")
    asked = (status,) if isinstance(status, str) else tuple(cast("Iterable[object]", status))
    for name in asked:
        if name not in STATUSES:
            near = difflib.get_close_matches(str(name), STATUSES, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(STATUSES)}"
            raise InvalidInputError(f"status: there is no status {name!r}; {hint}")
    return tuple(known for known in STATUSES if known in asked)


def _since(since: object) -> datetime:
    if not isinstance(since, datetime) or since.tzinfo is None:
        raise InvalidInputError("since: expected a datetime with a time zone, such as datetime.now(UTC)")
    return since


def _limit(limit: object) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise InvalidInputError(f"limit: expected 1 or more, or None for all, got {limit!r}")
    return limit
