"""What several providers of an app use together, such as the connections to one server."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """A thing, and the providers that have it open: whoever is the last to leave closes the thing.

    It must be of use again after it was closed, because somebody may come later.
    """

    def __init__(self, thing: T) -> None:
        self.thing = thing
        self._users: set[object] = set()

    def join(self, user: object) -> None:
        """Have it open. Joining twice is joining once."""
        self._users.add(user)

    def leave(self, user: object) -> bool:
        """Be done with it, also where one never joined, and tell whether nobody has it open now."""
        self._users.discard(user)
        return not self._users
