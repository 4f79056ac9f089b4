"""`pilotis workflows` and `pilotis locks`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pilotis_testing.clock import until

Cli = Callable[..., Any]


@pytest.fixture
def waiting(shop: Any) -> Any:
    """The shop, with a run that waits for its approval."""
    shop.app.workflow.start(shop.place_order, "order-42", id="order-42")
    until(lambda: shop.app.workflow.info("order-42").status == "waiting")
    return shop


def test_runs_are_listed(cli: Cli, waiting: Any) -> None:
    """And narrowed by workflow, state and time."""
    (run,) = cli("workflows", "list", "--json").json
    assert (run["id"], run["name"], run["status"]) == ("order-42", "place-order", "waiting")
    assert len(cli("workflows", "list", "--name", "place-order", "--status", "waiting", "--json").json) == 1
    assert cli("workflows", "list", "--status", "failed").out == "There is no such run.\n"
    assert cli("workflows", "list", "--since", "2999-01-01", "--json").json == []


def test_a_state_that_does_not_exist_is_refused(cli: Cli, shop: Any) -> None:
    """With those that do."""
    ended = cli("workflows", "list", "--status", "broken")
    assert ended.code == 2
    assert "expected one of cancelled, compensated" in ended.err


def test_a_run_is_shown_with_its_history(cli: Cli, waiting: Any) -> None:
    """As one document, or as two tables."""
    shown = cli("workflows", "show", "order-42", "--json").json
    assert (shown["run"]["status"], shown["steps"][0]["step"], shown["steps"][0]["result"]) == (
        "waiting",
        "charge",
        "paid order-42",
    )
    table = cli("workflows", "show", "order-42").out
    assert "place-order" in table
    assert "paid order-42" in table


def test_a_signal_brings_a_value(cli: Cli, waiting: Any) -> None:
    """Written as JSON; the worker goes on with it."""
    assert cli("workflows", "signal", "order-42", "approval", '"yes"').out == "Sent approval to order-42.\n"
    assert waiting.app.workflow.get("order-42").result(timeout=10) == "yes"


def test_a_value_that_is_no_json_is_refused(cli: Cli, shop: Any) -> None:
    """With a hint at the quotes that are most often missing."""
    ended = cli("workflows", "signal", "order-42", "approval", "yes")
    assert ended.code == 2
    assert "the value of a signal is no JSON" in ended.err


def test_a_run_is_cancelled_once(cli: Cli, waiting: Any) -> None:
    """The second time it has ended already."""
    assert cli("workflows", "cancel", "order-42").out == "order-42 will be cancelled.\n"
    until(lambda: waiting.app.workflow.info("order-42").status == "cancelled")
    again = cli("workflows", "cancel", "order-42", "--json")
    assert (again.code, again.json) == (1, {"cancelled": False})


def test_a_cancelled_run_is_retried(cli: Cli, waiting: Any) -> None:
    """By the worker: the command itself works on nothing."""
    cli("workflows", "cancel", "order-42")
    until(lambda: waiting.app.workflow.info("order-42").status == "cancelled")
    assert cli("workflows", "retry", "order-42", "--from-step", "charge", "--json").json == {"retried": "order-42"}
    until(lambda: waiting.app.workflow.info("order-42").status == "waiting")


@pytest.mark.parametrize("command", [["show"], ["cancel"], ["retry"], ["signal"]])
def test_an_unknown_run_is_told_in_one_line(cli: Cli, shop: Any, command: list[str]) -> None:
    """And is something wrong, not a wrong call."""
    more = ["approval"] if command == ["signal"] else []
    ended = cli("workflows", *command, "order-43", *more)
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert "order-43" in ended.err
