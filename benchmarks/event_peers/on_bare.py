"""The limit: streams with a group by the bare client, which reads, acknowledges and deletes many entries at a time.

It knows neither subscribers nor failures, and hands the entries of a worker that died to nobody.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import msgspec
import redis
import redis.asyncio
from tally import URL, Client, Payload, handled, main

STREAM, GROUP, READ = "events", "bench", 500
_redis: Any = redis
encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode


def fields(event: Payload) -> dict[str, bytes]:
    return {"b": encode(event)}


@contextmanager
def client() -> Generator[Client]:
    with _redis.Redis.from_url(URL, protocol=2) as ready:

        def send_many(events: list[Payload]) -> None:
            pipeline = ready.pipeline(transaction=False)
            for event in events:
                pipeline.xadd(STREAM, fields(event))
            pipeline.execute()

        yield Client(lambda event: ready.xadd(STREAM, fields(event)), send_many)


@asynccontextmanager
async def aclient() -> AsyncGenerator[Client]:
    ready: Any = _redis.asyncio.Redis.from_url(URL, protocol=2)

    async def send(event: Payload) -> None:
        await ready.xadd(STREAM, fields(event))

    yield Client(send)
    await ready.aclose()


def work() -> None:
    ready: Any = _redis.Redis.from_url(URL, protocol=2)
    ready.xgroup_create(STREAM, GROUP, "0", mkstream=True)
    while True:
        found = cast("Any", ready.xreadgroup(GROUP, "one", {STREAM: ">"}, count=READ, block=1000))
        ids: list[bytes] = []
        for entry, told in found[0][1] if found else []:
            handled(decode(told[b"b"]))
            ids.append(entry)
        if ids:
            pipeline = ready.pipeline(transaction=False)
            pipeline.xack(STREAM, GROUP, *ids).xdel(STREAM, *ids).execute()


if __name__ == "__main__":
    main(work, client, aclient)
