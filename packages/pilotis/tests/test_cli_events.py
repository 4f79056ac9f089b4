"""`pilotis events`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from pilotis import Event
from pilotis_testing.clock import until

Cli = Callable[..., Any]


@pytest.fixture
def two_dead(shop: Any) -> Any:
    """The shop, after its handler has given up on two events."""
    shop.app.open()
    for number in (1, 2):
        shop.app.event.emit("order.placed", {"id": number})
    until(lambda: len(list(shop.app.event.dead_letters())) == 2)
    return shop


def test_lanes_are_listed(cli: Cli, two_dead: Any) -> None:
    """With what waits and what is dead."""
    (lane,) = cli("events", "lanes", "--json").json
    assert (lane["subscription"], lane["queued"], lane["dead"], lane["died"]) == ("confirm", 0, 2, 2)


def test_dead_letters_are_listed(cli: Cli, two_dead: Any) -> None:
    """With their error, the oldest first, and narrowed."""
    letters = cli("events", "dead", "--json").json
    assert sorted(letters, key=lambda letter: letter["died_at"]) == letters
    assert sorted(letter["data"]["id"] for letter in letters) == [1, 2]
    assert "no address" in letters[0]["error"]


@pytest.mark.parametrize(
    "narrowed",
    [
        ["--subscription", "other"],
        ["--name", "order.lost"],
        ["--since", "2999-01-01"],
        ["--since", "2999-01-01T12:00+02:00"],
    ],
)
def test_dead_letters_are_narrowed(cli: Cli, two_dead: Any, narrowed: list[str]) -> None:
    """By subscription, name and time."""
    assert cli("events", "dead", *narrowed).out == "There are no dead letters.\n"


def test_a_span_is_a_time_ago(cli: Cli, two_dead: Any) -> None:
    """Both letters died within the last hour."""
    assert len(cli("events", "dead", "--since", "1h", "--json").json) == 2


@pytest.mark.parametrize("time", ["yesterday", "7", "h", "nand", "5y"])
def test_what_is_no_time_is_refused(cli: Cli, shop: Any, time: str) -> None:
    """With what was expected."""
    ended = cli("events", "dead", "--since", time)
    assert ended.code == 2
    assert ended.err == f"pilotis: --since: {time!r} is no span of time: expected such as 90s, 15m, 2h, 7d\n"


def test_replaying_asks_for_a_choice(cli: Cli, shop: Any) -> None:
    """Nothing is replayed by a slip."""
    ended = cli("events", "replay")
    assert (ended.code, ended.err) == (
        2,
        "pilotis: say which dead letters: ids of events, --subscription, or --all\n",
    )


def test_dead_letters_are_replayed_by_id(cli: Cli, two_dead: Any) -> None:
    """Those named, and no others."""
    first = cli("events", "dead", "--json").json[0]["id"]
    two_dead.app.event.pause("confirm")
    assert cli("events", "replay", first, "--json").json == {"replayed": 1}


def test_all_dead_letters_are_replayed(cli: Cli, two_dead: Any) -> None:
    """A person is told in a sentence."""
    two_dead.app.event.pause("confirm")
    assert cli("events", "replay", "--all").out == "Replayed 2 dead letters.\n"


def test_a_subscription_is_paused_and_goes_on(cli: Cli, two_dead: Any) -> None:
    """Its lane shows it."""
    assert cli("events", "pause", "confirm").out == "Paused confirm.\n"
    assert two_dead.app.event.lanes()[0].paused
    assert cli("events", "resume", "confirm", "--json").json == {"resumed": "confirm"}
    assert not two_dead.app.event.lanes()[0].paused


def test_an_unknown_subscription_is_told_in_one_line(cli: Cli, two_dead: Any) -> None:
    """With those that there are."""
    ended = cli("events", "pause", "confrim")
    assert (ended.code, ended.out) == (1, "")
    assert "there is no subscription 'confrim'; there are: confirm" in ended.err


def test_purging_asks_first(cli: Cli, two_dead: Any) -> None:
    """And does nothing without a yes."""
    assert cli("events", "purge", "confirm", stdin="n\n").code == 1
    assert cli("events", "purge", "confirm", stdin="y\n").code == 0


def test_what_waits_is_purged(cli: Cli, two_dead: Any) -> None:
    """Dead letters stay."""
    two_dead.app.event.pause("confirm")
    two_dead.app.event.emit("order.placed", {"id": 3})
    assert cli("events", "purge", "confirm", "--yes", "--json").json == {"purged": 1}
    assert len(list(two_dead.app.event.dead_letters())) == 2


def test_dead_letters_are_purged_by_age(cli: Cli, two_dead: Any) -> None:
    """And only old ones where an age is given."""
    assert cli("events", "purge", "--dead", "--older-than", "1h", "--yes", "--json").json == {"purged": 0}
    assert cli("events", "purge", "--dead", "--yes").out == "Removed 2 dead letters for all subscriptions.\n"


def test_events_of_all_subscriptions_are_not_purged_at_once(cli: Cli, shop: Any) -> None:
    """A forgotten argument must not empty every lane."""
    assert cli("events", "purge", "--yes").code == 2


def _ignore(event: Event[Any]) -> None:
    pass


def test_lag_is_listed_with_the_worst_first(cli: Cli, two_dead: Any) -> None:
    """A lane in which nothing waits has none."""
    two_dead.app.event.pause("confirm")
    two_dead.app.event.on("order.*", id="audit")(_ignore)
    two_dead.app.event.emit("order.placed", {"id": 3})
    until(lambda: [lane.succeeded for lane in two_dead.app.event.lanes() if lane.subscription == "audit"] == [1])
    first, second = cli("events", "lag", "--json").json
    assert (first["subscription"], first["oldest"] >= 0, first["queued"]) == ("confirm", True, 1)
    assert (second["subscription"], second["oldest"]) == ("audit", None)
    assert "next due" in cli("events", "lag").out


def test_lanes_are_made_before_any_worker_runs(cli: Cli, shop: Any) -> None:
    """And told of, by what they were before."""
    assert cli("events", "sync", "--json").json == {
        "new": ["order.placed confirm"],
        "changed": [],
        "known": [],
        "stale": [],
    }


def test_handlers_of_included_modules_count(cli: Cli, elsewhere: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of those that the settings alone name."""
    monkeypatch.setattr("sys.path", [str(elsewhere), *sys.path])
    handlers = "from pilotis import Handlers\nhandlers = Handlers()\nhandlers.on('a', id='mail')(print)\n"
    (elsewhere / "more_handlers.py").write_text(handlers)
    (elsewhere / "pilotis.toml").write_text('name = "shop"\ninclude = ["more_handlers"]\n')
    assert "a mail" in cli("events", "sync").out


