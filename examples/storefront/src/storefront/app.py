"""The shop's infrastructure: one object, six modules. Settings decide what stands behind them."""

from __future__ import annotations

from pathlib import Path

from pilotis import Pilotis

app = Pilotis.load(
    {
        "name": "storefront",
        "include": ["storefront.orders", "storefront.handlers"],
        "notification": {"templates": str(Path(__file__).parent / "templates"), "sender": "shop@example.com"},
        "workflow": {"concurrency": 8},
    },
    lazy=True,
)
