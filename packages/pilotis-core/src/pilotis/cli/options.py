"""The options that many commands have. They may stand before the command, too: `pilotis --app shop:app check`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from pilotis.errors import InvalidInputError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def _here_or_before(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    """Return what stands behind the command, else what stands before it."""
    return value or ctx.find_root().params.get(str(param.name))


def span(text: str, option: str) -> timedelta:
    """Return the length of time that `90s`, `15m`, `2h` or `7d` stands for. Raises `InvalidInputError`."""
    try:
        return timedelta(seconds=float(text[:-1]) * _UNITS[text[-1:]])
    except (KeyError, ValueError, OverflowError):
        raise InvalidInputError(f"{option}: {text!r} is no span of time: expected such as 90s, 15m, 2h, 7d") from None


def point_in_time(text: str, option: str) -> datetime:
    """Return the time that `2026-01-31T12:00` stands for (UTC unless it says otherwise), or that is `2h` ago.

    Raises `InvalidInputError` for anything else.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return datetime.now(UTC) - span(text, option)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


AppOption = Annotated[
    str | None,
    typer.Option(
        "--app",
        metavar="MODULE:NAME",
        callback=_here_or_before,
        help="The app to work on. Else the variable PILOTIS_APP, then `app` in the settings, then the settings alone.",
        show_default=False,
    ),
]

JsonOption = Annotated[
    bool,
    typer.Option("--json", callback=_here_or_before, help="Print one JSON document, for programs.", show_default=False),
]

SinceOption = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Only since 2026-01-31T12:00 (UTC), or for a span: 90s, 15m, 2h, 7d."),
]
