"""Workflows of Pilotis on Redis: a worker process and one that starts runs and waits for their results."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from pace import keep_in_flight, say_ready
from pilotis import Pilotis, step, workflow


@step
async def double(number: int) -> int:
    return number * 2


@workflow("bench")
async def bench(number: int) -> int:
    return await double(await double(await double(number)))


def app_on(url: str, role: Any) -> Pilotis:
    return Pilotis({"name": "bench", "workflow": {"url": url, "concurrency": 100, "retention": 60}}, role=role)


async def work(url: str) -> None:
    async with app_on(url, "work"):
        say_ready()
        await asyncio.Event().wait()


async def drive(url: str, count: int, in_flight: int) -> None:
    async with app_on(url, "emit") as app:

        async def run(number: int) -> None:
            handle = await app.workflow.astart(bench, number)
            assert await handle.aresult(timeout=60) == number * 8

        await keep_in_flight(run, count, in_flight)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["work", address]:
            asyncio.run(work(address))
        case [_, address, how_many, at_once]:
            asyncio.run(drive(address, int(how_many), int(at_once)))
