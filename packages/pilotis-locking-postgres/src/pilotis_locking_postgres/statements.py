"""The SQL of advisory locks, read once."""

from __future__ import annotations

from functools import cache
from typing import Literal

from pilotis_postgres.sql import load

from pilotis_locking_postgres.options import Mode

PACKAGE = "pilotis_locking_postgres"
WITH_TRANSACTION_TIMEOUT = 170_000

Scope = Literal["transaction", "session", "inside"]


@cache
def lock(scope: Scope, *, waits: bool, shared: bool, version: int) -> str:
    """Return the script that takes locks: waiting, or trying; for sharing, or alone."""
    level = "" if scope == "session" else "xact_"
    function = f"pg_{'' if waits else 'try_'}advisory_{level}lock{'_shared' if shared else ''}"
    endless = "SET LOCAL transaction_timeout = 0;\n" if version >= WITH_TRANSACTION_TIMEOUT else ""
    return load(PACKAGE, f"{'lock' if waits else 'try'}_{scope}", lock=function, endless=endless, check=_check())


@cache
def unlock(*, shared: bool) -> str:
    """Return the statement that gives locks of a connection back."""
    return load(PACKAGE, "unlock_session", unlock=f"pg_advisory_unlock{'_shared' if shared else ''}")


@cache
def holdings() -> str:
    """Return the statement that tells who holds which lock."""
    return load(PACKAGE, "holdings")


def token(table: str) -> str:
    """Return what reads the next token, and which locks a process has then."""
    return load(PACKAGE, "token", table=table)


def scope_of(mode: Mode) -> Scope:
    """Return how long locks of a mode live."""
    return "session" if mode == "session" else "transaction"


@cache
def _check() -> str:
    """Return the statement that has the server look after whoever waits."""
    return load(PACKAGE, "check_waiter")
