"""Reading a shop from a folder of CSV files: all of it is checked before anything is done with it."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from storefront.models import Customer, Line, Order, Product

ItemT = TypeVar("ItemT", Product, Customer, Order)


class Shop(NamedTuple):
    """A catalogue, customers, and the orders in the order of their numbers."""

    products: dict[int, Product]
    customers: dict[str, Customer]
    orders: tuple[Order, ...]


class DataError(Exception):
    """Something in the folder cannot be used. The message names file, row and column."""


def read_shop(folder: Path) -> Shop:
    """Read `products.csv`, `customers.csv`, `orders.csv` and `order-details.csv`. Raises `DataError`."""
    products = dict(_unique(folder / "products.csv", PRODUCT_COLUMNS, _product))
    customers = dict(_unique(folder / "customers.csv", CUSTOMER_COLUMNS, _customer))
    lines = _read_lines(folder / "order-details.csv", products)
    orders = _read_orders(folder / "orders.csv", customers, lines)
    return Shop(products, customers, orders)


PRODUCT_COLUMNS = ("productID", "productName", "unitPrice", "unitsInStock", "reorderLevel", "discontinued")
CUSTOMER_COLUMNS = ("customerID", "companyName", "contactName")
ORDER_COLUMNS = ("orderID", "customerID")
LINE_COLUMNS = ("orderID", "productID", "unitPrice", "quantity", "discount")

# Addresses hold commas that nobody quoted: what a row has too much belongs to this column.
ADDRESS_COLUMNS = ("address", "shipAddress")


class Row(NamedTuple):
    """One row of a file, which knows its place."""

    file: str
    number: int
    values: dict[str, str]

    def error(self, column: str, expected: str) -> DataError:
        return DataError(
            f"{self.file}, row {self.number}, column {column}: expected {expected}, got {self.values[column]!r}"
        )

    def text(self, column: str) -> str:
        value = self.values[column].strip()
        if not value:
            raise self.error(column, "some text")
        return value

    def integer(self, column: str, minimum: int = 0) -> int:
        try:
            value = int(self.values[column])
        except ValueError:
            raise self.error(column, "a whole number") from None
        if value < minimum:
            raise self.error(column, f"a whole number of at least {minimum}")
        return value

    def decimal(self, column: str, maximum: Decimal | None = None) -> Decimal:
        try:
            value = Decimal(self.values[column])
        except InvalidOperation:
            raise self.error(column, "a number") from None
        if not value.is_finite() or value < 0:
            raise self.error(column, "a number that is not negative")
        if maximum is not None and value > maximum:
            raise self.error(column, f"a number of at most {maximum}")
        return value


def _product(row: Row) -> Product:
    return Product(
        id=row.integer("productID"),
        name=row.text("productName"),
        price=row.decimal("unitPrice"),
        in_stock=row.integer("unitsInStock"),
        reorder_level=row.integer("reorderLevel"),
        discontinued=bool(row.integer("discontinued")),
    )


def _customer(row: Row) -> Customer:
    return Customer(row.text("customerID"), row.text("companyName"), row.text("contactName"))


def _read_lines(file: Path, products: dict[int, Product]) -> dict[int, list[Line]]:
    lines: defaultdict[int, list[Line]] = defaultdict(list)
    for row in _rows(file, LINE_COLUMNS):
        product = row.integer("productID")
        if product not in products:
            raise row.error("productID", "a product of products.csv")
        line = Line(product, row.decimal("unitPrice"), row.integer("quantity", 1), row.decimal("discount", Decimal(1)))
        lines[row.integer("orderID")].append(line)
    return lines


def _read_orders(file: Path, customers: dict[str, Customer], lines: dict[int, list[Line]]) -> tuple[Order, ...]:
    def order(row: Row) -> Order:
        if row.text("customerID") not in customers:
            raise row.error("customerID", "a customer of customers.csv")
        number = row.integer("orderID")
        if number not in lines:
            raise row.error("orderID", "an order with lines in order-details.csv")
        return Order(number, row.text("customerID"), tuple(lines[number]))

    orders = dict(_unique(file, ORDER_COLUMNS, order))
    for number in lines:
        if number not in orders:
            raise DataError(f"order-details.csv, column orderID: order {number} is not in {file.name}")
    return tuple(orders[number] for number in sorted(orders))


def _unique(file: Path, columns: tuple[str, ...], make: Callable[[Row], ItemT]) -> Iterator[tuple[Any, ItemT]]:
    """Read a file whose first column of interest identifies its rows."""
    seen: set[int | str] = set()
    for row in _rows(file, columns):
        item = make(row)
        if item.id in seen:
            raise row.error(columns[0], "a value that no row above has")
        seen.add(item.id)
        yield item.id, item


def _rows(file: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            yield from _checked(file.name, csv.reader(lines), columns)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file.name}: cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _checked(name: str, rows: Iterator[list[str]], columns: tuple[str, ...]) -> Iterator[Row]:
    header = next(rows, list[str]())
    for column in columns:
        if column not in header:
            raise DataError(f"{name}, row 1: expected a column {column}, got {', '.join(header) or 'nothing'}")
    for number, values in enumerate(rows, 2):
        if not values:
            continue
        folded = _fold(values, header)
        if len(folded) != len(header):
            raise DataError(f"{name}, row {number}: expected {len(header)} columns, got {len(values)}")
        yield Row(name, number, dict(zip(header, folded, strict=True)))


def _fold(values: list[str], header: list[str]) -> list[str]:
    """Put the parts of an address with unquoted commas together again."""
    extra = len(values) - len(header)
    start = next((header.index(column) for column in ADDRESS_COLUMNS if column in header), None)
    if extra <= 0 or start is None:
        return values
    return [*values[:start], ",".join(values[start : start + extra + 1]), *values[start + extra + 1 :]]
