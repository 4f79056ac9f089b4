# /// script
# requires-python = ">=3.11"
# dependencies = ["celery[redis]>=5.5", "hiredis>=3"]
# ///
"""Chains of Celery with results in Redis: a worker with threads, and a client that waits for the last of each."""

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from celery import Celery, chain
from pace import keep_in_flight, say_ready

url = sys.argv[2] if __name__ == "__main__" else os.environ["BENCH_URL"]
app = Celery("on_celery", broker=url, backend=url)
app.conf.update(result_expires=60, worker_hijack_root_logger=False)


@app.task(name="double")
def double(number):
    return number * 2


def run(number):
    assert chain(double.s(number), double.s(), double.s())().get(timeout=60) == number * 8


async def drive(count, in_flight):
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(in_flight))
    await keep_in_flight(lambda number: loop.run_in_executor(None, run, number), count, in_flight)


def work():
    say_ready()
    options = ["--pool=threads", "--concurrency=50", "--loglevel=CRITICAL", "--without-gossip", "--without-mingle"]
    os.environ["BENCH_URL"] = url
    os.execvp("celery", ["celery", "--quiet", "--app=on_celery", "worker", *options])


if __name__ == "__main__":
    if sys.argv[1] == "work":
        work()
    else:
        asyncio.run(drive(int(sys.argv[3]), int(sys.argv[4])))
