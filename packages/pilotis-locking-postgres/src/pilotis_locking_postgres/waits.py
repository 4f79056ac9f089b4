"""Time-outs, as PostgreSQL has them."""

from __future__ import annotations

import time

import psycopg

LONGEST_WAIT = 2**31 - 1
"""Milliseconds: more cannot be set."""

TIMED_OUT = (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled)


def milliseconds(seconds: float) -> int:
    """Return what PostgreSQL is told to wait: at least one, as zero would be for ever."""
    return max(1, min(LONGEST_WAIT, round(seconds * 1000)))


def is_early(error: psycopg.Error, began: float, wait: int) -> bool:
    """Tell whether a statement was cancelled by somebody else, and not because its time was over."""
    return isinstance(error, psycopg.errors.QueryCanceled) and time.monotonic() - began < wait / 1000 * 0.99
