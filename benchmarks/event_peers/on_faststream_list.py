# /// script
# requires-python = ">=3.11"
# dependencies = ["faststream[redis]>=0.6", "uvloop>=0.19", "hiredis>=3"]
# ///
"""FastStream on a list, which loses what a worker had that died; many at once by one command."""

from contextlib import asynccontextmanager

import uvloop
from faststream import FastStream
from faststream.redis import RedisBroker
from tally import URL, Client, handled, main

broker = RedisBroker(URL, logger=None)
app = FastStream(broker, logger=None)


@broker.subscriber(list="events")
async def handle(event: dict):
    handled(event)


@asynccontextmanager
async def aclient():
    await broker.connect()

    async def send(event):
        await broker.publish(event, list="events")

    async def send_many(events):
        await broker.publish_batch(*events, list="events")

    yield Client(send, send_many)
    await broker.stop()


def work():
    uvloop.run(app.run())


if __name__ == "__main__":
    main(work, aclient=aclient)
