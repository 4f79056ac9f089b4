# /// script
# requires-python = ">=3.11"
# dependencies = ["arq>=0.26", "uvloop>=0.19", "hiredis>=3"]
# ///
"""arq: a hundred jobs at once, and no results."""

import logging
from contextlib import asynccontextmanager

import uvloop
from arq import Retry, create_pool, func, run_worker
from arq.connections import RedisSettings
from tally import CONCURRENCY, URL, AgainError, Client, handled, main

settings = RedisSettings.from_dsn(URL)


async def handle(context, event):
    try:
        handled(event)
    except AgainError:
        raise Retry(defer=0) from None


@asynccontextmanager
async def aclient():
    pool = await create_pool(settings)

    async def send(event):
        await pool.enqueue_job("handle", event)

    yield Client(send)
    await pool.aclose()


class WorkerSettings:
    functions = (func(handle, keep_result=0),)
    redis_settings = settings
    max_jobs = CONCURRENCY
    max_tries = 2


def work():
    logging.disable()
    uvloop.install()
    run_worker(WorkerSettings)


if __name__ == "__main__":
    main(work, aclient=aclient)
