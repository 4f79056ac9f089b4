# /// script
# requires-python = ">=3.11"
# dependencies = ["huey>=2.5", "redis>=5", "hiredis>=3"]
# ///
"""huey: threads, and no results."""

from contextlib import contextmanager

from huey import RedisHuey
from tally import THREADS, URL, Client, become, handled, main

huey = RedisHuey("bench", url=URL, results=False)


@huey.task(retries=1)
def handle(event):
    handled(event)


@contextmanager
def client():
    yield Client(handle)


def work():
    become("huey_consumer", "on_huey.huey", "--workers", str(THREADS), "--worker-type", "thread", "--quiet")


if __name__ == "__main__":
    from on_huey import client, work  # tasks are known by their module, which is the worker's

    main(work, client)
