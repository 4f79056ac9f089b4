"""The scripts: what they touch they declare, in one slot, and they ask for nothing that Redis 7.0 has not."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest
from pilotis.bridge import drive
from pilotis_redis import RedisLink, RedisOptions, Script
from pilotis_redis.lanes import Meant, Push
from pilotis_redis.lanes.presence import dismiss
from pilotis_redis.lanes.taking import RECALL
from pilotis_testing.redis import tell
from redis.exceptions import ResponseError

SOURCES = {
    file.name.removesuffix(".lua"): file.read_text("utf-8") for file in files("pilotis_redis").joinpath("lua").iterdir()
}
SCRIPTS = sorted(SOURCES.keys() - {"entries"})

WATCHED = """
local declared, real = {}, redis
for _, key in ipairs(KEYS) do
    declared[key] = true
end
local function watch(...)
    if select('#', ...) == 1 then
        return
    end
    local keys = real.pcall('COMMAND', 'GETKEYS', ...)
    if keys.err and not string.find(keys.err, 'no key arguments', 1, true) then
        error(keys.err .. ': ' .. ...)
    end
    for _, key in ipairs(keys.err and {} or keys) do
        if not declared[key] then
            error('undeclared key ' .. key .. ' of ' .. ...)
        end
    end
end
local redis = setmetatable({
    call = function(...) watch(...) return real.call(...) end,
    pcall = function(...) watch(...) return real.pcall(...) end,
}, {__index = real})
"""
"""Stands before a script, and has Redis itself say which keys each command is about."""


class Watch:
    """Puts a watch before every script that is run, and notes which were, and with what keys."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ran: set[str] = set()
        self.slots: set[str] = set()
        for verb in ("script", "script_each", "script_together"):
            patch.setattr(RedisLink, verb, self._watched(getattr(RedisLink, verb)))

    def _watched(self, run: Callable[..., Any]) -> Callable[..., Any]:
        async def watched(link: RedisLink, script: Script, calls: Any, *arguments: Any) -> Any:
            self.ran |= {name for name in SCRIPTS if script.source.endswith(SOURCES[name])}
            calls = list(calls)
            for keys in [calls] if arguments or isinstance(calls[0], str) else [keys for keys, _ in calls]:
                self.slots |= {re.findall(r"^\{(.+?)\}", key)[0] for key in keys}
            return await run(link, watch(script), calls, *arguments)

        return watched


def watch(script: Script) -> Script:
    source = WATCHED + script.source
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


@pytest.fixture(params=["redis_url", "redis_cluster_url"])
def url(request: pytest.FixtureRequest) -> str:
    """A server, and a cluster."""
    return request.getfixturevalue(request.param)


def test_scripts_touch_what_they_declare(
    url: str, make_hand: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every script is run, in all its branches that matter here; all keys are in one slot."""
    watched = Watch(monkeypatch)
    drive(everything(make_hand(url)))
    assert SCRIPTS == sorted(watched.ran)
    assert {"test:bus"} == watched.slots


async def everything(hand: Any) -> None:
    """Have entries be emitted, held, delayed, taken, settled, refused, rescued, listed, replayed and purged."""
    lanes, keys = hand.lanes, hand.lanes.keys
    await hand.declare("a", "b", "empty")
    await emit_all(lanes)
    await lanes.stage({"g": [Push("staged", "a", b"")]})
    await lanes.release("g")
    for verdict in ("done", "retry", "back", "dead", "dead", "done"):
        await hand.settle((await hand.take("a", most=1))[:1], verdict)
    await lanes.link.script(RECALL, [keys.workers, *keys.lane("a").all, *keys.lane("b").all], [hand.worker.id])
    await crash(hand)
    meant = Meant(lanes=["a", "b"])
    assert len([letter async for letter in lanes.letters(meant)]) == 2
    assert (
        await lanes.replay(Meant(lanes=["a"], ids=[letter.head.id async for letter in lanes.letters(meant)][:1])) == 1
    )
    assert await lanes.bury(meant) == 1
    taken = await hand.take("b", "empty")
    await hand.worker.stop()
    await hand.settle(taken)
    await lanes.states(["a", "b"])
    await lanes.pause(["a"], paused=True)
    assert await lanes.purge(["a"]) > 0
    await lanes.forget(["a"])


async def emit_all(lanes: Any) -> None:
    await lanes.emit([Push("0", "a", b"", remember=9)])
    await lanes.emit([Push("1", "a", b"", remember=9, dedupe="d", dedupe_ttl=9)] * 2)
    await lanes.emit([Push(f"k{number}", "a", b"", key="k") for number in range(5)])
    await lanes.emit([Push("later", "a", b"", delay=9, key="l"), Push("after", "a", b"", key="l")])
    await lanes.emit([Push(str(number), "b", b"", remember=9) for number in range(900)])


async def crash(hand: Any) -> None:
    """Have a worker be found dead, and what it had be handed on; the worker itself may be quicker about it."""
    keys, link, mine = hand.lanes.keys, hand.link, hand.worker.id
    await link.execute("XREADGROUP", "GROUP", "g", "ghost", "COUNT", 1, "STREAMS", keys.lane("b").normal, ">")
    await link.execute("ZADD", keys.workers, 1, "ghost")
    beat, rescue = (Script.load("pilotis_redis", "entries", name) for name in ("beat", "rescue"))
    assert [1, [b"ghost"]] == await link.script(beat, [keys.workers, keys.bell(mine)], [mine, 60_000, 1])
    await dismiss(link, keys, ["ghost"], only_late=True, is_heir_wanted=True)
    shared = [keys.workers, keys.sequence, keys.news]
    await link.script(rescue, [*shared, *keys.lane("b").all], [100, "b", 2])
    assert await link.execute("XLEN", keys.lane("b").suspects) == 1


def test_the_watch_finds_what_is_not_declared(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any place of a command where a key may stand."""
    Watch(monkeypatch)
    link = RedisLink(RedisOptions(url=redis_url))
    for call in ("'GET', KEYS[1] .. 'x'", "'XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 'other', '>'"):
        with pytest.raises(ResponseError, match="undeclared key"):
            drive(link.script(Script(f"return redis.call({call})", "0" * 40), ["{bus}:k"], []))
    assert drive(link.script(Script("return redis.call('TIME')", "0" * 40), ["{bus}:k"], []))
    drive(link.close())


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_ask_for_nothing_newer_than_redis_7_0(name: str, redis_url: str) -> None:
    """By what Redis says of the commands that they name."""
    named = set(re.findall(r"redis\.p?call\('(\w+)'", SOURCES["entries"] + SOURCES[name]))
    assert named
    assert {} == {command: since for command in named if (since := _since(redis_url, command)) > (7, 0, 0)}


def _since(url: str, command: str) -> tuple[int, ...]:
    told = "return redis.call('COMMAND', 'DOCS', ARGV[1])[2]"  # a script's answer is read alike by all redis-py
    facts = tell(url, "EVAL", told, 0, command)
    since: bytes = facts[facts.index(b"since") + 1]
    return tuple(map(int, since.split(b".")))


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_begin_with_what_they_take_and_give(name: str) -> None:
    """Their keys, their arguments where they have any, and their result."""
    header = re.match(r"(--.*\n)+", SOURCES[name])
    assert header is not None
    words = ["KEYS[", "Result:"] + ["ARGV["] * ("ARGV" in SOURCES[name][header.end() :])
    assert [] == [word for word in words if word not in header[0]]
