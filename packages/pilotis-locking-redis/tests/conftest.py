"""What tests of locks in Redis share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pilotis.bridge import drive
from pilotis.providers import Context, LockRequest
from pilotis_locking_redis import RedisLocks, RedisLocksOptions
from pilotis_redis import RedisLink, Script
from pilotis_testing.clock import ManualClock

SHEBANG = "#!"

STILL = """
local moment, real = {moment}, redis
local redis = setmetatable({{
    call = function(...) return select(1, ...) == 'TIME' and moment or real.call(...) end,
}}, {{__index = real}})
"""
"""Stands before a script, for which time stands still."""


def with_before(script: Script, lua: str) -> Script:
    """Return a script that begins with some more Lua, behind the line of its flags."""
    flags, _, rest = script.source.partition("\n") if script.source.startswith(SHEBANG) else ("", "", script.source)
    source = "\n".join(filter(None, (flags, lua, rest)))
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


@pytest.fixture
def hold_shortly(redis_url: str) -> Iterator[Callable[..., None]]:
    """What has somebody of the app "shop" hold keys so shortly that it may be over before he knows of it."""
    provider = RedisLocks(RedisLocksOptions(url=redis_url))
    provider.context = Context(name="shop")

    def hold(*keys: str, ttl: float = 0.01, owner: str = "somebody") -> None:
        drive(provider.acquire(LockRequest(keys=keys, owner=owner, ttl=ttl)))

    yield hold
    drive(provider.close())
    provider.context.runtime.stop()


@pytest.fixture
def precede() -> Callable[[Script, str], Script]:
    """What puts Lua before a script."""
    return with_before


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> None:
    """Have scripts take the time from the clock, whatever the server's is: a slow machine changes nothing."""

    def stilled(script: Script) -> Script:
        moment = round(clock.time() * 1e6)
        return with_before(script, STILL.format(moment=f"{{{moment // 1_000_000}, {moment % 1_000_000}}}"))

    for verb in ("script", "script_each"):
        monkeypatch.setattr(RedisLink, verb, _with(stilled, getattr(RedisLink, verb)))


def _with(changed: Callable[[Script], Script], run: Callable[..., Any]) -> Callable[..., Any]:
    async def run_changed(link: RedisLink, script: Script, *arguments: Any) -> Any:
        return await run(link, changed(script), *arguments)

    return run_changed
