"""Cron expressions: when the next time comes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from functools import partial
from typing import Any

from pilotis.errors import ConfigurationError
from pilotis.keys import check_text


def cron_times(expression: str, timezone: str = "UTC") -> Callable[[float], float]:
    """Return a function from a time to the first time after it that fits the expression; seconds since 1970.

    The expression is read in the time zone, such as "Europe/Paris": what falls into the hour that is skipped in spring
    comes right after it, and a fixed time in the hour that is repeated in autumn comes once, as with Debian's cron.

    Raises `ConfigurationError` for an expression that cannot be read or never comes true, for a time zone that is not
    known, and where cronsim is not installed; `InvalidInputError` for what is not text.
    """
    zone = _zone(check_text(timezone, "timezone"))
    times = partial(_next, _cronsim(), check_text(expression, "expression"), zone)
    try:
        times(0.0)
    except StopIteration:
        raise ConfigurationError(f"cron expression {expression!r} never comes true") from None
    return times


def _next(cronsim: Any, expression: str, zone: tzinfo, after: float) -> float:
    try:
        return next(cronsim.CronSim(expression, datetime.fromtimestamp(after, zone))).timestamp()
    except cronsim.CronSimError as error:
        raise ConfigurationError(f"cron expression {expression!r} cannot be read: {error}") from error


def _cronsim() -> Any:
    try:
        import cronsim
    except ImportError as error:
        raise ConfigurationError("cron needs cronsim. Install it with: pip install 'pilotis-core[cron]'") from error
    return cronsim


def _zone(timezone: str) -> tzinfo:
    if timezone == "UTC":
        return UTC
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"time zone {timezone!r} is not known; expected a name such as 'Europe/Paris'"
        ) from error
