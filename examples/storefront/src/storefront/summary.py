"""The day in figures."""

from __future__ import annotations

from storefront.app import app
from storefront.gateway import gateway
from storefront.records import records
from storefront.trading import Outcome


def summarise(outcome: Outcome, seconds: float) -> dict[str, str]:
    """Return what happened, line by line. Every figure is counted by the module or record that knows it."""
    orders = len(outcome.placed) + len(outcome.compensated)
    reasons = [(f"  compensated: {reason}", count) for reason, count in sorted(outcome.reasons.items())]
    figures = [("Orders", orders), ("  placed", len(outcome.placed)), *reasons, *stock(), *events(), *artefacts()]
    rows = {name: f"{count:,}" for name, count in figures}
    return rows | {"Seconds": f"{seconds:.2f}", "Orders a second": f"{orders / seconds:,.0f}"}


def stock() -> list[tuple[str, int]]:
    return [
        ("Units sold", records.units_taken - records.units_put_back),
        ("Units put back", records.units_put_back),
        ("Units restocked", sum(records.restocked.values())),
        ("Price changes", records.price_changes),
    ]


def events() -> list[tuple[str, int]]:
    lanes = app.event.lanes()
    return [
        ("Events handled", sum(lane.succeeded for lane in lanes)),
        ("  tried again", sum(lane.retried for lane in lanes)),
        ("  dead letters", sum(lane.dead for lane in lanes)),
    ]


def artefacts() -> list[tuple[str, int]]:
    cache = app.cache.stats()
    return [
        ("Mails", len(app.notification.find(status="sent", since=records.began))),
        ("Invoices", sum(1 for _ in app.file.list("invoices/"))),
        ("Gateway time-outs", gateway.timeouts),
        ("Cache hits", cache.hits),
        ("Cache misses", cache.misses),
    ]
