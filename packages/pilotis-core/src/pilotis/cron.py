"""Cron lines: when the next time comes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pilotis.errors import ConfigurationError


def cron_times(line: str) -> Callable[[float], float]:
    """Return a function from a time to the first time after it that fits the line; seconds since 1970, in UTC.

    Raises `ConfigurationError` for a line that cannot be read or never comes true, and where cronsim is not installed.
    """
    times = partial(_next, _cronsim(), line)
    try:
        times(0.0)
    except StopIteration:
        raise ConfigurationError(f"cron line {line!r} never comes true") from None
    return times


def _next(cronsim: Any, line: str, after: float) -> float:
    try:
        return next(cronsim.CronSim(line, datetime.fromtimestamp(after, UTC))).timestamp()
    except cronsim.CronSimError as error:
        raise ConfigurationError(f"cron line {line!r} cannot be read: {error}") from error


def _cronsim() -> Any:
    try:
        import cronsim
    except ImportError as error:
        raise ConfigurationError("cron needs cronsim. Install it with: pip install 'pilotis-core[cron]'") from error
    return cronsim
