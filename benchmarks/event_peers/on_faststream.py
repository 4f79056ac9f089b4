# /// script
# requires-python = ">=3.11"
# dependencies = ["faststream[redis]>=0.6", "uvloop>=0.19", "hiredis>=3"]
# ///
"""FastStream on a stream with a group, acknowledged; many at once by its pipeline. It repeats nothing that failed."""

from contextlib import asynccontextmanager

import uvloop
from faststream import FastStream
from faststream.redis import RedisBroker, StreamSub
from redis.asyncio import Redis
from tally import CONCURRENCY, URL, Client, handled, main

broker = RedisBroker(URL, logger=None)
app = FastStream(broker, logger=None)


@broker.subscriber(stream=StreamSub("events", group="bench", consumer="one", max_records=CONCURRENCY, last_id="0"))
async def handle(event: dict):
    handled(event)


@asynccontextmanager
async def aclient():
    await broker.connect()
    redis = Redis.from_url(URL)

    async def send(event):
        await broker.publish(event, stream="events")

    async def send_many(events):
        async with redis.pipeline(transaction=False) as pipeline:
            for event in events:
                await broker.publish(event, stream="events", pipeline=pipeline)
            await pipeline.execute()

    yield Client(send, send_many)
    await redis.aclose()
    await broker.stop()


def work():
    uvloop.run(app.run())


if __name__ == "__main__":
    main(work, aclient=aclient)
