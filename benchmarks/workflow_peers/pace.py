"""What the programs beside this one have in common: a client keeps so many runs in flight, and tells how they went.

Each program takes its command and then the address of its server. `work` works until it is ended, and writes a line
once it is ready. `drive COUNT IN_FLIGHT` has so many runs made, each waited for, and prints as JSON how many a second
ended, and the median of the seconds from the start of a run to its result.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable


async def keep_in_flight(run: Callable[[int], Awaitable[object]], count: int, in_flight: int) -> None:
    """Make runs, and print how they went. Some of them come before, so that everything is warm."""
    await _all(run, range(-in_flight, 0), in_flight)
    begun = time.perf_counter()
    took = await _all(run, range(count), in_flight)
    rate = count / (time.perf_counter() - begun)
    print(json.dumps({"rate": rate, "median": statistics.median(took)}))


async def _all(run: Callable[[int], Awaitable[object]], numbers: range, in_flight: int) -> list[float]:
    left = iter(numbers)
    took: list[float] = []

    async def one_after_the_other() -> None:
        for number in left:
            begun = time.perf_counter()
            await run(number)
            took.append(time.perf_counter() - begun)

    await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))
    return took


def say_ready() -> None:
    """Tell that work can begin."""
    print("ready", flush=True)
