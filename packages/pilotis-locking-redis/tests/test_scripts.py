"""The scripts declare what they touch, in one slot, do a bounded number of things, and need no more than 7.0."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

import pytest
from msgspec.structs import replace
from pilotis.bridge import drive
from pilotis.providers import Grant, LockRequest
from pilotis_locking_redis import RedisLocks, RedisLocksOptions, scripts
from pilotis_locking_redis.provider import MOST_AT_ONCE
from pilotis_redis import RedisLink, Script
from pilotis_testing.redis import tell, timing
from redis.exceptions import ResponseError

LONG = 60.0

SOURCES = {
    file.name.removesuffix(".lua"): file.read_text("utf-8")
    for file in files("pilotis_locking_redis").joinpath("lua").iterdir()
}
SCRIPTS = {name.lower(): script for name, script in vars(scripts).items() if isinstance(script, Script)}

WATCHED = """
local declared, real = {}, redis
for _, key in ipairs(KEYS) do
    declared[key] = true
end
local function watch(...)
    local command = select(1, ...)
    if select('#', ...) == 1 or command == 'PUBLISH' or command == 'PUBSUB' then
        return
    end
    for _, key in ipairs(real.call('COMMAND', 'GETKEYS', ...)) do
        if not declared[key] then
            error('undeclared key ' .. key .. ' of ' .. command)
        end
    end
end
local redis = setmetatable({
    call = function(...) watch(...) return real.call(...) end,
}, {__index = real})
"""
"""Stands before a script, and has Redis itself say which keys each command is about."""

Precede = Callable[[Script, str], Script]


@pytest.fixture(params=["redis_url", pytest.param("redis_cluster_url", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest) -> str:
    """A server, and a cluster."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def locks(url: str) -> Iterator[RedisLocks]:
    provider = RedisLocks(RedisLocksOptions(url=url))
    yield provider
    drive(provider.close())


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, precede: Precede) -> dict[str, set[str]]:
    """Which scripts were run, and the slots of their keys: all of them are watched."""
    seen: dict[str, set[str]] = {}
    before: Callable[..., Any] = RedisLink.script

    async def watched(link: RedisLink, script: Script, keys: Any, arguments: Any = ()) -> Any:
        name = next(name for name, known in SCRIPTS.items() if known is script)
        seen.setdefault(name, set()).update(re.findall(r"^\{(.+?)\}", key)[0] for key in keys)
        return await before(link, precede(script, WATCHED), keys, arguments)

    monkeypatch.setattr(RedisLink, "script", watched)
    return seen


def acquire(locks: RedisLocks, *keys: str, owner: str = "o", **terms: Any) -> Grant | None:
    return drive(locks.acquire(LockRequest(keys=keys, owner=owner, ttl=LONG, **terms)))


def test_scripts_touch_what_they_declare(locks: RedisLocks, ran: dict[str, set[str]]) -> None:
    """Every script is run, quick ways and slow ones; all keys are in one slot."""
    first = acquire(locks, "a", "b")
    assert first is not None
    assert acquire(locks, "b", "c", owner="p") is None
    assert acquire(locks, "b", "c", owner="p", wait=0.05) is None
    assert acquire(locks, "s", owner="p", shared=True, permits=2) is not None
    assert acquire(locks, "s", owner="q", shared=True, permits=2) is not None
    assert drive(locks.renew([first])) == [True]
    assert drive(locks.inspect("a")) is not None
    assert ["a", "b", "s"] == [state.key for state in drive(locks.held("", 10))]
    assert drive(locks.break_lock("b")) == 1
    assert drive(locks.release(first)) is False
    assert drive(locks.release_owner("p")) == 1
    assert drive(locks.release_owner("q", ["s"])) == 1
    assert SCRIPTS.keys() == ran.keys()
    assert {"pilotis:locks:pilotis"} == {slot for slots in ran.values() for slot in slots}


def test_the_watch_finds_what_is_not_declared(redis_url: str, precede: Precede) -> None:
    """In any place of a command where a key may stand."""
    for call in ("'GET', KEYS[1] .. 'x'", "'ZADD', 'other', 0, 'x'"):
        with pytest.raises(ResponseError, match="undeclared key"):
            tell(redis_url, "EVAL", precede(Script(f"return redis.call({call})", ""), WATCHED).source, 1, "k")


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_scripts_ask_for_nothing_newer_than_redis_7_0(name: str, redis_url: str) -> None:
    """By what Redis says of the commands that they name."""
    named = set(re.findall(r"redis\.call\('(\w+)'", SOURCES[name]))
    assert {} == {command: since for command in named if (since := _since(redis_url, command)) > (7, 0, 0)}


