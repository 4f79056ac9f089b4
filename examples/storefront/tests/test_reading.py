"""Reading a shop: bad input is one clear line with file, row and column."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from storefront.main import OWN_SHOP
from storefront.reading import DataError, read_shop

Edit = Callable[[str], str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shop's own data, to break."""
    return Path(shutil.copytree(OWN_SHOP, tmp_path / "data"))


def edit_row(file: Path, row: int, column: str, value: str) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    position = lines[0].split(",").index(column)
    cells = lines[row - 1].split(",")
    cells[position] = value
    lines[row - 1] = ",".join(cells)
    file.write_text("\n".join(lines), encoding="utf-8")


def test_the_shops_own_data_is_whole() -> None:
    """About forty products, 25 customers and 300 orders."""
    shop = read_shop(OWN_SHOP)
    assert (40, 25, 300) == (len(shop.products), len(shop.customers), len(shop.orders))
    assert sorted(order.id for order in shop.orders) == [order.id for order in shop.orders]


def test_the_generator_makes_the_data_that_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its seed is fixed."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("generate", OWN_SHOP.parents[2] / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    monkeypatch.setattr(generate, "FOLDER", tmp_path)
    generate.main()
    for file in OWN_SHOP.glob("*.csv"):
        assert file.read_bytes() == (tmp_path / file.name).read_bytes()


@pytest.mark.parametrize(
    ("file", "row", "column", "value", "message"),
    [
        (
            "products.csv",
            3,
            "unitPrice",
            "cheap",
            "products.csv, row 3, column unitPrice: expected a number, got 'cheap'",
        ),
        ("products.csv", 3, "unitPrice", "-1", "row 3, column unitPrice: expected a number that is not negative"),
        ("products.csv", 3, "unitPrice", "NaN", "row 3, column unitPrice: expected a number that is not negative"),
        ("products.csv", 4, "unitsInStock", "1.5", "row 4, column unitsInStock: expected a whole number, got '1.5'"),
        ("products.csv", 4, "productName", " ", "row 4, column productName: expected some text"),
        ("products.csv", 4, "productID", "1", "row 4, column productID: expected a value that no row above has"),
        ("order-details.csv", 5, "productID", "999", "row 5, column productID: expected a product of products.csv"),
        ("order-details.csv", 5, "quantity", "-3", "row 5, column quantity: expected a whole number of at least 1"),
        ("order-details.csv", 5, "discount", "1.5", "row 5, column discount: expected a number of at most 1"),
        ("order-details.csv", 5, "orderID", "77", "order 77 is not in orders.csv"),
        ("orders.csv", 2, "customerID", "NOBODY", "row 2, column customerID: expected a customer of customers.csv"),
        ("orders.csv", 2, "orderID", "9999", "row 2, column orderID: expected an order with lines"),
        ("orders.csv", 1, "customerID", "who", "orders.csv, row 1: expected a column customerID"),
    ],
)
def test_a_bad_value_is_named_with_its_place(  # noqa: PLR0917 - a table of cases
    folder: Path, file: str, row: int, column: str, value: str, message: str
) -> None:
    """File, row, column, what was expected and what was there."""
    edit_row(folder / file, row, column, value)
    with pytest.raises(DataError, match=message):
        read_shop(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    """Any of the four."""
    (folder / "customers.csv").unlink()
    with pytest.raises(DataError, match=r"customers\.csv: cannot be read: No such file"):
        read_shop(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "row 1: expected a column productID, got nothing"),
        (b"\xff\xfe\x00bad", "cannot be read: 'utf-8' codec"),
        (b"productID,productName,unitPrice,unitsInStock,reorderLevel,discontinued\n1,2\n", "row 2: expected 6 columns"),
    ],
)
def test_garbage_is_refused(folder: Path, content: bytes, message: str) -> None:
    """An empty file, one that is no text, a row that is too short."""
    (folder / "products.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_shop(folder)


def test_addresses_with_unquoted_commas_are_put_together(folder: Path) -> None:
    """Real data has them; the columns after the address keep their values."""
    rows = (folder / "customers.csv").read_text(encoding="utf-8").splitlines()
    cells = rows[1].split(",")
    cells[3] = "Harbour Street, 12, rear"
    rows[1] = ",".join(cells)
    (folder / "customers.csv").write_text("\n".join(rows), encoding="utf-8")
    assert 25 == len(read_shop(folder).customers)


def test_northwind_is_read_whole(northwind: Path) -> None:
    """830 orders with 2,155 lines, of 91 customers, for 77 products."""
    shop = read_shop(northwind)
    assert (830, 2155) == (len(shop.orders), sum(len(order.lines) for order in shop.orders))
    assert (91, 77) == (len(shop.customers), len(shop.products))
    assert Decimal("14.00") == shop.orders[0].lines[0].price
