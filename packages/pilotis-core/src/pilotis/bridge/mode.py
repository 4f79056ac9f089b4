"""Which colour a call has: asked anew each time, never stored."""

from __future__ import annotations

import asyncio
from typing import Any

running_loop = asyncio._get_running_loop  # pyright: ignore[reportPrivateUsage]
"""Return the event loop that runs on this thread, or None: then the call is a blocking one."""

blocked_loops: set[asyncio.AbstractEventLoop] = set()
"""Loops whose thread waits in a blocking verb (`blocking_in_loop = "thread"`): nothing can run there now."""


def settle(future: asyncio.Future[Any], value: object = None) -> None:
    """Set the result of `future`, unless somebody else was first."""
    if not future.done():
        future.set_result(value)
