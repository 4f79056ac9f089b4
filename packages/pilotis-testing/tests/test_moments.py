"""Each wait is struck at, in both colours, and work that cannot be struck is no proof."""

from __future__ import annotations

import pytest
from pilotis.bridge import pause
from pilotis.providers import finish
from pilotis_testing import Colour
from pilotis_testing.moments import Moments, struck_at

MOMENT = 1e-6


class Work:
    """Waits three times, once more to clean up, and writes down how far it came."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    async def do(self) -> None:
        try:
            for number in range(3):
                await pause(MOMENT)
                self.steps.append(str(number))
        finally:
            await finish(self.clean_up())

    async def clean_up(self) -> None:
        await pause(MOMENT)
        self.steps.append("clean")


async def test_every_wait_is_struck_at(colour: Colour) -> None:
    """In order; what cleans up does so; and it ends with a run that was not struck."""
    seen: list[list[str]] = []
    moments = Moments()
    for moment in moments:
        work = Work()
        moments.note(await struck_at(moment, work.do()))
        seen.append(work.steps)
    assert ["clean"] == seen[0]
    assert ["0", "1", "2", "clean"] == seen[-1]
    assert sorted(seen, key=len) == seen
    assert len(seen) == moments.tried + 1


async def test_moments_are_tried_over_again(colour: Colour) -> None:
    """Until there were so many tries, and in whole rounds."""
    once, often = Moments(), Moments(tries=20)
    for moments in (once, often):
        for moment in moments:
            moments.note(await struck_at(moment, pause(MOMENT)))
    assert often.tried >= 20
    assert 0 == often.tried % once.tried


async def test_work_that_never_waits_is_no_proof(colour: Colour) -> None:
    """Nor is work that never ends."""

    async def nothing() -> None:
        pass

    moments = Moments()
    with pytest.raises(AssertionError, match="it never waits"):
        for moment in moments:
            moments.note(await struck_at(moment, nothing()))
    endless = Moments()
    with pytest.raises(AssertionError, match="it never ends"):
        for _ in endless:
            endless.note(True)


async def test_an_error_of_the_work_goes_on(colour: Colour) -> None:
    """Struck or not: what a clean-up raises is not taken for having been cancelled."""

    async def fails() -> None:
        try:
            await pause(MOMENT)
        finally:
            raise KeyError("mine")

    for moment in (0, 500):
        with pytest.raises(KeyError):
            await struck_at(moment, fails())
