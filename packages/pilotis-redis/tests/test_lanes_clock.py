"""A server whose clock is set back."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pilotis.bridge import pause
from pilotis_redis import RedisLink, Script
from pilotis_testing.colours import soon
from pilotis_testing.redis import tell

HOUR = 3_600
PATIENCE = 30.0

SHIFTED = """
local real = redis
local redis = setmetatable({
    call = function(command, ...)
        local reply = real.call(command, ...)
        return command == 'TIME' and {reply[1] - SECONDS, reply[2]} or reply
    end,
}, {__index = real})
"""
"""Stands before a script, and has the server's clock tell another time."""


@pytest.fixture
def set_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """What has scripts see a clock that is an hour slow, until the test is over."""

    def set_back() -> None:
        for verb in ("script", "script_each"):
            monkeypatch.setattr(RedisLink, verb, shifted(getattr(RedisLink, verb)))

    yield set_back
    monkeypatch.undo()


def shifted(run: Callable[..., Any]) -> Callable[..., Any]:
    async def run_shifted(link: RedisLink, script: Script, *arguments: Any) -> Any:
        source = SHIFTED.replace("SECONDS", str(HOUR)) + script.source
        digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        return await run(link, Script(source, digest), *arguments)

    return run_shifted


async def test_a_worker_goes_on_when_the_clock_is_set_back(
    make_hand: Callable[..., Any], redis_url: str, set_back: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps its place and what it holds. What is delayed then comes in time, what was delayed later by as much."""
    hand = make_hand(redis_url, liveness=0.5)
    await hand.declare("a")
    await hand.emit("a", "1")
    taken = await hand.take("a")
    await hand.emit("a", "late", delay=0.2)
    set_back()
    id = hand.worker.id

    def has_beaten() -> bool:
        alive_until = float(tell(redis_url, "ZSCORE", hand.lanes.keys.workers, id)) / 1000
        return alive_until < time.time() - HOUR / 2

    await soon(has_beaten, PATIENCE)
    assert [True] == await hand.settle(taken, "retry", delay=0.1)
    [again] = await hand.take("a")
    assert ("1", 1, id) == (again.head.id, again.head.attempts, again.worker)
    assert [True] == await hand.settle([again])
    await pause(0.2)  # it would be due, had the clock gone on
    assert [] == await hand.look("a")
    monkeypatch.undo()
    assert ["late"] == [entry.head.id for entry in await hand.look("a")]
