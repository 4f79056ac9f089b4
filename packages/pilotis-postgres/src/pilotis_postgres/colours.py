"""psycopg's two colours behind one `await`."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any


async def settled(result: Any) -> Any:
    """Return what a blocking method returned, or await what its twin did."""
    return await result if inspect.iscoroutine(result) else result


@asynccontextmanager
async def entered(manager: Any) -> AsyncGenerator[Any]:
    """Enter a context manager of either colour."""
    if hasattr(manager, "__aenter__"):
        async with manager as inner:
            yield inner
    else:
        with manager as inner:
            yield inner
