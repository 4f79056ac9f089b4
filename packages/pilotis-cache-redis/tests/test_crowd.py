"""A Redis that others use as well: no verb holds it up, however much there is in it.

Small in every run, with a million keys of others by `nox -s campaign`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from pilotis import Cache
from pilotis.providers import Context, Entry
from pilotis_cache_redis import RedisCache, RedisCacheOptions
from pilotis_testing import Colour
from pilotis_testing.redis import Timed, keys_in, tell, timing
from pilotis_testing.servers import RedisServer, running

FULL = os.environ.get("PILOTIS_CAMPAIGN") == "full"
FOREIGN = 1_000_000 if FULL else 20_000
OURS = 3_000
MOST = 1_000
"""Keys that a command may be about, or look at."""
LONGEST = 0.005
"""Seconds of the server's time that a command may take."""
ATTEMPTS = 40
"""Whatever else the machine does adds to the time of a command, so the best of them counts."""
KEYS = [f"product:{number}" for number in range(OURS)]
HOLD_UP = {"DEL", "FLUSHALL", "FLUSHDB", "KEYS", "RANDOMKEY", "SMEMBERS", "SORT"}

Verb = Callable[[Cache], Awaitable[Any]]


async def made(keys: Sequence[str]) -> Mapping[str, int]:
    return dict.fromkeys(keys, 2)


VERBS: dict[str, Verb] = {
    "get_many": lambda cache: cache.aget_many(KEYS),
    "set_many": lambda cache: cache.aset_many(dict.fromkeys(KEYS, 2)),
    "delete": lambda cache: cache.adelete(*KEYS),
    "get_or_set_many": lambda cache: cache.aget_or_set_many([*KEYS, "none"], made),
    "invalidate_tags": lambda cache: cache.ainvalidate_tags("t"),
    "invalidate": lambda cache: cache.ainvalidate("product:*"),
    "invalidate nothing": lambda cache: cache.ainvalidate("none:*"),
    "clear": lambda cache: cache.aclear(),
}


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis that others have filled."""
    server = RedisServer(tmp_path_factory.mktemp("crowd"), "--enable-debug-command", "yes")
    with running(server):
        tell(server.url, "DEBUG", "POPULATE", FOREIGN, "theirs")
        yield server.url


async def attempt(url: str, verb: Verb) -> list[Timed]:
    """Call a verb of a cache that has many entries, and return the commands that it took."""
    cache = Cache(RedisCache(RedisCacheOptions(url=url)), context=Context(name="shop"))
    try:
        await cache.aset_many(dict.fromkeys(KEYS, 1))
        with timing(url) as commands:
            await verb(cache)
        await cache.aclear()
    finally:
        await cache.aclose()
    return commands


@pytest.mark.parametrize("verb", VERBS)
async def test_every_command_is_a_small_one(crowded: str, colour: Colour, verb: str) -> None:
    """None looks at all keys, and none is about more than some of ours; those of others are not touched."""
    commands = await attempt(crowded, VERBS[verb])
    assert not {command.name for command in commands} & HOLD_UP
    assert [] == [command.words for command in commands if size_of(command) > MOST]
    assert keys_in(crowded) == FOREIGN


async def test_entries_are_read_in_parts(crowded: str, colour: Colour) -> None:
    """With the time that they have left, as for a near cache."""
    cache = RedisCache(RedisCacheOptions(url=crowded))
    try:
        await cache.write([Entry(key, b"1", 60) for key in KEYS])
        with timing(crowded) as commands:
            entries = await cache.read_entries(KEYS)
        assert OURS == await cache.remove(KEYS)
    finally:
        await cache.close()
    assert KEYS == [entry.key for entry in entries if entry is not None and entry.value == b"1"]
    assert OURS == sum(size_of(command) for command in commands if command.name == "MGET")
    scripts = [command for command in commands if command.name in ("EVAL", "EVALSHA")]
    assert [] == [command.words[:3] for command in scripts if size_of(command) > MOST]


@pytest.mark.campaign
@pytest.mark.timeout(600)
@pytest.mark.parametrize("verb", VERBS)
async def test_no_command_takes_long(crowded: str, verb: str) -> None:
    """By the server's own clock."""
    longest: list[Timed] = []
    for _ in range(ATTEMPTS):
        longest.append(max(await attempt(crowded, VERBS[verb])))
        if longest[-1].seconds < LONGEST:
            return
    pytest.fail(f"the longest command of {verb} took, at best, {min(longest)}")


def size_of(command: Timed) -> int:
    """Return how many keys a command is about, or looks at."""
    if command.name == "SCAN":
        return int(command.words[command.words.index("COUNT") + 1])
    if command.name in ("EVAL", "EVALSHA"):
        return int(command.words[2])
    if command.name in ("MGET", "UNLINK"):
        more = re.fullmatch(r"\.\.\. \((\d+) more arguments\)", command.words[-1])
        return len(command.words) - 1 + (int(more[1]) - 1 if more else 0)
    return 1
