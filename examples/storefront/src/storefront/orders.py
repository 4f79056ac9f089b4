"""Taking an order: a workflow whose steps are undone, the last one first, when a later one fails."""

from __future__ import annotations

from contextlib import nullcontext
from decimal import Decimal
from typing import Any

from pilotis import Backoff, PermanentError, step, workflow

from storefront.app import app
from storefront.gateway import Declined, gateway
from storefront.models import Customer, Line, Order, OrderPlaced, Payment, Receipt, StockLow
from storefront.records import records

CENT = Decimal("0.01")


class OutOfStock(PermanentError):
    """There are not enough units of a product. Trying again at once would not help."""


@workflow("place-order")
def place_order(order: Order) -> Receipt:
    total = price(order)
    reserve(order)
    payment = charge(order, total)
    invoice = store_invoice(order, total)
    app.event.emit("order.placed", OrderPlaced(order.id, order.customer, total))
    tell_customer(order, total)
    return Receipt(order.id, total, payment.id, invoice)


# Pricing: read from the cache until the price changes


@app.cache.cached(ttl=3600, key="price:{price_list}:{product}", tags=("product:{product}",))
def list_price(price_list: str, product: int) -> Decimal:
    """Return a price of today's list. A cache that other processes share has those of other days, too."""
    return records.price_of(product)


def change_price(product: int, price: Decimal) -> None:
    records.set_price(product, price)
    app.cache.invalidate_tags(f"product:{product}")


def amount(line: Line) -> Decimal:
    return list_price(records.price_list, line.product) * line.quantity * (1 - line.discount)


@step
def price(order: Order) -> Decimal:
    return sum((amount(line) for line in order.lines), Decimal(0)).quantize(CENT)


# Stock: all the products of an order are locked together, so that two orders never take the same unit


def stock_keys(order: Order) -> list[str]:
    return [f"stock:{line.product}" for line in order.lines]


@step(raises=(OutOfStock,))
def reserve(order: Order) -> None:
    """Take the units of every line, or none."""
    with app.locking.hold(*stock_keys(order)):
        short = records.shortages(order)
        if not short:
            records.take(order, announce_low)
            return
    for product, missing in short.items():
        app.event.emit("stock.low", StockLow(product, missing), now=True)
    raise OutOfStock(f"not enough of {', '.join(records.name_of(product) for product in short)}")


@reserve.compensate
def put_back(order: Order, result: None) -> None:
    with app.locking.hold(*stock_keys(order)):
        records.put_back(order)


def announce_low(connection: Any, products: list[int]) -> None:
    """Tell that little is left: with the units that are taken, or not at all. Without an outbox, with the run."""
    with app.event.transaction(connection) if has_outbox() else nullcontext():
        for product in products:
            app.event.emit("stock.low", StockLow(product, 0))


def has_outbox() -> bool:
    return app.settings.modules["event"]["default"].outbox is not None


# Payment: the gateway may decline, and may time out after it has taken the money


@step(attempts=3, backoff=Backoff.fixed(0.01), raises=(Declined,))
def charge(order: Order, total: Decimal) -> Payment:
    return gateway.charge(order.id, total, idempotency_key=workflow.step_id())


@charge.compensate
def refund(order: Order, total: Decimal, payment: Payment) -> None:
    gateway.refund(payment.id)


# Invoice and mail


@step
def store_invoice(order: Order, total: Decimal) -> str:
    customer = records.customer(order.customer)
    return app.file.put(f"invoices/{order.id}.txt", invoice_text(order, customer, total).encode()).key


@store_invoice.compensate
def remove_invoice(order: Order, total: Decimal, invoice: str) -> None:
    app.file.delete(invoice)


def invoice_text(order: Order, customer: Customer, total: Decimal) -> str:
    lines = [
        f"{line.quantity:>5} x {records.name_of(line.product):<40} {amount(line).quantize(CENT):>10}"
        for line in order.lines
    ]
    return "\n".join([f"Invoice {order.id} for {customer.company}", *lines, f"{'Total':<48} {total:>10}", ""])


@step(attempts=3)
def tell_customer(order: Order, total: Decimal) -> None:
    customer = records.customer(order.customer)
    app.notification.send(
        to=customer.email,
        channel="email",
        template="order-placed",
        data={"customer": customer, "order": order.id, "lines": len(order.lines), "total": total},
        idempotency_key=f"order-{order.id}-placed-{records.price_list}",
        resource=("order", str(order.id)),
    )
