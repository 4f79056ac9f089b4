"""What commands print: tables for people, one JSON document for programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, TypeVar

import msgspec
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

T = TypeVar("T")
Row = Mapping[str, object]


def show(items: Sequence[T], *, as_json: bool, row: Callable[[T], Row], nothing: str) -> None:
    """Print a list: an array for programs, for people a table with a line for each, or the sentence `nothing`."""
    if as_json:
        print_json(items)
    elif items:
        print_table([row(item) for item in items])
    else:
        typer.echo(nothing)


def tell(sentence: str, data: object, *, as_json: bool) -> None:
    """Print what was done: a document for programs, a sentence for people."""
    if as_json:
        print_json(data)
    else:
        typer.echo(sentence)


def tell_changes(changes: Sequence[str], *, as_json: bool) -> None:
    """Print what a migration made, a line for each change."""
    tell("\n".join(changes) or "Nothing has to be made.", {"changes": changes}, as_json=as_json)


def print_json(data: object) -> None:
    """Print one document on one line."""
    typer.echo(msgspec.json.encode(data, enc_hook=str).decode())


def progress(what: str) -> AbstractContextManager[object]:
    """Tell people on a terminal what takes long, until it is over. Elsewhere nothing is printed."""
    return Console(stderr=True).status(what)


def count(number: int, thing: str) -> str:
    """Return "1 event", "2 events"."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def print_table(rows: Sequence[Row]) -> None:
    """Print rows under the names of the first one's cells. None is no text, and brackets are no markup."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    console = Console()
    if not console.is_terminal:  # who reads from a pipe reads lines: one for each row, however wide
        console.width = max(console.width, _width_of(rows))
    console.print(table)


def _width_of(rows: Sequence[Row]) -> int:
    columns: list[Any] = list(zip(*(row.items() for row in rows), strict=True))
    return sum(max(len(_text(cell)) for pair in column for cell in pair) + 3 for column in columns)


def _cell(value: object) -> Text:
    return Text(_text(value))  # not a plain str, in which brackets would be markup


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3f}".rstrip("0").rstrip(".")
        case datetime():
            return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        case list():
            return ", ".join(map(str, value))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        case _:
            return str(value)
