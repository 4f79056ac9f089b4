"""The scripts touch nothing beside the keys of their namespace, in one slot, and need no more than Redis 7.0."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest
from pilotis.bridge import drive, run_blocking
from pilotis.providers import Ending, Fence, Fire, Letter, RunQuery
from pilotis_redis import RedisLink, Script
from pilotis_testing.chaos import eventually
from pilotis_testing.redis import tell
from pilotis_testing.workflow_words import BOOM, FLOWS, a_run, done, fence, known, waiting
from pilotis_workflow_redis import RedisWorkflows
from pilotis_workflow_redis.scripts import SCRIPTS
from redis.exceptions import ResponseError

SOURCES = {
    file.name.removesuffix(".lua"): file.read_text("utf-8")
    for file in files("pilotis_workflow_redis").joinpath("lua").iterdir()
}
BASE = "{pilotis:workflows:pilotis}"

WATCHED = """
local real = redis
local function watch(...)
    if select('#', ...) == 1 then
        return
    end
    local keys = real.pcall('COMMAND', 'GETKEYS', ...)
    if keys.err and not string.find(keys.err, 'no key arguments', 1, true) then
        error(keys.err .. ': ' .. ...)
    end
    for _, key in ipairs(keys.err and {} or keys) do
        if string.sub(key, 1, #KEYS[1]) ~= KEYS[1] then
            error('key ' .. key .. ' of ' .. ... .. ' is not declared')
        end
    end
end
local redis = setmetatable({
    call = function(...) watch(...) return real.call(...) end,
}, {__index = real})
"""
"""Stands before a script, and has Redis itself say which keys each command is about: they begin with that given."""

Make = Callable[..., RedisWorkflows]


def watched(script: Script) -> Script:
    source = WATCHED + script.source
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


@pytest.fixture(params=["redis_url", pytest.param("redis_cluster_url", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest) -> str:
    """A server, and a cluster."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Which scripts were run, and with what keys: all of them are watched."""
    seen: dict[str, set[str]] = {}
    run: Callable[..., Any] = RedisLink.script

    async def noted(link: RedisLink, script: Script, keys: Any, arguments: Any = ()) -> Any:
        name = next((name for name, known in SCRIPTS.items() if known is script), None)
        if name is None:  # of lanes, whose presence this is: it has tests of its own
            return await run(link, script, keys, arguments)
        seen.setdefault(name, set()).update(keys)
        return await run(link, watched(script), keys, arguments)

    monkeypatch.setattr(RedisLink, "script", noted)
    return seen


def test_scripts_touch_what_they_declare(make: Make, url: str, ran: dict[str, set[str]]) -> None:
    """Every script is run, in all its branches that matter here; the keys of all begin with one hash tag."""
    store, dying = make(url), make(url)
    drive(everything(store))
    drive(deaths(store, dying))
    assert SCRIPTS.keys() == ran.keys()
    assert {f"{BASE}:"} == {key for keys in ran.values() for key in keys}


async def everything(store: RedisWorkflows) -> None:
    """Have runs be started, claimed, written, parked, signalled, timed, compensated, cancelled, ended and listed."""
    await store.notices(None, 0)
    await store.start(a_run("parent", timeout=9.0, deadline=9e9), [done("a", 0)], Fire("s", 1.0, "skip"))
    await store.start(a_run("fire"), fire=Fire("s", 2.0, "skip"))
    mine = await claimed(store)
    await store.commit(mine, [done("b", 1)])
    child = waiting("@result", 2, signal="@child:child")
    await store.park(mine, [child, waiting("nap", 3, due=store.context.clock.time())], 9e9)
    await store.fire()
    await store.start(a_run("child", parent="parent", retention=0.0))
    await store.give_back(await claimed(store))
    for one in await store.claim("w", FLOWS, 5, 0):
        await finish(store, one.run.id, fence(one))
    await store.signal("parent", "go", Letter(b"1"), "once")
    await store.fire()
    await store.cancel("parent")
    await store.journal("parent")
    await store.find(RunQuery())


async def finish(store: RedisWorkflows, id: str, mine: Fence) -> None:
    """End the child, and set the parent going again after it was compensated."""
    if id == "child":
        await store.finish(mine, Ending(status="completed", result=b"1"))
        return
    await store.signal("parent", "go", Letter(b"1"))
    await store.park(mine, [waiting("go", 4, signal="go")], None)
    run = await store.compensate(mine, BOOM, "compensated")
    run = await store.finish(Fence(run.id, run.epoch), Ending(status="compensated", error=BOOM))
    await store.rewind("parent", run.epoch, {"a", "nap"}, 9e9)


async def claimed(store: RedisWorkflows, worker: str = "w") -> Fence:
    [one] = await store.claim(worker, FLOWS, 1, 0)
    return fence(one)


async def deaths(store: RedisWorkflows, dying: RedisWorkflows) -> None:
    """Have a worker be buried, another one die, and a run be set aside that nobody can read."""
    await dying.bury("nobody")
    await store.claim("w", {("none", "1")}, 1, 0)
    await claimed(dying, "dying")
    await store.link.execute("ZREM", f"{BASE}:w", "dying")
    await store.link.execute("XADD", f"{BASE}:news", "*", "w", "dead")
    await run_blocking(eventually, lambda: drive(known(store, "parent")).crashes == 1)
    await store.link.execute("HSET", f"{BASE}:r:parent", "made", b"\xc1")
    assert [] == await store.claim("w", FLOWS, 1, 0)
    assert "stuck" == (await known(store, "parent")).status


@pytest.mark.parametrize(
    "call", ["'GET', 'other'", "'HSET', 'x' .. KEYS[1], 'f', 'v'", "'ZADD', string.sub(KEYS[1], 2), 0, 'm'"]
)
def test_the_watch_finds_what_is_not_declared(redis_url: str, call: str) -> None:
    """In any place of a command where a key may stand."""
    script = watched(Script(f"return redis.call({call})", ""))
    with pytest.raises(ResponseError, match="is not declared"):
        tell(redis_url, "EVAL", script.source, 1, f"{BASE}:")


def test_scripts_ask_for_nothing_newer_than_redis_7_0(redis_url: str) -> None:
    """By what Redis says of the commands that they name."""
    named = {command for source in SOURCES.values() for command in re.findall(r"redis\.p?call\('(\w+)'", source)}
    assert {"HSET", "ZADD", "SPOP"} <= named
    assert {} == {command: since for command in named if (since := _since(redis_url, command)) > (7, 0, 0)}


def _since(url: str, command: str) -> tuple[int, ...]:
    told = "return redis.call('COMMAND', 'DOCS', ARGV[1])[2]"  # a script's answer is read alike by all redis-py
    facts = tell(url, "EVAL", told, 0, command)
    since: bytes = facts[facts.index(b"since") + 1]
    return tuple(map(int, since.split(b".")))


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_scripts_begin_with_what_they_take_and_give(name: str) -> None:
    """Their keys, their arguments and their result."""
    header = re.match(r"(--.*\n)+", SOURCES[name])
    assert header is not None
    assert [] == [word for word in ("KEYS[", "ARGV[", "Result:") if word not in header[0]]
