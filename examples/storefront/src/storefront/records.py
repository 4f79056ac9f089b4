"""The shop's own records, in the database that all its processes share.

Stock is not guarded here: that two orders never take the same unit is what the locks of `orders.py` are for.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

from storefront.database import NAMES, Rows, database
from storefront.models import Customer, Order, OrderPlaced, StockLow
from storefront.reading import Shop

Announce = Callable[[Any, list[int]], object]
"""Told of the products of which little is left, with the connection that knows so first."""


class Records:
    """Prices, stock, sales and loyalty points, and enough history to check the books."""

    def __init__(self) -> None:
        self.database = database
        self.price_changes = 0
        self.began = datetime.now(UTC)

    def load(self, shop: Shop) -> None:
        """Begin a new day with a shop's catalogue and customers."""
        self.price_changes = 0
        self.began = datetime.now(UTC)
        self.database.close()
        with self.database.transaction() as rows:
            for table in NAMES:
                rows.execute(f"DELETE FROM {table}")  # noqa: S608 - our own tables
            rows.execute("INSERT INTO today VALUES (?)", (uuid4().hex,))
            for it in shop.products.values():
                rows.execute(
                    "INSERT INTO product (id, name, price, stock, lowest, reorder_level, discontinued) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (it.id, it.name, str(it.price), it.in_stock, it.in_stock, it.reorder_level, int(it.discontinued)),
                )
            for customer in shop.customers.values():
                values = (customer.id, customer.company, customer.contact)
                rows.execute("INSERT INTO customer VALUES (?, ?, ?)", values)

    @property
    def price_list(self) -> str:
        """The name of today's prices."""
        [(name,)] = self._rows("SELECT price_list FROM today")
        return name

    # Catalogue

    def name_of(self, product: int) -> str:
        [(name,)] = self._rows("SELECT name FROM product WHERE id = ?", product)
        return name

    def customer(self, customer: str) -> Customer:
        [row] = self._rows("SELECT id, company, contact FROM customer WHERE id = ?", customer)
        return Customer(*row)

    def price_of(self, product: int) -> Decimal:
        [(price,)] = self._rows("SELECT price FROM product WHERE id = ?", product)
        return Decimal(price)

    @property
    def prices(self) -> dict[int, Decimal]:
        return {product: Decimal(price) for product, price in self._rows("SELECT id, price FROM product")}

    def set_price(self, product: int, price: Decimal) -> None:
        with self.database.transaction() as rows:
            rows.execute("UPDATE product SET price = ? WHERE id = ?", (str(price), product))
        self.price_changes += 1

    # Stock: called with the products locked

    def shortages(self, order: Order) -> dict[int, int]:
        """Return how many units of which product are missing for an order."""
        stock = self.stock
        missing = {product: units - stock[product] for product, units in units_of(order).items()}
        return {product: units for product, units in missing.items() if units > 0}

    def take(self, order: Order, announce: Announce) -> None:
        """Take the units of an order, once, and announce the products that are at or under their reorder level then."""
        units = units_of(order)
        with self.database.transaction() as rows:
            query = "INSERT INTO taken (number, units) VALUES (?, ?) ON CONFLICT DO NOTHING"
            if rows.execute(query, (order.id, units.total())).rowcount == 1:
                for product, count in units.items():
                    move(rows, product, -count)
                announce(rows.connection, [product for product in units if is_low(rows, product)])

    def put_back(self, order: Order) -> None:
        """Undo `take`, once."""
        with self.database.transaction() as rows:
            query = "UPDATE taken SET is_back = 1 WHERE number = ? AND is_back = 0"
            if rows.execute(query, (order.id,)).rowcount == 1:
                for product, count in units_of(order).items():
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
                rows.execute("INSERT INTO sale VALUES (?, ?)", (placed.order, str(placed.total)))

    def add_points(self, event: str, placed: OrderPlaced) -> None:
        """Give one point for every ten spent."""
        with self.database.transaction() as rows:
            if is_new(rows, "loyalty", event):
                rows.execute(
                    "INSERT INTO account VALUES (?, ?) "
                    "ON CONFLICT (customer) DO UPDATE SET points = account.points + excluded.points",
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
    def units_taken(self) -> int:
        """Of all orders, those that were put back too."""
        return sum(units for (units,) in self._rows("SELECT units FROM taken"))

    @property
    def units_put_back(self) -> int:
        return sum(units for (units,) in self._rows("SELECT units FROM taken WHERE is_back = 1"))

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

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.database.looking() as rows:
            return rows.execute(query, values).fetchall()


def is_new(rows: Rows, subscriber: str, event: str) -> bool:
    """Note who handles an event. Return whether nobody has: at least once may be twice."""
    noted = rows.execute(
        "INSERT INTO handled VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (subscriber, event, os.getpid())
    )
    return noted.rowcount == 1


def is_low(rows: Rows, product: int) -> bool:
    """Tell whether there is little left of a product."""
    [(is_so,)] = rows.execute("SELECT stock <= reorder_level FROM product WHERE id = ?", (product,))
    return bool(is_so)


def move(rows: Rows, product: int, units: int) -> None:
    """Put units of a product into the stock, or take them out."""
    rows.execute(
        "UPDATE product SET stock = stock + :units, "
        "lowest = CASE WHEN stock + :units < lowest THEN stock + :units ELSE lowest END WHERE id = :product",
        {"product": product, "units": units},
    )


def order_units(rows: Rows, low: StockLow) -> None:
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
