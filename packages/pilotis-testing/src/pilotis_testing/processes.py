"""Real processes that ask for the same value at once, and one that dies while others wait for it."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from typing import Any

from pilotis.bridge import pause
from pilotis.modules.cache import Cache

from pilotis_testing.clock import until
from pilotis_testing.colours import Colour, together

PATIENCE = 30
KEY = "k"

_processes = multiprocessing.get_context("fork")


def started(work: Callable[..., object], *arguments: Any) -> BaseProcess:
    """Run work in a process of its own, a child of this one."""
    process = _processes.Process(target=work, args=arguments, daemon=True)
    process.start()
    return process


def stampede(
    make: Callable[[], Cache], colour: Colour, compute: Callable[[], Any], *, processes: int, callers: int, **terms: Any
) -> list[Any]:
    """Have many threads or tasks of each process ask for one key at once; return what they got.

    Each process has one cache, which `make` returns, open when they begin. It is closed when `get` finds the value.
    """
    ready, answers = _processes.Barrier(processes), _processes.Queue()
    asks = functools.partial(_ask, make, colour, compute, terms)
    asking = [started(asks, callers, ready, answers) for _ in range(processes)]
    given = [answer for _ in asking for answer in answers.get(timeout=PATIENCE)]
    for process in asking:
        process.join(PATIENCE)
    return given


def _ask(  # noqa: PLR0917 - the first four are bound before
    make: Callable[[], Cache],
    colour: Colour,
    compute: Callable[[], Any],
    terms: dict[str, Any],
    callers: int,
    ready: Any,
    answers: Any,
) -> None:
    cache: Any = colour.voice(make())

    async def run() -> None:
        await cache.get("nothing")
        ready.wait(PATIENCE)
        answers.put(await together(*[lambda: cache.get_or_set(KEY, compute, **terms)] * callers))
        while await cache.get(KEY) is None:  # as long as it is refreshed in the background
            await pause(0.01)
        await cache.close()

    colour.run(run())


def followed(
    make: Callable[[], Cache], caches: Sequence[Cache], is_claimed: Callable[[], bool]
) -> tuple[list[Any], float]:
    """Kill a process while it computes a value, and ask several caches for that, each of which would compute "next".

    `is_claimed` tells whether the claim of that process is there. Returns what they got, and after how many seconds
    since the kill the last one had it.
    """
    dying = started(lambda: make().get_or_set(KEY, lambda: time.sleep(2 * PATIENCE)))
    until(is_claimed)
    answers: list[Any] = []

    def wait(cache: Cache) -> None:
        answers.append(cache.get_or_set(KEY, lambda: "next"))

    waiting = [threading.Thread(target=wait, args=(cache,)) for cache in caches]
    os.kill(dying.pid or 0, signal.SIGKILL)
    begun = time.monotonic()
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join(PATIENCE)
    lasted = time.monotonic() - begun
    dying.join()
    return answers, lasted
