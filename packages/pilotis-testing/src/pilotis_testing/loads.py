"""A cache under load while something happens to its backend."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from pilotis.errors import ConnectionFailedError, OperationError

from pilotis_testing.colours import together

CALLERS = 6
AFTERWARDS = 0.05
"""Seconds for which the load goes on."""


async def under_load(cache: Any, happen: Callable[[], object]) -> list[object]:
    """Have several callers use the cache of `Colour.voice` until some time after `happen()`; return what was wrong.

    Reads may miss and writes may drop. A wrong value, and any error but a lost connection where that is to be told,
    is wrong.
    """
    is_over, begun = threading.Event(), threading.Event()
    wrong: list[object] = []

    async def load() -> None:
        while not is_over.is_set():
            wrong.extend(await _used(cache))
            begun.set()

    def interfere() -> None:
        begun.wait(5)
        happen()
        time.sleep(AFTERWARDS)
        is_over.set()

    interfering = threading.Thread(target=interfere)
    interfering.start()
    await together(*[load] * CALLERS)
    interfering.join()
    return wrong


async def _used(cache: Any) -> list[object]:
    """Use the cache once, in several ways, and return what was wrong."""
    await cache.set("k", 1, tags=["t"])
    wrong: list[object] = [value for value in (await cache.get_many(["k", "none"])).values() if value != 1]
    if (computed := await cache.get_or_set("computed", lambda: 7)) != 7:
        wrong.append(computed)
    try:
        await cache.increment("n", ttl=60)
        await cache.invalidate("k*")
    except OperationError as error:
        wrong.extend([] if isinstance(error, ConnectionFailedError) else [error])
    return wrong
