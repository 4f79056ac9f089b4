# /// script
# requires-python = ">=3.11"
# dependencies = ["taskiq>=0.11", "taskiq-redis>=1", "uvloop>=0.19", "hiredis>=3"]
# ///
"""taskiq: its broker on streams, the only one that acknowledges, and one process."""

from contextlib import asynccontextmanager

from tally import CONCURRENCY, URL, Client, become, handled, main
from taskiq import SimpleRetryMiddleware
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(URL).with_middlewares(SimpleRetryMiddleware())


@broker.task(task_name="handle", retry_on_error=True, max_retries=2)
async def handle(event):
    handled(event)


@asynccontextmanager
async def aclient():
    await broker.startup()
    yield Client(handle.kiq)
    await broker.shutdown()


def work():
    limits = ["--workers", "1", "--max-async-tasks", str(CONCURRENCY)]
    become("taskiq", "worker", "on_taskiq:broker", *limits, "--log-level", "CRITICAL")


if __name__ == "__main__":
    main(work, aclient=aclient)
