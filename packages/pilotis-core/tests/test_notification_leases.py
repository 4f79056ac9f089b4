"""Leases, and what is known: a living sender keeps both, whatever the time and the ledger do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace
from pilotis.bridge import run_blocking
from pilotis.codec import JSON
from pilotis.errors import AuthenticationError, ConnectionFailedError, NotificationFailedError, ThrottledError
from pilotis.modules.notification import Content, LedgerEntry, LedgerQuery, MemoryLedger, Notifier
from pilotis.modules.notification.dispatch import RECOVERED_AT_ONCE
from pilotis.providers import Context, NotificationCapability, OutgoingMessage, Receipt
from pilotis_testing import Colour, ManualClock
from pilotis_testing.clock import until
from pilotis_testing.ledger import new_entry
from pilotis_testing.scripted import ScriptedNotification

TIMEOUT, LEASE = 30.0, 60.0
"""As they are unless somebody sets them."""

MAIL: dict[str, Any] = {"to": "ada@example.com", "channel": "email", "content": Content(text="Hello")}

Build = Callable[..., Notifier]


class Immediate(ScriptedNotification):
    """Scripted, and called directly."""

    capabilities = NotificationCapability.IMMEDIATE
    batch = 1


class Ledger(MemoryLedger):
    """A ledger that can be looked into, and fails where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[int] = []
        self.fails_to_settle = 0

    async def find(self, query: LedgerQuery) -> list[LedgerEntry]:
        found = await super().find(query)
        self.found.append(len(found))
        return found

    async def replace(self, entries: Sequence[LedgerEntry]) -> list[bool]:
        if self.fails_to_settle and any(entry.leased_until is None for entry in entries):
            self.fails_to_settle -= 1
            raise ConnectionResetError("database gone")
        return await super().replace(entries)

    def statuses(self, now: float) -> set[str]:
        return {entry.status_at(now) for entry in self._entries.values()}


async def test_what_a_provider_answered_is_not_forgotten(build: Build, colour: Colour) -> None:
    """By a ledger that fails for a moment: it is written down once more, and the mail is not sent again."""
    provider, ledger = Immediate(), Ledger()
    ledger.fails_to_settle = 1
    voice = colour.voice(build(provider, ledger=ledger))
    with pytest.raises(ConnectionFailedError, match="failed in replace"):
        await voice.send(**MAIL, idempotency_key="key")
    sent = await voice.send(**MAIL, idempotency_key="key")
    assert ("sent", 1, 1) == (sent.status, sent.attempts, len(provider.seen))