def test_dead_letters_are_narrowed_by_id(cli: Cli, two_dead: Any) -> None:
    """Of one event, or of several."""
    first, second = (letter["id"] for letter in cli("events", "dead", "--json").json)
    assert [second] == [letter["id"] for letter in cli("events", "dead", "--id", second, "--json").json]
    assert len(cli("events", "dead", "--id", first, "--id", second, "--json").json) == 2


def test_a_dead_letter_is_shown_with_its_traceback(cli: Cli, two_dead: Any) -> None:
    """And with its data; there is one for each subscription."""
    letter = cli("events", "dead", "--json").json[0]
    shown = cli("events", "show", letter["id"])
    assert shown.code == 0
    assert "raise ValueError(" in shown.out
    assert f'data:         {{"id":{letter["data"]["id"]}}}' in shown.out
    assert [letter] == cli("events", "show", letter["id"], "--json").json


def test_a_dead_letter_that_is_not_there_is_not_shown(cli: Cli, two_dead: Any) -> None:
    """It may have been replayed."""
    ended = cli("events", "show", "nothing")
    assert (ended.code, ended.out) == (1, "There is no dead letter of 'nothing'.\n")


def test_a_subscription_that_the_app_has_is_not_removed(cli: Cli, two_dead: Any) -> None:
    """It would be made anew at once."""
    ended = cli("events", "unsubscribe", "confirm", "--yes")
    assert ended.code == 1
    assert "take them out of the code first" in ended.err
    assert [lane.subscription for lane in two_dead.app.event.lanes()] == ["confirm"]


def test_removing_a_subscription_asks_first(cli: Cli, two_dead: Any) -> None:
    """And does nothing without a yes."""
    ended = cli("events", "unsubscribe", "confirm", stdin="n\n")
    assert (ended.code, "Remove the subscription confirm" in ended.err) == (1, True)


def test_events_are_shown_as_they_are_emitted(cli: Cli, two_dead: Any) -> None:
    """Only those of a pattern, and with `--json` one document on each line."""
    stopped = threading.Event()

    def emit() -> None:
        while not stopped.wait(0.01):
            two_dead.app.event.emit("stock.low", 7)
            two_dead.app.event.emit("order.lost", 8)

    emitter = threading.Thread(target=emit)
    emitter.start()
    try:
        lines = cli("events", "tail", "stock.*", "--limit", "2", "--json").out.splitlines()
        line = cli("events", "tail", "--limit", "1").out
    finally:
        stopped.set()
        emitter.join()
    assert [("stock.low", 7)] * 2 == [(event["name"], event["data"]) for event in map(msgspec.json.decode, lines)]
    assert "stock.low" in line or "order.lost" in line
