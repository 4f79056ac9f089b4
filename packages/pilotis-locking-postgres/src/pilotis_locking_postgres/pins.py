"""A connection that belongs to a grant."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

from pilotis.bridge import drive, on_loop, run_blocking, running_loop
from pilotis.errors import ClosedError
from pilotis_postgres.connections import is_quiet
from pilotis_postgres.pool import Pool


class Pin:
    """A connection that belongs to a grant, and where its colour can be used."""

    def __init__(self, pool: Pool, connection: Any) -> None:
        self.pool = pool
        self.connection = connection
        self.loop = running_loop()
        self._lock = threading.Lock()
        self._is_free = False

    def unpin(self) -> bool:
        """Tell whether the grant was still there; it is not any more."""
        with self._lock:
            was_free, self._is_free = self._is_free, True
        return not was_free

    def may_hold(self) -> bool:
        """Tell whether nothing speaks against it: neither was it let go, nor has the connection ended."""
        return not self._is_free and is_quiet(self.connection)

    async def at_home(self, work: Coroutine[Any, Any, bool]) -> bool:
        """Run `work` where the connection lives. A loop that has stopped cannot: then the connection is cut."""
        if self.loop is None:
            return await run_blocking(drive, work, "release")
        if self.loop.is_running():
            return await self._on_loop(self.loop, work)
        work.close()
        was_held = is_quiet(self.connection)
        self.connection.pgconn.finish()
        return was_held

    async def _on_loop(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, bool]) -> bool:
        try:
            return await on_loop(loop, work)
        except (ClosedError, RuntimeError):  # it ended meanwhile, and the connection with it
            return False