def _since(url: str, command: str) -> tuple[int, ...]:
    [docs] = tell(url, "COMMAND DOCS", command).values()
    return tuple(map(int, docs[b"since"].split(b".")))


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_scripts_begin_with_what_they_take_and_give(name: str) -> None:
    """Their keys, their arguments and their result."""
    header = re.match(r"(--.*\n)+", SOURCES[name])
    assert header is not None
    assert [] == [word for word in ("KEYS[", "ARGV[", "Result:") if word not in header[0]]


@pytest.mark.parametrize("url", ["redis_url"], indirect=True)
def test_scripts_do_a_bounded_number_of_things(locks: RedisLocks, redis_url: str) -> None:
    """However many locks there are, and holds of one owner: others have their turn between the runs of a verb."""
    grants = [acquire(locks, f"k{number}", owner="o") for number in range(2_000)]
    held = [grant for grant in grants if grant is not None]
    with timing(redis_url) as timed:
        assert all(drive(locks.renew(held)))
        assert 10 == len(drive(locks.held("k", 10)))
        assert 2_000 == drive(locks.release_owner("o"))
    runs = Counter(one.words[1] for one in timed if one.name == "EVALSHA")
    assert runs[scripts.RENEW.digest] == 2_000 / MOST_AT_ONCE
    assert runs[scripts.RELEASE_OWNER.digest] >= 2_000 / MOST_AT_ONCE
    assert runs[scripts.HELD.digest] >= 2


ONCE = """
local real = redis
local function look(...)
    local seen = {}
    for index = 3, select('#', ...) do
        local field = select(index, ...)
        assert(not seen[field], 'asked twice for a lock')
        seen[field] = true
    end
end
local redis = setmetatable({
    call = function(...) if select(1, ...) == 'HMGET' then look(...) end return real.call(...) end,
}, {__index = real})
"""
"""Stands before a script, and refuses to read a lock twice at once."""


@pytest.mark.parametrize("url", ["redis_url"], indirect=True)
def test_a_lock_of_many_is_read_once(locks: RedisLocks, monkeypatch: pytest.MonkeyPatch, precede: Precede) -> None:
    """However many of its leases are renewed together: what thousands hold is long."""
    request = LockRequest(keys=("a",), owner="o", ttl=LONG, shared=True, permits=300)
    grants = [drive(locks.acquire(replace(request, owner=f"o{number}"))) for number in range(50)]
    monkeypatch.setattr("pilotis_locking_redis.provider.RENEW", precede(scripts.RENEW, ONCE))
    assert [True] * 50 == drive(locks.renew([grant for grant in grants if grant is not None]))


SHARED = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local holders = {}
for number = 1, tonumber(ARGV[1]) do
    local ends = number % 2 == 0 and now + 120000000 or now - 1
    holders[number] = {'o' .. number, number, now - 1000, ends, 1, 'r' .. number}
    redis.call('ZADD', KEYS[2], 0, 'o' .. number .. '\\0a')
end
redis.call('HSET', KEYS[1], 'a', cmsgpack.pack({holders, {}, 0}))
"""
"""Has many share a key, of whom every second has run out."""


@pytest.mark.parametrize("url", ["redis_url"], indirect=True)
def test_thousands_who_ran_out_are_dropped_together(locks: RedisLocks, redis_url: str) -> None:
    """And the others among whom they stood stay, those that can be released by name, too."""
    tell(redis_url, "EVAL", SHARED, 2, "{pilotis:locks:pilotis}:l", "{pilotis:locks:pilotis}:o", 5_000)
    state = drive(locks.inspect("a"))
    assert state is not None
    assert (2_500, "o2") == (state.holders, state.owner)
    assert 2_500 == tell(redis_url, "ZCARD", "{pilotis:locks:pilotis}:o")
    assert [0, 1] == [drive(locks.release_owner(owner)) for owner in ("o4999", "o5000")]


@pytest.mark.parametrize("url", ["redis_url"], indirect=True)
def test_more_keys_than_lua_hands_on_at_once(locks: RedisLocks) -> None:
    """One request may name thousands, which are held, renewed and released as one."""
    keys = [f"k{number:05}" for number in range(9_000)]
    grant = acquire(locks, *keys)
    assert grant is not None
    assert acquire(locks, keys[-1], owner="p") is None
    assert drive(locks.renew([grant])) == [True]
    assert drive(locks.release(grant)) is True
    assert acquire(locks, *keys, owner="p") is not None
