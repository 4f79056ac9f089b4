# /// script
# requires-python = ">=3.11"
# dependencies = ["dbos>=2", "psycopg[binary]"]
# ///
"""Workflows of DBOS on PostgreSQL: the process that starts them works on them, as its documentation has it."""

import asyncio
import sys

from dbos import DBOS
from pace import keep_in_flight

DBOS(config={"name": "bench", "system_database_url": sys.argv[2], "log_level": "CRITICAL", "run_admin_server": False})


@DBOS.step()
async def double(number):
    return number * 2


@DBOS.workflow()
async def bench(number):
    return await double(await double(await double(number)))


async def run(number):
    handle = await DBOS.start_workflow_async(bench, number)
    assert await handle.get_result() == number * 8


async def drive(count, in_flight):
    await keep_in_flight(run, count, in_flight)


if __name__ == "__main__":
    DBOS.launch()
    asyncio.run(drive(int(sys.argv[3]), int(sys.argv[4])))
    DBOS.destroy()
