"""What the processes of all candidates have in common. Only the standard library: each has an environment of its own.

`python on_<candidate>.py emit` and `emit-many` send `COUNT` events and print how many a second that was; `latency`
sends them one by one at `RATE` a second, once the worker is there. `work` runs a worker, whose handler passes each
event to `handled` (or `ahandled`); once it has seen them all, or `LIMIT` seconds are over, it writes what it saw to
`RESULT`. Variables of the environment tell the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

URL = os.environ.get("BENCH_URL", "redis://127.0.0.1:6379/0")
COUNT = int(os.environ.get("BENCH_COUNT", "1000"))
FAILS = os.environ.get("BENCH_FAILS") == "yes"
"""Whether the handler fails at the first sight of each event."""
LIMIT = float(os.environ.get("BENCH_LIMIT", "20"))
RESULT = Path(os.environ.get("BENCH_RESULT", "result.json"))
AT_ONCE = 1000
"""How many events one call for many is given."""
RATE = 200
CONCURRENCY, THREADS = 100, 8
"""Of workers that await, and of those that have threads."""

Payload = dict[str, Any]


class Client(NamedTuple):
    """How a candidate sends, blocking or awaited: one event, and many at once where it can."""

    send: Callable[[Payload], Any]
    send_many: Callable[[list[Payload]], Any] | None = None


class AgainError(Exception):
    """Raised by the handler when it fails on purpose."""


def payload(number: int, at: float = 0) -> Payload:
    return {"id": number, "at": at, "name": "lamp", "price": 12.5, "tags": ["new", "light"]}


# What a worker has handled


class _Tally:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.began = 0.0
        self.count = 0
        self.failed: set[int] = set()
        self.delays: list[float] = []

    def add(self, event: Mapping[str, Any]) -> None:
        now = time.perf_counter()
        with self.lock:
            if not self.began:
                self.begin(now)
            if FAILS and event["id"] not in self.failed:
                self.failed.add(event["id"])
                raise AgainError
            if event["id"] < 0:  # only tells that the worker is there
                return
            self.count += 1
            if event["at"]:
                self.delays.append(now - event["at"])
            if self.count == COUNT:
                self.finish()

    def begin(self, now: float) -> None:
        self.began = now
        RESULT.with_suffix(".begun").touch()
        timer = threading.Timer(LIMIT, self.finish)
        timer.daemon = True
        timer.start()

    def finish(self) -> None:
        told = {"count": self.count, "seconds": time.perf_counter() - self.began, "delays": self.delays}
        unfinished = RESULT.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps(told))
        with contextlib.suppress(FileExistsError):
            os.link(unfinished, RESULT)  # the first one counts


handled = _Tally().add


async def ahandled(event: Mapping[str, Any]) -> None:
    handled(event)


# Sending


def main(
    work: Callable[[], Any],
    client: Callable[[], AbstractContextManager[Client]] | None = None,
    aclient: Callable[[], AbstractAsyncContextManager[Client]] | None = None,
) -> None:
    """Do what the command line says; `a` before a command asks a candidate of two colours for the awaited one."""
    command = sys.argv[1]
    if command == "work":
        work()
    elif client and not command.startswith("a"):
        with client() as ready:
            _at_once(_send(command, _awaited(ready), _pause))
    elif aclient:
        _run(_with_aclient(command.removeprefix("a"), aclient))


def become(program: str, *arguments: str) -> None:
    """Become another program of the same environment, which finds the modules here."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    os.execv(Path(sys.executable).parent / program, [program, *arguments])


async def _with_aclient(command: str, aclient: Callable[[], AbstractAsyncContextManager[Client]]) -> None:
    async with aclient() as ready:
        await _send(command, ready, asyncio.sleep)


async def _send(command: str, client: Client, pause: Callable[[float], Awaitable[None]]) -> None:
    if command == "latency":
        await _pace(client, pause)
        return
    await client.send(payload(0))
    began = time.perf_counter()
    if command == "emit-many" and client.send_many:
        for first in range(1, COUNT, AT_ONCE):
            await client.send_many([payload(number) for number in range(first, min(first + AT_ONCE, COUNT))])
    else:
        for number in range(1, COUNT):
            await client.send(payload(number))
    print((COUNT - 1) / (time.perf_counter() - began))


async def _pace(client: Client, pause: Callable[[float], Awaitable[None]]) -> None:
    while not RESULT.with_suffix(".begun").exists():
        await client.send(payload(-1))
        await pause(0.1)
    await pause(1)
    began = time.perf_counter()
    for number in range(COUNT):
        await pause(max(0, began + number / RATE - time.perf_counter()))
        await client.send(payload(number, time.perf_counter()))


# Both colours from one source


def _awaited(client: Client) -> Client:
    """Return a blocking client as one that is awaited, and never suspends."""
    send, send_many = client

    async def asend(event: Payload) -> None:
        send(event)

    async def asend_many(events: list[Payload]) -> None:
        assert send_many
        send_many(events)

    return Client(asend, asend_many if send_many else None)


async def _pause(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251


def _at_once(coroutine: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(StopIteration):
        coroutine.send(None)


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run it in the loop that fast candidates bring along."""
    try:
        loops: Any = importlib.import_module("uvloop")
    except ImportError:
        loops = asyncio
    loops.run(coroutine)
