"""Ours: but for the concurrency, all settings are the defaults."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from pilotis import Event, Message, Pilotis
from tally import CONCURRENCY, URL, Client, Payload, handled, main

NAME = "order.placed"
app = Pilotis({"name": "bench", "event": {"url": URL}}, role="work" if sys.argv[1:] == ["work"] else "emit")


@app.event.on(NAME, id="bench", concurrency=CONCURRENCY, attempts=2, backoff=0)
async def handle(event: Event[Any]) -> None:
    handled(event.data)


@contextmanager
def client() -> Generator[Client]:
    with app:
        yield Client(
            lambda event: app.event.emit(NAME, event),
            lambda events: app.event.emit_many([Message(NAME, event) for event in events]),
        )


@asynccontextmanager
async def aclient() -> AsyncGenerator[Client]:
    async with app:

        async def send(event: Payload) -> None:
            await app.event.aemit(NAME, event)

        yield Client(send)


if __name__ == "__main__":
    main(app.run_worker, client, aclient)
