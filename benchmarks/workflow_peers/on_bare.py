"""The limit: a loop that writes down what a run of three steps has done. Nobody could go on with it after a crash."""

from __future__ import annotations

import asyncio
import sys

from pace import keep_in_flight
from redis.asyncio import Redis


async def drive(url: str, count: int, in_flight: int) -> None:
    client = Redis.from_url(url)

    async def run(number: int) -> None:
        key, value = f"run:{number}", number
        await client.hset(key, mapping={"status": "running", "input": number})
        for step in range(3):
            value *= 2
            await client.hset(key, f"step:{step}", value)
        await client.hset(key, mapping={"status": "completed", "result": value})

    await keep_in_flight(run, count, in_flight)
    await client.aclose()


if __name__ == "__main__":
    asyncio.run(drive(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
