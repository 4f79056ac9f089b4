# /// script
# requires-python = ">=3.11"
# dependencies = ["rq>=2", "hiredis>=3"]
# ///
"""RQ: its worker that does not fork for each job, and no results."""

from contextlib import contextmanager

from redis import Redis
from rq import Queue, Retry, SimpleWorker
from tally import URL, Client, handled, main

queue = Queue(connection=Redis.from_url(URL))


def options():
    return {"retry": Retry(max=1), "result_ttl": 0}


def send(event):
    queue.enqueue("tally.handled", event, **options())


def send_many(events):
    queue.enqueue_many([Queue.prepare_data("tally.handled", (event,), **options()) for event in events])


@contextmanager
def client():
    yield Client(send, send_many)


def work():
    assert handled
    SimpleWorker([queue], connection=queue.connection).work(logging_level="CRITICAL")


if __name__ == "__main__":
    main(work, client)
