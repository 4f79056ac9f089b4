"""The shop's own records. Prices are this process's; stock, sales and points are in the database that all share.

Stock is not guarded here: that two orders never take the same unit is what the locks of `orders.py` are for.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from decimal import Decimal
from typing import Any
from uuid import uuid4

from storefront.database import Database
from storefront.models import Customer, Order, OrderPlaced, StockLow
from storefront.reading import Shop


class Records:
    """Prices, stock, sales and loyalty points, and enough history to check the books."""

    def __init__(self) -> None:
        self.database = Database()
        self._begin(Shop({}, {}, ()))

    def load(self, shop: Shop) -> None:
        """Begin a new day with a shop's catalogue and customers."""
        self._begin(shop)
        self.database.close()
        with self.database.transaction() as rows:
            for table in ("product", "sale", "account", "handled"):
                rows.execute(f"DELETE FROM {table}")  # noqa: S608 - these four
            rows.executemany(
                "INSERT INTO product (id, stock, lowest, reorder_level, discontinued) VALUES (?, ?, ?, ?, ?)",
                [(it.id, it.in_stock, it.in_stock, it.reorder_level, it.discontinued) for it in shop.products.values()],
            )

    def _begin(self, shop: Shop) -> None:
        self.price_list = uuid4().hex
        self.products = shop.products
        self.customers = shop.customers
        self.prices = {product.id: product.price for product in shop.products.values()}
        self.price_changes = 0
        self.taken: dict[int, Counter[int]] = {}
        self.put_back_orders: set[int] = set()

    # Catalogue

    def name_of(self, product: int) -> str:
        return self.products[product].name

    def customer(self, customer: str) -> Customer:
        return self.customers[customer]

    def price_of(self, product: int) -> Decimal:
        return self.prices[product]

    def set_price(self, product: int, price: Decimal) -> None:
        self.prices[product] = price
        self.price_changes += 1

    # Stock: called with the products locked

    def shortages(self, order: Order) -> dict[int, int]:
        """Return how many units of which product are missing for an order."""
        stock = self.stock
        missing = {product: units - stock[product] for product, units in units_of(order).items()}
        return {product: units for product, units in missing.items() if units > 0}

    def take(self, order: Order) -> list[int]:
        """Take the units of an order, once. Returns the products at or under their reorder level."""
        units = units_of(order)
        with self.database.transaction() as rows:
            if order.id not in self.taken:
                self.taken[order.id] = units
                for product, count in units.items():
                    move(rows, product, -count)
            return [product for product in units if is_low(rows, product)]

    def put_back(self, order: Order) -> None:
        """Undo `take`, once."""
        if order.id in self.taken and order.id not in self.put_back_orders:
            self.put_back_orders.add(order.id)
            with self.database.transaction() as rows:
                for product, count in self.taken[order.id].items():
                    move(rows, product, count)

    # What handlers write: each event once, however often it is delivered

    def restock(self, event: str, low: StockLow) -> None:
        """Have units delivered, unless the product is discontinued or enough came in meanwhile."""
        with self.database.transaction() as rows:
            if is_new(rows, "reordering", event) and (low.missing or is_low(rows, low.product)):
                order_units(rows, low)

    def add_sale(self, event: str, placed: OrderPlaced) -> None:
        with self.database.transaction() as rows:
            if is_new(rows, "sales-report", event):
                rows.execute("INSERT OR REPLACE INTO sale VALUES (?, ?)", (placed.order, str(placed.total)))

    def add_points(self, event: str, placed: OrderPlaced) -> None:
        """Give one point for every ten spent."""
        with self.database.transaction() as rows:
            if is_new(rows, "loyalty", event):
                rows.execute(
                    "INSERT INTO account VALUES (?, ?) ON CONFLICT DO UPDATE SET points = points + excluded.points",
                    (placed.customer, points_for(placed.total)),
                )

    # What there is, and what was done

    @property
    def stock(self) -> dict[int, int]:
        return dict(self._rows("SELECT id, stock FROM product"))

    @property
    def lowest(self) -> dict[int, int]:
        """How little there was of each product, at the worst time of the day."""
        return dict(self._rows("SELECT id, lowest FROM product"))

    @property
    def restocked(self) -> dict[int, int]:
        return dict(self._rows("SELECT id, restocked FROM product"))

    @property
    def sales(self) -> dict[int, Decimal]:
        return {number: Decimal(total) for number, total in self._rows("SELECT number, total FROM sale")}

    @property
    def points(self) -> int:
        """All points that customers have."""
        return sum(points for (points,) in self._rows("SELECT points FROM account"))

    @property
    def handled(self) -> dict[tuple[str, str], int]:
        """By subscriber and event, the process that handled it."""
        rows = self._rows("SELECT subscriber, event, process FROM handled")
        return {(subscriber, event): process for subscriber, event, process in rows}

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.database.transaction() as rows:
            return rows.execute(query).fetchall()


def is_new(rows: sqlite3.Connection, subscriber: str, event: str) -> bool:
    """Note who handles an event. Return whether nobody has: at least once may be twice."""
    noted = rows.execute("INSERT OR IGNORE INTO handled VALUES (?, ?, ?)", (subscriber, event, os.getpid()))
    return noted.rowcount == 1


def is_low(rows: sqlite3.Connection, product: int) -> bool:
    """Tell whether there is little left of a product."""
    [(is_so,)] = rows.execute("SELECT stock <= reorder_level FROM product WHERE id = ?", (product,))
    return bool(is_so)


def move(rows: sqlite3.Connection, product: int, units: int) -> None:
    """Put units of a product into the stock, or take them out."""
    rows.execute(
        "UPDATE product SET stock = stock + :units, lowest = min(lowest, stock + :units) WHERE id = :product",
        {"product": product, "units": units},
    )


def order_units(rows: sqlite3.Connection, low: StockLow) -> None:
    """Have units of a product come in, unless it is discontinued."""
    query = "SELECT reorder_level, discontinued FROM product WHERE id = ?"
    [(reorder_level, is_discontinued)] = rows.execute(query, (low.product,))
    if not is_discontinued:
        units = low.missing + 5 * max(reorder_level, 20)
        rows.execute("UPDATE product SET restocked = restocked + ? WHERE id = ?", (units, low.product))
        move(rows, low.product, units)


def points_for(total: Decimal) -> int:
    return int(total // 10)


def units_of(order: Order) -> Counter[int]:
    """Return how many units of each product an order asks for."""
    units: Counter[int] = Counter()
    for line in order.lines:
        units[line.product] += line.quantity
    return units


records = Records()
