# /// script
# requires-python = ">=3.11"
# dependencies = ["dramatiq[redis]>=1.17", "hiredis>=3"]
# ///
"""dramatiq: one process with threads."""

from contextlib import contextmanager

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from tally import THREADS, URL, Client, become, handled, main

dramatiq.set_broker(RedisBroker(url=URL))


@dramatiq.actor(max_retries=1, min_backoff=1, max_backoff=1)
def handle(event):
    handled(event)


@contextmanager
def client():
    yield Client(handle.send)


def work():
    become("dramatiq", "on_dramatiq", "--processes", "1", "--threads", str(THREADS))


if __name__ == "__main__":
    main(work, client)