async def test_a_lease_begins_when_it_is_written_down(build: Build, clock: ManualClock, colour: Colour) -> None:
    """However long it took to make the messages."""

    class Thorough(Immediate):
        def check(self, message: OutgoingMessage) -> None:
            clock.advance(LEASE)

    class Noting(MemoryLedger):
        async def record(self, entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
            lasting.extend((entry.leased_until or 0) - clock.time() for entry in entries)
            return await super().record(entries)

    lasting: list[float] = []
    await colour.voice(build(Thorough(), ledger=Noting())).send_many([MAIL, MAIL])
    assert [LEASE] * 2 == lasting


async def test_those_that_wait_for_their_turn_are_kept(build: Build, clock: ManualClock, colour: Colour) -> None:
    """However long the line is: nobody takes over what a living sender has not come to yet."""
    ledger, seen = Ledger(), set[str]()

    def slow(message: OutgoingMessage) -> Receipt:
        clock.advance(TIMEOUT)
        seen.update(ledger.statuses(clock.time()))
        return Receipt()

    sent = await colour.voice(build(Immediate(*[slow] * 6), ledger=ledger)).send_many([MAIL] * 6)
    assert ["sent"] * 6 == [one.status for one in sent]
    assert {"pending", "sending", "sent"} == seen


def test_those_that_fell_to_the_next_provider_are_kept(build: Build, clock: ManualClock) -> None:
    """While others of the same list wait for another attempt at the one before."""
    first = Immediate(AuthenticationError(), *[ThrottledError(retry_after=50)] * 2, name="first")
    ledger = Ledger()
    notifier = build({"*": [first, Immediate(name="second")]}, ledger=ledger)
    job = notifier.context.runtime.spawn(notifier.asend_many([MAIL, MAIL]), "send")
    for attempt in (2, 3):
        until(lambda attempt=attempt: attempt == len(first.calls))
        clock.wait_for_waiters()
        clock.advance(49.9)
        assert {"sending"} == ledger.statuses(clock.time())
        clock.advance(0.1)
    Colour.BLOCKING.run(job.ended.wait(10))
    assert ["first", "second"] == sorted(str(one.provider) for one in notifier.find(status="sent"))


async def test_who_comes_second_to_what_failed_is_told_that_somebody_is_at_it(build: Build, colour: Colour) -> None:
    """And not what became of it before."""

    class Contested(Ledger):
        async def replace(self, entries: Sequence[LedgerEntry]) -> list[bool]:
            if entries[0].notification.status == "pending":  # somebody else is faster by a moment
                await super().replace(entries)
            return await super().replace(entries)

    voice = colour.voice(build(Immediate(AuthenticationError()), ledger=Contested()))
    with pytest.raises(NotificationFailedError):
        await voice.send(**MAIL, idempotency_key="key")
    assert "pending" == (await voice.send(**MAIL, idempotency_key="key")).status


def left_behind(clock: ManualClock, channel: str = "email") -> LedgerEntry:
    """Return an entry whose sender died: its lease has just ended."""
    entry = new_entry(clock, leased_until=clock.time(), channel=channel)
    message = OutgoingMessage(id=entry.id, channel=channel, to="ada@example.com", content=Content(text="Hello"))
    return replace(entry, message=JSON.encode(message, "message"))


async def test_recovery_goes_part_by_part(build: Build, clock: ManualClock, colour: Colour) -> None:
    """However much there is, it is never all in the memory at once, and all is sent."""
    ledger = Ledger()
    await ledger.record([left_behind(clock) for _ in range(2 * RECOVERED_AT_ONCE + 1)])
    sent = await colour.voice(build(Immediate(), ledger=ledger)).recover()
    assert ["sent"] * (2 * RECOVERED_AT_ONCE + 1) == [one.status for one in sent]
    assert [RECOVERED_AT_ONCE, RECOVERED_AT_ONCE, 1, 0] == ledger.found


async def test_recovery_is_not_held_up_by_a_channel_that_is_gone(
    build: Build, clock: ManualClock, colour: Colour
) -> None:
    """What was for it has failed; all else is sent."""
    ledger = Ledger()
    gone, other = left_behind(clock, channel="fax"), left_behind(clock)
    await ledger.record([gone, other])
    voice = colour.voice(build({"email": Immediate()}, ledger=ledger))
    assert {gone.id: "failed", other.id: "sent"} == {one.id: one.status for one in await voice.recover()}
    assert "there is no channel 'fax'" in str((await voice.get(gone.id)).error)


async def test_recovery_leaves_a_silent_provider_alone(build: Build, clock: ManualClock, colour: Colour) -> None:
    """After one part: the others have their turns later, and none is tried more often than it may be."""
    ledger, several = Ledger(), RECOVERED_AT_ONCE + 5
    await ledger.record([left_behind(clock) for _ in range(several)])
    provider = Immediate(*[TimeoutError()] * several * 9)
    voice = colour.voice(build(provider, ledger=ledger))
    times = [len(await voice.recover()) for _ in range(7)]
    assert [RECOVERED_AT_ONCE] * 3 + [5] * 3 + [0] == times
    assert {3} == set(Counter(message.id for message in provider.seen).values())


@pytest.mark.parametrize(("ahead", "status"), [(LEASE - TIMEOUT - 1, "sending"), (LEASE, "unknown")])
async def test_a_clock_that_is_ahead_of_the_senders(
    build: Build, clock: ManualClock, ahead: float, status: str
) -> None:
    """By less than what the lease is longer than the timeout, it sees a living sender as one."""
    hasty, ledger, seen = ManualClock(clock.time() + ahead), MemoryLedger(), list[str]()
    other = Notifier(Immediate(), ledger=ledger, context=Context(clock=hasty))

    def slow(message: OutgoingMessage) -> Receipt:
        for own in (clock, hasty):
            own.advance(TIMEOUT)
        seen.extend(one.status for one in other.find())
        return Receipt()

    await run_blocking(build(Immediate(slow), ledger=ledger).send, **MAIL)
    assert [status] == seen
    await other.aclose()
