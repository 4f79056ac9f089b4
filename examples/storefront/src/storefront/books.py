"""Checking the books: what the six modules did, counted again from what they left behind."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

from storefront.app import app
from storefront.gateway import gateway
from storefront.models import Order
from storefront.orders import CENT
from storefront.reading import Shop
from storefront.records import points_for, records, units_of
from storefront.trading import Outcome

PATIENCE = 60.0
"""Seconds that may pass until others have taken over what a dead worker had in its hands."""


def check_until_balanced(shop: Shop, outcome: Outcome) -> list[str]:
    """Return what does not balance in the end: what follows from the last orders may still be under way elsewhere."""
    deadline = time.monotonic() + PATIENCE
    while (differences := check_books(shop, outcome)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return differences


def check_books(shop: Shop, outcome: Outcome) -> list[str]:
    """Return what does not balance: nothing, on a good day."""
    return [*check_orders(shop, outcome), *check_stock(shop, outcome), *check_artefacts(shop, outcome), *check_events()]


def check_orders(shop: Shop, outcome: Outcome) -> Iterator[str]:
    for number, status in outcome.broken.items():
        yield f"order {number} is {status}"
    if len(outcome.placed) + len(outcome.compensated) != len(shop.orders):
        yield f"{len(shop.orders)} orders came in, {len(outcome.placed) + len(outcome.compensated)} ended"


def check_stock(shop: Shop, outcome: Outcome) -> Iterator[str]:
    sold: Counter[int] = Counter()
    for order in shop.orders:
        if order.id in outcome.placed:
            sold.update(units_of(order))
    stock, restocked, lowest = records.stock, records.restocked, records.lowest
    for product in shop.products.values():
        expected = product.in_stock + restocked[product.id] - sold[product.id]
        if stock[product.id] != expected:
            yield f"{product.name}: {stock[product.id]} units in stock, {expected} in the books"
        if lowest[product.id] < 0:
            yield f"{product.name}: stock was at {lowest[product.id]}"


def check_artefacts(shop: Shop, outcome: Outcome) -> Iterator[str]:
    """Each placed order has one payment, one invoice and one mail; the others have none."""
    payments = Counter(number_in(payment) for payment in gateway.payments if payment not in gateway.refunded)
    invoices = Counter(number_in(info.key) for info in app.file.list("invoices/"))
    sent = app.notification.find(status="sent", since=records.began)
    mails = Counter(int(mail.resource[1]) for mail in sent if mail.resource)
    sales = records.sales
    for order in shop.orders:
        expected = int(order.id in outcome.placed)
        for what, counted in (("payments", payments), ("invoices", invoices), ("mails", mails)):
            if counted[order.id] != expected:
                yield f"order {order.id}: {counted[order.id]} {what}, expected {expected}"
        yield from check_amount(order, expected, sales.get(order.id))


def number_in(name: str) -> int:
    """Return the order's number in `payment-10248-1` or `invoices/10248.txt`."""
    return int(name.replace("/", "-").replace(".", "-").split("-")[1])


def check_amount(order: Order, placed: int, paid: Decimal | None) -> Iterator[str]:
    due = sum((line.price * line.quantity * (1 - line.discount) for line in order.lines), Decimal(0)).quantize(CENT)
    if placed and paid != due:
        yield f"order {order.id}: sold for {paid}, expected {due}"
    if not placed and paid is not None:
        yield f"order {order.id}: reported as sold"


def check_events() -> Iterator[str]:
    """Each subscriber handled each of its events, with effect exactly once, and none was given up."""
    sales, handled = records.sales, Counter(subscriber for subscriber, _ in records.handled)
    for subscriber in ("sales-report", "loyalty"):
        if handled[subscriber] != len(sales):
            yield f"{subscriber} handled {handled[subscriber]} events of {len(sales)}"
    points = sum(map(points_for, sales.values()))
    if records.points != points:
        yield f"customers have {records.points} points, {points} in the books"
    for dead in app.event.dead_letters():
        yield f"{dead.subscription} gave up on event {dead.id}: {dead.error}"
