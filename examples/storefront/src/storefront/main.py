"""The command: `storefront [--data DIR] [--out DIR] [--on production [--kill]]`."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from storefront.app import app
from storefront.books import check_books, check_until_balanced
from storefront.reading import DataError, Shop, read_shop
from storefront.records import records
from storefront.summary import summarise
from storefront.trading import Outcome, trade

OWN_SHOP = Path(__file__).parent / "data"

console = Console()
errors = Console(stderr=True)


class Place(StrEnum):
    """Where the shop runs."""

    here = "here"
    production = "production"


def run(
    data: Annotated[
        Path, typer.Option(help="A folder with products, customers, orders and order-details as CSV.")
    ] = OWN_SHOP,
    out: Annotated[
        Path | None, typer.Option(help="Where invoices, mails and logs go. Default: a new temporary folder.")
    ] = None,
    on: Annotated[
        Place,
        typer.Option(help="In this process alone, or on servers: those that PILOTIS_* variables name, or new ones."),
    ] = Place.here,
    kill: Annotated[
        bool, typer.Option("--kill", help="In production: kill one of the two workers in the middle of the day.")
    ] = False,
) -> None:
    """Run every order of a shop through all six modules of Pilotis, then check the books."""
    try:
        shop = read_shop(data)
    except DataError as error:
        errors.print(f"[red]{error}[/red]", soft_wrap=True)
        raise typer.Exit(2) from None
    folder = out or Path(tempfile.mkdtemp(prefix="storefront-"))
    keep_log(folder)
    balanced = in_business(shop, folder, kill=kill) if on is Place.production else open_for_business(shop, folder)
    if not balanced:
        raise typer.Exit(1)


def open_for_business(shop: Shop, folder: Path) -> bool:
    """Trade for a day in this process, and print how it went. Returns whether the books balance."""
    places = {"file": {"root": str(folder / "files")}, "notification": {"outbox_dir": str(folder / "mails")}}
    with app.override(places):
        return spend_a_day(shop, folder, lambda: None, check_books)


def in_business(shop: Shop, folder: Path, *, kill: bool) -> bool:
    """The same on servers. This process takes orders, and workers do all the rest."""
    from storefront.production import NoServer, in_production

    try:
        with in_production(folder) as staff, app.override(role="emit"):
            half = at_call(len(shop.orders) // 2, staff.kill) if kill else lambda: None
            return spend_a_day(shop, folder, half, check_until_balanced)
    except NoServer as error:
        errors.print(f"[red]{error}[/red]", soft_wrap=True)
        raise typer.Exit(2) from None
    finally:
        records.database.close()


def at_call(number: int, act: Callable[[], object]) -> Callable[[], object]:
    """Return a function that does something when it is called for that time."""
    calls = count(1)
    return lambda: act() if next(calls) == number else None


def spend_a_day(
    shop: Shop, folder: Path, after_each: Callable[[], object], check: Callable[[Shop, Outcome], list[str]]
) -> bool:
    start = time.perf_counter()
    outcome = trade_with_progress(shop, after_each)
    differences = check(shop, outcome)
    console.print(table_of(summarise(outcome, time.perf_counter() - start)))
    console.print(f"Invoices, mails and logs are in {folder}", soft_wrap=True)
    return report(differences)


def keep_log(folder: Path) -> None:
    """Write the log to a file: the retries in it would tear the progress bar apart."""
    folder.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=folder / "storefront.log", level=logging.INFO, force=True)


def trade_with_progress(shop: Shop, after_each: Callable[[], object]) -> Outcome:
    columns = (TextColumn("Taking orders"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("orders", total=len(shop.orders))

        def advance() -> None:
            progress.advance(bar)
            after_each()

        return trade(shop, advance)


def table_of(rows: dict[str, str]) -> Table:
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def report(differences: list[str]) -> bool:
    for difference in differences:
        errors.print(f"[red]{difference}[/red]", soft_wrap=True)
    if not differences:
        console.print("[green]The books balance.[/green]")
    return not differences


def command() -> typer.Typer:
    """Return the command, for the command line and for tests."""
    typed = typer.Typer(add_completion=False)
    typed.command()(run)
    return typed


def main() -> None:
    """Run the command."""
    command()()
