"""The shop on real servers, unchanged: variables say where its cache is, and its locks."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest
from pilotis import Pilotis
from pilotis.bridge import run_blocking
from pilotis.providers import LockingCapability
from pilotis_testing import Colour
from storefront import main
from storefront.app import app
from storefront.books import check_books
from storefront.gateway import gateway
from storefront.reading import Shop, read_shop
from storefront.records import records
from storefront.trading import trade
from typer.testing import CliRunner

ORDERS = 120
"""Of the own shop: until after some changes of prices."""


@pytest.fixture(params=["redis", "memcached"], autouse=True)
def cache_url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty server, which the variable names."""
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        monkeypatch.setenv("PILOTIS_LOCKING", url)
    else:
        url = f"memcached://{request.getfixturevalue('memcached_address')}"
        monkeypatch.setenv("PILOTIS_LOCKING", with_locks(request.getfixturevalue("postgres_url")))
    monkeypatch.setenv("PILOTIS_CACHE", url)
    return url


def with_locks(url: str) -> str:
    """Make what locks need in a PostgreSQL, and return its URL."""
    migrating = Pilotis({"name": "storefront", "locking": url})
    migrating.locking.migrate()
    migrating.close()
    return url


@pytest.mark.timeout(180)
async def test_a_second_day_balances_on_the_same_server(colour: Colour, tmp_path: Path) -> None:
    """It finds what the first one left there, other prices among it. The app is entered in either colour."""
    whole = read_shop(main.OWN_SHOP)
    shop = whole._replace(orders=whole.orders[:ORDERS])
    for folder in ("monday", "tuesday"):
        await check_a_day(shop, tmp_path / folder, colour)


async def check_a_day(shop: Shop, folder: Path, colour: Colour) -> None:
    """Trade; then the books balance, and who asks the cache in this colour gets the day's prices."""
    gateway.clear()
    places = {"file": {"root": str(folder / "files")}, "notification": {"outbox_dir": str(folder / "mails")}}
    async with colour.voice(app.override(places)):
        outcome = await run_blocking(trade, shop, lambda: None)
        assert [] == await run_blocking(check_books, shop, outcome)
        assert records.price_changes > 2
        expected = {f"price:{records.price_list}:{product}": price for product, price in records.prices.items()}
        found = await colour.voice(app.cache).get_many(expected, type=Decimal)
        assert len(found) > len(expected) / 2
        assert {key: expected[key] for key in found} == found
        stats = app.cache.stats()
        assert (0, True) == (stats.errors, stats.hits > ORDERS)
        assert os.environ.get("PILOTIS_LOCKING", "memory").startswith(app.locking.provider_name)
        if LockingCapability.LIST in app.locking.capabilities:
            assert [] == await colour.voice(app.locking).held()


@pytest.mark.timeout(180)
def test_the_command_runs_on_the_server(tmp_path: Path) -> None:
    """Exit code 0."""
    gateway.clear()
    result = CliRunner().invoke(main.command(), ["--out", str(tmp_path)])
    assert 0 == result.exit_code, result.output
    assert "The books balance." in result.output
