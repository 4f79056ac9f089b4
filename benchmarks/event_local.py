"""Events a second within one process: emitted one by one or in bulk, and handled by a function that does nothing.

Run it with `python benchmarks/event_local.py [EVENTS]`. Each line is measured from the first emit to the end of the
last handler.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

from pilotis.modules.event import Event, EventBus, Message
from pilotis_event_local import LocalEvents

DATA = {"id": "order-1", "lines": [{"product": 7, "quantity": 2}], "total": "12.50"}


def plain(event: Event[Any]) -> None:
    """Do nothing."""


async def asynchronous(event: Event[Any]) -> None:
    """Do nothing."""


def one_by_one(bus: EventBus, count: int) -> None:
    for _ in range(count):
        bus.emit("order.placed", DATA)


def in_bulk(bus: EventBus, count: int) -> None:
    for _ in range(count // 1000):
        bus.emit_many([Message("order.placed", DATA)] * 1000)


async def one_by_one_in_a_loop(bus: EventBus, count: int) -> None:
    for _ in range(count):
        await bus.aemit("order.placed", DATA)


def run_in_a_loop(bus: EventBus, count: int) -> None:
    asyncio.run(one_by_one_in_a_loop(bus, count))


def measure(emit: Callable[[EventBus, int], None], handler: Callable[..., Any], count: int) -> tuple[float, float]:
    """Return how many events a second were emitted, and how many were emitted and handled."""
    bus = EventBus(LocalEvents())
    bus.on("order.placed", id="benchmark")(handler)
    bus.open()
    start = time.perf_counter()
    emit(bus, count)
    emitted = time.perf_counter()
    assert bus.drain(60), "not all events were handled"
    handled = time.perf_counter()
    [lane] = bus.lanes()
    assert lane.succeeded == count, lane
    bus.close()
    return count / (emitted - start), count / (handled - start)


def main() -> None:
    """Measure every way to emit with both kinds of handlers."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    for emit in (one_by_one, in_bulk, run_in_a_loop):
        for handler in (plain, asynchronous):
            emitted, handled = measure(emit, handler, count)
            print(f"{emit.__name__:>14} {handler.__name__:>12}: {emitted:8,.0f} emitted/s {handled:8,.0f} handled/s")


if __name__ == "__main__":
    main()
