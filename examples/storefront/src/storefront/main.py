"""The command: `storefront [--data DIR] [--out DIR]`."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from storefront.app import app
from storefront.books import check_books
from storefront.reading import DataError, Shop, read_shop
from storefront.summary import summarise
from storefront.trading import Outcome, trade

OWN_SHOP = Path(__file__).parent / "data"

console = Console()
errors = Console(stderr=True)


def run(
    data: Annotated[
        Path, typer.Option(help="A folder with products, customers, orders and order-details as CSV.")
    ] = OWN_SHOP,
    out: Annotated[
        Path | None, typer.Option(help="Where invoices and mails go. Default: a new temporary folder.")
    ] = None,
) -> None:
    """Run every order of a shop through all six modules of Pilotis, then check the books."""
    try:
        shop = read_shop(data)
    except DataError as error:
        errors.print(f"[red]{error}[/red]", soft_wrap=True)
        raise typer.Exit(2) from None
    folder = out or Path(tempfile.mkdtemp(prefix="storefront-"))
    keep_log(folder)
    if not open_for_business(shop, folder):
        raise typer.Exit(1)


def open_for_business(shop: Shop, folder: Path) -> bool:
    """Trade for a day and print how it went. Returns whether the books balance."""
    places = {"file": {"root": str(folder / "files")}, "notification": {"outbox_dir": str(folder / "mails")}}
    with app.override(places):
        start = time.perf_counter()
        outcome = trade_with_progress(shop)
        console.print(table_of(summarise(outcome, time.perf_counter() - start)))
        console.print(f"Invoices, mails and the log are in {folder}", soft_wrap=True)
        return report(check_books(shop, outcome))


def keep_log(folder: Path) -> None:
    """Write the log to a file: the retries in it would tear the progress bar apart."""
    folder.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=folder / "storefront.log", level=logging.INFO, force=True)


def trade_with_progress(shop: Shop) -> Outcome:
    columns = (TextColumn("Taking orders"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("orders", total=len(shop.orders))
        return trade(shop, lambda: progress.advance(bar))


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
