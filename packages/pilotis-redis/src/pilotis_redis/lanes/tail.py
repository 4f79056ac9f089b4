"""Looking on while entries are emitted."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from pilotis_redis.lanes.entry import HEADS, Push
from pilotis_redis.lanes.keys import BusKeys
from pilotis_redis.link import RedisLink

_LASTS = 30_000
"""Milliseconds for which entries are shown after somebody last looked."""
_WAIT = 2_000
"""Milliseconds that one read waits."""
_PAGE = 100

_said = msgspec.msgpack.Decoder(list[Any]).decode


async def watch(link: RedisLink, keys: BusKeys) -> AsyncGenerator[Push, None]:
    """Yield each entry that is emitted from now on, until it is closed.

    There is a stream of them only while somebody looks. It is short: what comes faster than it is taken is left out.
    """
    last = await _begin(link, keys.tail)
    while True:
        await link.execute_waiting("XREAD", "COUNT", 1, "BLOCK", _WAIT, "STREAMS", keys.tail, last)
        if not await link.execute("PEXPIRE", keys.tail, _LASTS):  # it took too long to come back
            last = await _begin(link, keys.tail)
        shown = await link.execute("XRANGE", keys.tail, b"(" + last, "+", "COUNT", _PAGE)
        last = shown[-1][0] if shown else last
        for fields in (fields for _, fields in shown if b"s" in fields):
            yield _push(fields[b"s"], fields[b"h"], fields[b"b"])


async def _begin(link: RedisLink, key: str) -> bytes:
    """Have entries be shown, and return after which place."""
    last, _ = await link.transaction([("XADD", key, "*", "", ""), ("PEXPIRE", key, _LASTS)])
    return last


def _push(said: bytes, head: bytes, body: bytes) -> Push:
    id, delay, priority, key, *_ = _said(said)
    return Push(id, HEADS.decode(head).name, body, delay / 1000, priority, key or None)
