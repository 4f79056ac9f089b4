# /// script
# requires-python = ">=3.11"
# dependencies = ["streaq>=5", "uvloop>=0.19"]
# ///
"""streaQ: a hundred tasks at once, results kept for no time."""

import logging
from contextlib import asynccontextmanager

from streaq import StreaqRetry, Worker
from tally import CONCURRENCY, URL, AgainError, Client, handled, main

worker = Worker(redis_url=URL, concurrency=CONCURRENCY)


@worker.task(name="handle", max_tries=2, ttl=0)
async def handle(event):
    try:
        handled(event)
    except AgainError:
        raise StreaqRetry(delay=0) from None


@asynccontextmanager
async def aclient():
    async def send(event):
        await handle.enqueue(event)

    async def send_many(events):
        await worker.enqueue_many([handle.enqueue(event) for event in events])

    async with worker:
        yield Client(send, send_many)


def work():
    logging.disable()
    worker.run_sync()


if __name__ == "__main__":
    main(work, aclient=aclient)
