"""The conformance suites of notification ledgers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace
from pilotis.modules.notification.retention import FORGET_AT_ONCE, FORGET_EVERY
from pilotis.providers import LedgerCapability, LedgerEntry, LedgerProvider, LedgerQuery, Notification, new_id

from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import Colour, together
from pilotis_testing.conformance import Conformance

DAY = 86_400.0

MakeLedger = Callable[..., LedgerProvider]


def new_entry(
    clock: ManualClock, key: str | None = None, *, leased_until: float | None = None, **fields: Any
) -> LedgerEntry:
    """Return an entry of now, of a mail to Ada about order 42 that is being sent, unless `fields` say otherwise."""
    now = datetime.fromtimestamp(clock.time(), UTC)
    given: dict[str, Any] = {
        "id": new_id(clock),
        "channel": "email",
        "to": "ada@example.com",
        "status": "sending",
        "created_at": now,
        "updated_at": now,
        "resource": ("order", "42"),
        "idempotency_key": key,
    }
    known = Notification(**given | fields)
    return LedgerEntry(notification=known, message=b'{"a":1}\x00', digest="d", leased_until=leased_until)


class LedgerConformance(Conformance):
    """What every ledger keeps."""

    @pytest.fixture
    def make(self, clock: ManualClock) -> Any:
        """Make entries that are being sent, each a second after the one before."""

        def entry(key: str | None = None, **fields: Any) -> LedgerEntry:
            clock.advance(1)
            return new_entry(clock, key, leased_until=clock.time() + 60, **fields)

        return entry

    async def test_an_entry_comes_back_as_it_was(self, provider: LedgerProvider, make: Any, colour: Colour) -> None:
        """Every field survives; an unknown id gives None in its place."""
        await provider.open()
        entry = make("key", provider="mail", external_id="x", error="Grüße", template="t", trigger="order.placed")
        assert await provider.record([entry]) == [entry]
        assert await provider.read(["nobody", entry.id]) == [None, entry]
        await provider.close()

    async def test_a_key_belongs_to_whoever_came_first(
        self, provider: LedgerProvider, make: Any, colour: Colour
    ) -> None:
        """The second entry with a key is not written, within one call and across calls; the first one is the answer."""
        await provider.open()
        first, second, third = make("key"), make("key"), make("key")
        assert await provider.record([first, second]) == [first, first]
        assert await provider.record([third]) == [first]
        assert await provider.read([second.id, third.id]) == [None, None]
        await provider.close()

    async def test_entries_without_a_key_are_all_written(
        self, provider: LedgerProvider, make: Any, colour: Colour
    ) -> None:
        """No key is not a key that two could share."""
        await provider.open()
        entries = [make(), make()]
        assert await provider.record(entries) == entries
        assert await provider.read([entry.id for entry in entries]) == entries
        await provider.close()

    async def test_of_concurrent_callers_one_gets_the_key(
        self, provider: LedgerProvider, make: Any, colour: Colour
    ) -> None:
        """Eight at once: all are answered with the same entry, which is that of one of them."""
        await provider.open()
        entries = [make("key") for _ in range(8)]
        answers = await together(*(_recorder(provider, entry) for entry in entries))
        winners = {answer[0].id for answer in answers}
        assert len(winners) == 1
        assert winners <= {entry.id for entry in entries}
        await provider.close()

    async def test_only_the_next_version_replaces(self, provider: LedgerProvider, make: Any, colour: Colour) -> None:
        """The same version again, one further ahead, and an unknown entry are left out; the rest of the call is not."""
        await provider.open()
        entry, other, unknown = make(), make(), make()
        await provider.record([entry, other])
        changed = replace(entry, version=2, leased_until=None, takeovers=1)
        ahead = replace(other, version=3)
        assert await provider.replace([ahead, changed, replace(unknown, version=2)]) == [False, True, False]
        assert await provider.replace([replace(entry, version=2)]) == [False]
        assert await provider.read([entry.id, other.id, unknown.id]) == [changed, other, None]
        await provider.close()

    async def test_of_concurrent_changes_one_is_made(self, provider: LedgerProvider, make: Any, colour: Colour) -> None:
        """Eight replace the same version: one of them does."""
        await provider.open()
        entry = make()
        await provider.record([entry])
        changes = [replace(entry, version=2, digest=f"{number}") for number in range(8)]
        answers = await together(*(_replacer(provider, change) for change in changes))
        assert sorted(done for answer in answers for done in answer) == [False] * 7 + [True]
        [stored] = await provider.read([entry.id])
        assert stored == changes[[answer[0] for answer in answers].index(True)]
        await provider.close()

    async def test_find_is_newest_first_and_limited(
        self, provider: LedgerProvider, make: Any, clock: ManualClock, colour: Colour
    ) -> None:
        """By the time of creation, whatever was changed since."""
        await provider.open()
        entries = [make() for _ in range(3)]
        await provider.record(entries)
        oldest = replace(entries[0], version=2)
        await provider.replace([oldest])
        now = clock.time()
        assert await provider.find(LedgerQuery(now=now)) == [entries[2], entries[1], oldest]
        assert await provider.find(LedgerQuery(now=now, limit=2)) == [entries[2], entries[1]]
        await provider.close()

    async def test_find_by_every_filter(
        self, provider: LedgerProvider, make: Any, clock: ManualClock, colour: Colour
    ) -> None:
        """Each filter alone leaves out what does not fit; together they all have to fit."""
        await provider.open()
        plain = make()
        others = {
            "statuses": make(status="failed"),
            "to": make(to="bob@example.com"),
            "channel": make(channel="sms"),
            "resource": make(resource=("order", "43")),
        }
        await provider.record([plain, *others.values()])
        wanted: dict[str, Any] = {
            "statuses": ("sending", "sent"),
            "to": "ada@example.com",
            "channel": "email",
            "resource": ("order", "42"),
        }
        for name, value in wanted.items():
            found = await provider.find(LedgerQuery(now=clock.time(), **{name: value}))
            expected = [plain, *(entry for other, entry in others.items() if other != name)]
            assert found == sorted(expected, key=lambda entry: entry.id, reverse=True)
        assert await provider.find(LedgerQuery(now=clock.time(), **wanted)) == [plain]
        tired = replace(make(), takeovers=3)
        await provider.record([tired])
        found = await provider.find(LedgerQuery(now=clock.time(), takeovers_below=3, to="bob@example.com"))
        assert found == [others["to"]]
        assert tired not in await provider.find(LedgerQuery(now=clock.time(), takeovers_below=3))
        assert tired in await provider.find(LedgerQuery(now=clock.time(), takeovers_below=4))
        since = others["channel"].notification.created_at
        found = await provider.find(LedgerQuery(now=clock.time(), since=since))
        assert found == [tired, others["resource"], others["channel"]]
        await provider.close()

    async def test_an_ended_lease_is_unknown(
        self, provider: LedgerProvider, make: Any, clock: ManualClock, colour: Colour
    ) -> None:
        """From the very moment the lease ends, find sees the entry as unknown and no longer as being sent."""
        await provider.open()
        entry = make()
        settled = replace(make(status="sent"), leased_until=None)
        await provider.record([entry, settled])
        unknown = ("unknown",)
        assert await provider.find(LedgerQuery(now=clock.time() + 58, statuses=unknown)) == []
        end = entry.leased_until
        assert await provider.find(LedgerQuery(now=end, statuses=unknown)) == [entry]
        assert await provider.find(LedgerQuery(now=end, statuses=("sending", "pending"))) == []
        assert await provider.find(LedgerQuery(now=end, statuses=("sent",))) == [settled]
        await provider.close()

    def test_capabilities_are_ledger_capabilities(self, provider: LedgerProvider) -> None:
        """What is declared is a set of `LedgerCapability`."""
        assert isinstance(provider.capabilities, LedgerCapability)


class DurableLedgerConformance(LedgerConformance):
    """What every ledger in a database keeps besides.

    Needs the fixture `ledger` instead of `provider`: it makes ledgers on one empty place, of the service `name` ("shop"
    unless given), with the option `retention`.
    """

    @pytest.fixture
    def ledger(self) -> MakeLedger:
        raise NotImplementedError(f"{type(self).__qualname__} needs a fixture named 'ledger'")

    @pytest.fixture
    def provider(self, ledger: MakeLedger) -> LedgerProvider:
        return ledger()

    async def test_it_outlives_its_process(self, ledger: MakeLedger, make: Any, colour: Colour) -> None:
        """Another ledger on the place has every entry, byte by byte, and knows its key."""
        first, second = ledger(), ledger()
        await first.open()
        entry = make("key", error="a\0b 👋 \x1f")
        await first.record([entry])
        await first.close()
        await second.open()
        assert [entry] == await second.read([entry.id]) == await second.record([make("key")])
        await second.close()

    async def test_services_in_one_place_do_not_meet(
        self, ledger: MakeLedger, make: Any, clock: ManualClock, colour: Colour
    ) -> None:
        """Each has its own keys, its own ids, and finds its own."""
        shop, depot = ledger(), ledger(name="depot")
        await shop.open()
        await depot.open()
        ours, theirs = make("key"), make("key")
        assert [ours] == await shop.record([ours])
        assert [theirs] == await depot.record([theirs])
        assert [None] == await depot.read([ours.id])
        assert [False] == await depot.replace([replace(ours, version=2)])
        assert [ours] == await shop.find(LedgerQuery(now=clock.time()))
        await shop.close()
        await depot.close()

    # Migration

    async def test_migrating_says_what_it_made(self, ledger: MakeLedger, colour: Colour) -> None:
        """Once, and before anything is opened; opening makes it too."""
        provider = ledger()
        [made] = await provider.migrate()
        assert made.startswith("made the table pilotis_ledger ")
        assert [] == await provider.migrate()
        await provider.open()
        await provider.close()

    async def test_many_migrate_at_once(self, ledger: MakeLedger, colour: Colour) -> None:
        """One makes the table, and all of them open."""
        ledgers = [ledger() for _ in range(8)]
        made = await together(*[provider.migrate for provider in ledgers])
        assert 1 == sum(map(len, made))
        for provider in ledgers:
            await provider.open()
            await provider.close()

    # Retention

    async def test_what_is_too_old_is_forgotten(
        self, ledger: MakeLedger, make: Any, clock: ManualClock, colour: Colour
    ) -> None:
        """With its key, when something is recorded; what is being sent is not, however old."""
        provider = ledger(retention=DAY)
        await provider.open()
        old, leased, left = (replace(make(key), leased_until=until) for key, until in _ends(clock.time()))
        await provider.record([old, leased, left])
        clock.advance(DAY - FORGET_EVERY)
        young = make("young")
        await provider.record([young])
        assert [old, leased, left] == await provider.read([old.id, leased.id, left.id])
        clock.advance(2 * FORGET_EVERY)
        again = make("key")
        assert [again] == await provider.record([again])
        assert [None, leased, None, young] == await provider.read([old.id, leased.id, left.id, young.id])
        await provider.close()

    async def test_much_is_forgotten_bit_by_bit(
        self, ledger: MakeLedger, make: Any, clock: ManualClock, colour: Colour
    ) -> None:
        """Each call deletes a bounded number, and the next one goes on."""
        provider = ledger(retention=DAY)
        await provider.open()
        await provider.record([replace(make(), leased_until=None) for _ in range(FORGET_AT_ONCE + 2)])
        clock.advance(2 * DAY)
        for left in (3, 2):
            await provider.record([make()])
            assert left == len(await provider.find(LedgerQuery(now=clock.time())))
        await provider.close()

    async def test_opening_forgets_too(self, ledger: MakeLedger, make: Any, clock: ManualClock, colour: Colour) -> None:
        """So that programs that run shortly do their part."""
        first, second = ledger(retention=DAY), ledger(retention=DAY)
        await first.open()
        old = replace(make(), leased_until=None)
        await first.record([old])
        await first.close()
        clock.advance(2 * DAY)
        await second.open()
        assert [None] == await second.read([old.id])
        await second.close()

    async def test_without_retention_nothing_is_forgotten(
        self, ledger: MakeLedger, make: Any, clock: ManualClock, colour: Colour
    ) -> None:
        """None keeps them for good."""
        provider = ledger(retention=None)
        await provider.open()
        old = replace(make(), leased_until=None)
        await provider.record([old])
        clock.advance(10_000 * DAY)
        await provider.record([make()])
        assert [old] == await provider.read([old.id])
        await provider.close()


def _ends(now: float) -> tuple[tuple[str | None, float | None], ...]:
    """Return the keys and ends of leases of one that was settled, one that is being sent and one that was left."""
    return ("key", None), (None, now + 3 * DAY), (None, now + DAY / 2)


def _recorder(provider: LedgerProvider, entry: LedgerEntry) -> Any:
    return lambda: provider.record([entry])


def _replacer(provider: LedgerProvider, entry: LedgerEntry) -> Any:
    return lambda: provider.replace([entry])
