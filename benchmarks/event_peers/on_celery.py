# /// script
# requires-python = ">=3.11"
# dependencies = ["celery[redis]>=5.5", "hiredis>=3"]
# ///
"""Celery: a pool of threads, which its documentation has for what waits, and no results."""

from contextlib import contextmanager

from celery import Celery
from tally import THREADS, URL, Client, become, handled, main

app = Celery("on_celery", broker=URL)
app.conf.update(task_ignore_result=True, worker_hijack_root_logger=False)


@app.task(name="handle", autoretry_for=(Exception,), max_retries=1, default_retry_delay=0)
def handle(event):
    handled(event)


@contextmanager
def client():
    yield Client(handle.delay)


def work():
    options = ["--pool=threads", f"--concurrency={THREADS}", "--loglevel=CRITICAL"]
    become("celery", "--quiet", "--app=on_celery", "worker", *options, "--without-gossip", "--without-mingle")


if __name__ == "__main__":
    main(work, client)
