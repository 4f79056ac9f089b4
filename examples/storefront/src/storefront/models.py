"""What the shop talks about."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct


class Product(Struct, frozen=True):
    id: int
    name: str
    price: Decimal
    in_stock: int
    reorder_level: int
    discontinued: bool


class Customer(Struct, frozen=True):
    id: str
    company: str
    contact: str

    @property
    def email(self) -> str:
        return f"{self.id.lower()}@example.com"


class Line(Struct, frozen=True):
    product: int
    price: Decimal
    """The price in the list on the day of the order."""
    quantity: int
    discount: Decimal


class Order(Struct, frozen=True):
    id: int
    customer: str
    lines: tuple[Line, ...]


class Payment(Struct, frozen=True):
    id: str
    amount: Decimal


class Receipt(Struct, frozen=True):
    order: int
    total: Decimal
    payment: str
    invoice: str


class OrderPlaced(Struct, frozen=True):
    order: int
    customer: str
    total: Decimal


class StockLow(Struct, frozen=True):
    product: int
    missing: int
    """How many units an order asked for and did not get; 0 when there is just little left."""
