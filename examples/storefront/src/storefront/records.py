"""The shop's own records: what a database would hold.

Stock is not guarded here: that two orders never take the same unit is what the locks of `orders.py` are for.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from decimal import Decimal
from uuid import uuid4

from storefront.models import Customer, Order, OrderPlaced, Product, StockLow
from storefront.reading import Shop


class Records:
    """Prices, stock, sales and loyalty points, and enough history to check the books."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.load(Shop({}, {}, ()))

    def load(self, shop: Shop) -> None:
        """Begin a new day with a shop's catalogue and customers."""
        self.price_list = uuid4().hex
        self.products = shop.products
        self.customers = shop.customers
        self.stock = {product.id: product.in_stock for product in shop.products.values()}
        self.prices = {product.id: product.price for product in shop.products.values()}
        self.price_changes = 0
        self.lowest: dict[int, int] = dict(self.stock)
        self.taken: dict[int, Counter[int]] = {}
        self.put_back_orders: set[int] = set()
        self.restocked: Counter[int] = Counter()
        self.sales: dict[int, Decimal] = {}
        self.points: defaultdict[str, int] = defaultdict(int)
        self.handled: Counter[tuple[str, str]] = Counter()

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
        missing = {product: units - self.stock[product] for product, units in units_of(order).items()}
        return {product: units for product, units in missing.items() if units > 0}

    def take(self, order: Order) -> list[int]:
        """Take the units of an order, once. Returns the products at or under their reorder level."""
        units = units_of(order)
        if order.id not in self.taken:
            self.taken[order.id] = units
            for product, count in units.items():
                self._move(product, -count)
        return [product for product in units if self._is_low(self.products[product])]

    def put_back(self, order: Order) -> None:
        """Undo `take`, once."""
        if order.id in self.taken and order.id not in self.put_back_orders:
            self.put_back_orders.add(order.id)
            for product, count in self.taken[order.id].items():
                self._move(product, count)

    def restock(self, event: str, low: StockLow) -> None:
        """Have units delivered, unless the product is discontinued or enough came in meanwhile."""
        product = self.products[low.product]
        if not product.discontinued and (low.missing or self._is_low(product)):
            units = low.missing + 5 * max(product.reorder_level, 20)
            self.restocked[product.id] += units
            self._move(product.id, units)
        self._note("reordering", event)

    def _is_low(self, product: Product) -> bool:
        return self.stock[product.id] <= product.reorder_level

    def _move(self, product: int, units: int) -> None:
        self.stock[product] += units
        self.lowest[product] = min(self.lowest[product], self.stock[product])

    # After the order

    def add_sale(self, event: str, placed: OrderPlaced) -> None:
        self._note("sales-report", event)
        self.sales[placed.order] = placed.total

    def add_points(self, event: str, placed: OrderPlaced) -> None:
        """Give one point for every ten spent."""
        self._note("loyalty", event)
        with self._lock:
            self.points[placed.customer] += int(placed.total // 10)

    def _note(self, subscriber: str, event: str) -> None:
        with self._lock:
            self.handled[subscriber, event] += 1


def units_of(order: Order) -> Counter[int]:
    """Return how many units of each product an order asks for."""
    units: Counter[int] = Counter()
    for line in order.lines:
        units[line.product] += line.quantity
    return units


records = Records()
