"""A day's trading: every order goes through the workflow, a few at a time."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

from msgspec import Struct, field
from pilotis import Run, WorkflowFailedError

from storefront.app import app
from storefront.models import Order
from storefront.orders import change_price, place_order
from storefront.reading import Shop
from storefront.records import records

IN_FLIGHT = 8


class Outcome(Struct):
    """How the orders of a day ended."""

    placed: set[int] = field(default_factory=set[int])
    compensated: dict[int, str] = field(default_factory=dict[int, str])
    """The order's number, and the kind of error that ended it."""
    broken: dict[int, str] = field(default_factory=dict[int, str])
    """Runs that ended in no way that the shop expects. There are none."""

    @property
    def reasons(self) -> Counter[str]:
        return Counter(self.compensated.values())


def trade(shop: Shop, progress: Callable[[], object]) -> Outcome:
    """Take every order of a shop, and wait until all that follows from them is done."""
    records.load(shop)
    outcome, under_way = Outcome(), deque[tuple[Order, Run]]()
    for order in shop.orders:
        if has_new_prices(order):
            settle(under_way, outcome, progress, leave=0)
            take_prices(order)
        under_way.append((order, app.workflow.start(place_order, order, id=f"order-{order.id}-{records.price_list}")))
        settle(under_way, outcome, progress, leave=IN_FLIGHT - 1)
    settle(under_way, outcome, progress, leave=0)
    app.event.drain(60)
    return outcome


def settle(under_way: deque[tuple[Order, Run]], outcome: Outcome, progress: Callable[[], object], leave: int) -> None:
    """Wait for the oldest orders until only `leave` are under way."""
    while len(under_way) > leave:
        order, run = under_way.popleft()
        note(order, run, outcome)
        progress()


def note(order: Order, run: Run, outcome: Outcome) -> None:
    try:
        run.result(timeout=60)
        outcome.placed.add(order.id)
    except WorkflowFailedError:
        info = run.info()
        where = outcome.compensated if info.status in ("compensated", "failed") else outcome.broken
        where[order.id] = (info.error or info.status).partition(":")[0]


# Prices: an order that was written on another price means that the list has changed


def has_new_prices(order: Order) -> bool:
    return any(records.price_of(line.product) != line.price for line in order.lines)


def take_prices(order: Order) -> None:
    for line in order.lines:
        if records.price_of(line.product) != line.price:
            change_price(line.product, line.price)
