"""Other settings for a while: for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.bridge import blocking

if TYPE_CHECKING:
    from pilotis.app import Pilotis


class Override:
    """An app that stands in for another until the block is left."""

    def __init__(self, app: Pilotis, stand_in: Pilotis) -> None:
        self._app = app
        self._stand_in = stand_in
        self._before: Pilotis | None = None

    @property
    def blocking_in_loop(self) -> str:
        return self._stand_in.blocking_in_loop

    async def __aenter__(self) -> Pilotis:
        await self._stand_in.__aenter__()
        self._before = self._app.divert(self._stand_in)
        return self._stand_in

    async def __aexit__(self, *error: object) -> None:
        self._app.divert(self._before)
        await self._stand_in.__aexit__()

    __enter__ = blocking(__aenter__)
    __exit__ = blocking(__aexit__)
