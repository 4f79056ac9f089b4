"""`pilotis locks`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Cli = Callable[..., Any]


def test_locks_are_listed(cli: Cli, shop: Any) -> None:
    """Those that begin with a prefix, sorted and limited; a person is told in a sentence where there are none."""
    assert "Nobody holds any lock.\n" == cli("locks", "ls").out
    for key in ("order:2", "order:1", "stock:9"):
        shop.app.locking.acquire(key, owner="job-7")
    assert ["order:1", "order:2", "stock:9"] == [state["key"] for state in cli("locks", "ls", "--json").json]
    assert ["order:1"] == [state["key"] for state in cli("locks", "ls", "order:", "--limit", "1", "--json").json]
    assert "job-7" in cli("locks", "ls", "stock").out


def test_locks_are_shown(cli: Cli, shop: Any) -> None:
    """Those that nobody holds are left out."""
    lease = shop.app.locking.acquire("order:1", owner="job-7", ttl=30)
    (state,) = cli("locks", "show", "order:1", "order:2", "--json").json
    assert ("order:1", "job-7", lease.token) == (state["key"], state["owner"], state["token"])
    assert "Nobody holds order:2.\n" == cli("locks", "show", "order:2").out


def test_a_lock_is_broken_once_somebody_says_yes(cli: Cli, shop: Any) -> None:
    """Its holder has lost it, and to break what nobody holds is something wrong."""
    lease = shop.app.locking.acquire("order:1")
    assert 1 == cli("locks", "break", "order:1", stdin="n\n").code
    lease.check()
    assert "Took order:1 away from 1 holder.\n" in cli("locks", "break", "order:1", stdin="y\n").out
    assert lease.release() is False
    ended = cli("locks", "break", "order:1", "--yes", "--json")
    assert (1, {"key": "order:1", "holders": 0}) == (ended.code, ended.json)


def test_what_a_provider_keeps_is_made(cli: Cli, shop: Any, monkeypatch: Any) -> None:
    """Each change is a line; most providers need nothing."""
    assert "Nothing has to be made.\n" == cli("locks", "migrate").out

    async def migrate() -> list[str]:
        return ["made the table", "made the sequence"]

    monkeypatch.setattr(shop.app.locking._own, "migrate", migrate)
    assert "made the table\nmade the sequence\n" == cli("locks", "migrate").out
    assert {"changes": ["made the table", "made the sequence"]} == cli("locks", "migrate", "--json").json


def test_a_key_that_cannot_be_one_is_refused(cli: Cli, shop: Any) -> None:
    """As everywhere, by the module itself."""
    assert 2 == cli("locks", "show", "").code
    assert 2 == cli("locks", "break", "", "--yes").code
