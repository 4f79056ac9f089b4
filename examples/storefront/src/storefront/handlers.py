"""What happens after an order: each subscriber on its own, each tried again on its own."""

from __future__ import annotations

from pilotis import Backoff, Event, Handlers

from storefront.app import app
from storefront.models import OrderPlaced, StockLow
from storefront.records import records

handlers = Handlers()


@handlers.on("order.placed", id="sales-report")
def report_sale(event: Event[OrderPlaced]) -> None:
    records.add_sale(event.id, event.data)


@handlers.on("order.placed", id="loyalty", attempts=3, backoff=Backoff.fixed(0.01))
async def give_points(event: Event[OrderPlaced]) -> None:
    if event.data.order % 10 == 0 and event.attempt == 1:
        raise ConnectionError("the loyalty programme does not answer")
    records.add_points(event.id, event.data)


@handlers.on("stock.low", id="reordering")
def reorder(event: Event[StockLow]) -> None:
    with app.locking.hold(f"stock:{event.data.product}"):
        records.restock(event.id, event.data)
