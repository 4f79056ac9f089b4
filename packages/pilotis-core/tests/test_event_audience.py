"""Those who look on while events are emitted."""

from __future__ import annotations

from typing import Any

from pilotis.modules.event.audience import MOST_UNREAD, Audience
from pilotis.providers import OutgoingEvent
from pilotis_testing import Colour
from pilotis_testing.colours import soon, together


async def test_whoever_is_slow_misses_the_oldest(colour: Colour) -> None:
    """So many are kept for each; nobody is waited for."""
    audience, seen = Audience(), list[str]()

    async def look() -> None:
        watching = audience.watch()
        async for event in watching:
            seen.append(event.id)
            if len(seen) == MOST_UNREAD:
                break
        await watching.aclose()

    async def show() -> None:
        await soon(lambda: len(audience) == 1)
        audience.show([OutgoingEvent(str(number), "order.placed", b"") for number in range(MOST_UNREAD + 500)])

    await together(look, show)
    assert [str(number) for number in range(500, MOST_UNREAD + 500)] == seen
    assert len(audience) == 0


async def test_each_sees_all(colour: Colour) -> None:
    """Several watch side by side, each at its own pace."""
    audience, seen = Audience(), list[list[str]]()

    async def look() -> None:
        mine: list[str] = []
        seen.append(mine)
        watching = audience.watch()
        while len(mine) < 3:
            mine.append((await anext(watching)).id)
        await watching.aclose()

    async def show() -> None:
        await soon(lambda: len(audience) == 2)
        for number in range(3):
            audience.show([OutgoingEvent(str(number), "order.placed", b"")])

    actions: Any = (look, look, show)
    await together(*actions)
    assert [["0", "1", "2"]] * 2 == seen
