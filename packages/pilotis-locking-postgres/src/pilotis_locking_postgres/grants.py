"""What both kinds of locks need to know, and to make."""

from __future__ import annotations

from typing import Protocol

from pilotis.context import Context
from pilotis.providers import Grant, LockRequest


class Surroundings(Protocol):
    """What the provider knows."""

    context: Context

    @property
    def namespace(self) -> str:
        """Whoever has the same one has the same locks."""
        ...

    @property
    def hears(self) -> bool:
        """Whether notifications arrive."""
        ...


def grant_of(request: LockRequest, token: int, since: float, handle: object = None) -> Grant:
    """Return the grant of a request."""
    return Grant(
        keys=request.keys,
        owner=request.owner,
        token=token,
        ttl=request.ttl,
        since=since,
        shared=request.shared,
        handle=handle,
    )
