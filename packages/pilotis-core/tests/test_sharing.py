"""What providers have in common: who is asked to share, and who closes it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, MutableMapping, Sequence
from typing import Any

import msgspec
import pytest
from pilotis import Pilotis, register
from pilotis.discovery import unregister
from pilotis.providers import NotificationCapability, NotificationProvider, OutgoingMessage, Receipt, Shared

MAIN = {"url": "main"}


class Place(msgspec.Struct, frozen=True):
    """The options of a postman."""

    url: str


class Postman(NotificationProvider):
    """Has a bag in common with those of the same connection."""

    Options = Place
    capabilities = NotificationCapability(0)
    bag: Shared[list[str]] | None = None

    def share(self, shared: MutableMapping[Hashable, Shared[Any]], connection: str) -> None:
        self.bag = shared.setdefault(("postman", connection), Shared([]))

    async def send(self, messages: Sequence[OutgoingMessage]) -> list[Receipt | Exception]:
        return [Receipt() for _ in messages]

    def native(self, kind: type) -> object | None:
        return self.bag if kind is Shared else None


@pytest.fixture(autouse=True)
def postman() -> Iterator[None]:
    """Postmen can be named in settings."""
    register("notification", "postman", Postman)
    yield
    unregister("notification", "postman")


def app(*instances: dict[str, str]) -> Pilotis:
    """Return an app with a notifier for each, called by its number."""
    urls = {"main": "postman://here", "side": "postman://here"}
    named = {str(number): instance for number, instance in enumerate(instances)}
    return Pilotis({"connections": urls, "notification": MAIN | {"instances": named}})


def bags(app: Pilotis, count: int) -> list[Any]:
    return [app.module("notification", str(number)).native(Shared) for number in range(count)]


def test_modules_of_one_connection_have_things_in_common() -> None:
    """Those of another one have other things, also where the url is the same."""
    first, second, other = bags(app(MAIN, MAIN, {"url": "side"}), 3)
    assert first is second
    assert first is not other


def test_a_url_that_is_written_out_shares_nothing() -> None:
    """Nobody is asked."""
    with pytest.raises(TypeError, match="has no native Shared"):
        bags(app({"url": "postman://here"}), 1)


def test_apps_have_nothing_in_common() -> None:
    """Not with one that is made alike, nor with one that stands in."""
    one = app(MAIN)
    (mine,) = bags(one, 1)
    assert bags(app(MAIN), 1) != [mine]
    with one.override(None) as stand_in:
        assert bags(stand_in, 1) != [mine]


def test_the_last_one_to_leave_closes() -> None:
    """Whoever joined twice leaves once, whoever never joined may leave, and all may come again."""
    shared = Shared("thing")
    assert shared.leave("nobody")
    for user in ("a", "b", "a"):
        shared.join(user)
    assert [False, True, True] == [shared.leave("a"), shared.leave("b"), shared.leave("b")]
    shared.join("a")
    assert [False, True] == [shared.leave("b"), shared.leave("a")]
