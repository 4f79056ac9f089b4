"""The whole shop: a day's trading through all six modules, and books that balance."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from storefront import main
from storefront.app import app
from storefront.books import check_books
from storefront.gateway import gateway
from storefront.models import Customer, OrderPlaced
from storefront.reading import Shop, read_shop
from storefront.records import move, records
from storefront.trading import Outcome, trade
from typer.testing import CliRunner

runner = CliRunner()
typed = main.command()


@pytest.fixture(autouse=True)
def fresh_gateway() -> Iterator[None]:
    gateway.clear()
    yield
    gateway.clear()


def day(shop: Shop, folder: Path) -> Iterator[Outcome]:
    places = {"file": {"root": str(folder / "files")}, "notification": {"outbox_dir": str(folder / "mails")}}
    with app.override(places):
        yield trade(shop, lambda: None)


@pytest.mark.timeout(180)
def test_the_own_shop_balances(tmp_path: Path) -> None:
    """300 orders: most are placed, some are declined, some are out of stock, and every unit is accounted for."""
    shop = read_shop(main.OWN_SHOP)
    for outcome in day(shop, tmp_path):
        assert [] == check_books(shop, outcome)
        assert {"Declined", "OutOfStock"} == set(outcome.reasons)
        assert len(outcome.placed) > 200
        assert sum(order.id % 23 == 0 for order in shop.orders) >= outcome.reasons["Declined"] > 0
        assert gateway.timeouts > 0
        assert sum(records.restocked.values()) > 0
        assert app.cache.stats().hits > 300
        loyalty = next(lane for lane in app.event.lanes() if lane.subscription == "loyalty")
        assert loyalty.retried == sum(order % 10 == 0 for order in outcome.placed)
        check_a_mail(tmp_path, shop)
        placed = min(outcome.placed)
        assert b"Invoice" in app.file.read(f"invoices/{placed}.txt")


def check_a_mail(folder: Path, shop: Shop) -> None:
    mail = message_from_bytes(next((folder / "mails").rglob("*.eml")).read_bytes(), policy=policy.default)
    assert "shop@example.com" in mail["From"]
    assert "is on its way" in mail["Subject"]
    assert any(customer.email in mail["To"] for customer in shop.customers.values())


@pytest.mark.timeout(300)
def test_northwind_balances(northwind: Path, tmp_path: Path) -> None:
    """830 real orders with 2,155 lines and prices that change on the way."""
    shop = read_shop(northwind)
    for outcome in day(shop, tmp_path):
        assert [] == check_books(shop, outcome)
        assert 830 == len(outcome.placed) + len(outcome.compensated)
        assert records.price_changes > 90


@pytest.mark.parametrize("cheat", ["stock", "payment", "invoice", "event", "sale"])
def test_books_that_do_not_balance_are_found_out(tmp_path: Path, cheat: str) -> None:
    """The audit can fail: each kind of loss is told."""
    whole = read_shop(main.OWN_SHOP)
    shop = whole._replace(orders=whole.orders[:12])
    for outcome in day(shop, tmp_path):
        assert [] == check_books(shop, outcome)
        order = min(outcome.placed)
        if cheat == "stock":
            with records.database.transaction() as rows:
                move(rows, 1, -1)
        elif cheat == "payment":
            gateway.charge(order, Decimal(1), idempotency_key="twice")
        elif cheat == "invoice":
            app.file.delete(f"invoices/{order}.txt")
        elif cheat == "event":
            records.add_points("again", OrderPlaced(order, "X", Decimal(0)))
        else:
            with records.database.transaction() as rows:
                rows.execute("DELETE FROM sale WHERE number = ?", (order,))
        assert [] != check_books(shop, outcome)


def test_an_order_that_fails_at_the_last_step_is_undone_whole(tmp_path: Path) -> None:
    """A mail that cannot be sent: the invoice goes, the money and the units come back, and nobody is told."""
    whole = read_shop(main.OWN_SHOP)
    order = next(order for order in whole.orders if order.id % 23 and order.id % 17)
    unreachable = Customer("no such address", "Nobody & Sons", "Nobody")
    customers = {**whole.customers, order.customer: unreachable}
    for outcome in day(whole._replace(orders=(order,), customers=customers), tmp_path):
        assert {order.id} == set(outcome.compensated)
        assert 1 == len(gateway.payments) == len(gateway.refunded)
        assert [] == check_books(whole._replace(orders=(order,)), outcome)
        assert [] == list(app.file.list("invoices/"))
        assert {} == records.sales


def test_the_command_prints_a_summary(tmp_path: Path) -> None:
    """Progress, a table, and the verdict; exit code 0."""
    result = runner.invoke(typed, ["--out", str(tmp_path)])
    assert 0 == result.exit_code, result.output
    for text in ("Orders", "compensated: OutOfStock", "Mails", "Cache hits", "Orders a second", "The books balance."):
        assert text in result.output


def test_the_command_exits_1_when_the_books_do_not_balance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says what is wrong."""

    def unbalanced(shop: Shop, outcome: Outcome) -> list[str]:
        return ["stock of tea: 3 units, 4 in the books"]

    monkeypatch.setattr(main, "check_books", unbalanced)
    result = runner.invoke(typed, ["--out", str(tmp_path)])
    assert 1 == result.exit_code
    assert "3 units, 4 in the books" in result.output


def test_the_command_refuses_bad_data_with_one_line_and_writes_nothing(tmp_path: Path) -> None:
    """Exit code 2, no traceback, no folder."""
    out = tmp_path / "out"
    result = runner.invoke(typed, ["--data", str(tmp_path), "--out", str(out)])
    assert 2 == result.exit_code
    assert "products.csv: cannot be read: No such file or directory" in result.output
    assert not out.exists()
