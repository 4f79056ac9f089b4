"""Readiness: what a probe finds."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from pilotis.clock import Clock
from pilotis.modules.base import Portable


class Check(msgspec.Struct, frozen=True):
    """What a readiness probe found: `detail` is the address, or the error. `seconds` is how long it took."""

    module: str
    provider: str
    ok: bool
    detail: str
    seconds: float


async def error_of(verb: Callable[[], Coroutine[Any, Any, object]]) -> list[BaseException]:
    try:
        await verb()
    except Exception as error:
        return [error]
    return []


async def check(portable: Portable[Any], clock: Clock) -> Check:
    start = clock.monotonic()
    errors = await error_of(portable.aping)
    return Check(
        module=portable.module,
        provider=portable.provider_name,
        ok=not errors,
        detail=str(errors[0]) if errors else portable.address,
        seconds=clock.monotonic() - start,
    )
