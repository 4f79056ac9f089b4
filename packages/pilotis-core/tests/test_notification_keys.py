"""Idempotency keys, crashes and recovery: what the ledger is for."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from pilotis.backoff import Backoff
from pilotis.bridge import Latch, run_blocking
from pilotis.errors import (
    ConflictError,
    ConnectionFailedError,
    InvalidInputError,
    NotFoundError,
    NotificationFailedError,
)
from pilotis.modules.notification import Content, LedgerEntry, MemoryLedger, Notifier
from pilotis.providers import Context, LedgerCapability, NotificationCapability
from pilotis.settings.model import NotificationSettings
from pilotis_testing import Colour, ManualClock
from pilotis_testing.clock import until
from pilotis_testing.colours import together
from pilotis_testing.scripted import ScriptedNotification

AT_ONCE = NotificationSettings(attempts=3, backoff=Backoff.fixed(0))
HOLD = NotificationSettings(attempts=3, backoff=Backoff.fixed(0), on_unknown="hold")
MAIL: dict[str, Any] = {"to": "ada@example.com", "channel": "email", "content": Content(text="Hello")}
KEYED = MAIL | {"idempotency_key": "order-42-placed"}


class Immediate(ScriptedNotification):
    """Scripted, and called directly."""

    capabilities = NotificationCapability.IMMEDIATE


class Durable(MemoryLedger):
    """A ledger that stands for one in a database: shared by notifiers, as by processes."""

    capabilities = LedgerCapability.DURABLE


async def crashed(ledger: MemoryLedger, clock: ManualClock, **message: Any) -> LedgerEntry:
    """Leave a notification in the ledger as a sender does that dies while the provider has it."""
    dying = Context(clock=clock)
    provider = Immediate(Latch())
    survivor = Notifier(provider, context=dying, ledger=ledger)
    task = asyncio.ensure_future(survivor.asend(**message))
    await run_blocking(until, lambda: bool(provider.calls))
    [entry] = ledger._entries.values()  # pyright: ignore[reportPrivateUsage]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    ledger._entries[entry.id] = entry  # pyright: ignore[reportPrivateUsage]
    await survivor.aclose()
    return entry


def leave_behind(ledger: MemoryLedger, clock: ManualClock, **message: Any) -> LedgerEntry:
    """As `crashed`, from blocking code."""
    return asyncio.run(crashed(ledger, clock, **message))


# Keys


async def test_the_same_key_gives_the_same_notification(build: Any, colour: Colour) -> None:
    """One message, whatever the trigger and the resource."""
    provider = Immediate()
    voice = colour.voice(build(provider))
    first = await voice.send(**KEYED)
    assert await voice.send(**KEYED, trigger="order.placed", resource=("order", "42")) == first
    assert len(provider.seen) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"to": "bob@example.com"},
        {"content": Content(text="Good bye")},
        {"sender": "shop@example.com"},
        {"data": {"total": 1}},
        {"provider_data": {"category": "x"}},
    ],
)
async def test_another_message_under_a_used_key_is_a_conflict(build: Any, colour: Colour, change: Any) -> None:
    """The error names the key and the earlier notification; nothing is sent."""
    provider = Immediate()
    voice = colour.voice(build(provider))
    first = await voice.send(**KEYED)
    with pytest.raises(ConflictError, match=f"'order-42-placed' was used for another message.*{first.id}"):
        await voice.send(**KEYED | change)
    assert len(provider.seen) == 1


async def test_concurrent_senders_of_one_key_send_one_message(build: Any, colour: Colour) -> None:
    """Eight threads or tasks: all get the same notification, sent."""
    provider = ScriptedNotification()
    voice = colour.voice(build(provider))
    sent = await together(*[lambda: voice.send(**KEYED)] * 8)
    assert len(provider.seen) == 1
    assert {one.id for one in sent} == {provider.seen[0].id}
    assert {one.status for one in sent} == {"sent"}


async def test_two_processes_send_one_message(build: Any, colour: Colour) -> None:
    """Two notifiers on one ledger: the second sees that the first is at it."""
    ledger, hanging, provider = MemoryLedger(), Latch(), ScriptedNotification()
    first = build(ScriptedNotification(hanging), ledger=ledger)
    second = colour.voice(build(provider, ledger=ledger))
    job = first.context.runtime.spawn(first.asend(**KEYED), "first")
    await run_blocking(until, lambda: [entry.status for entry in first.find()] == ["sending"])
    assert (await second.send(**KEYED)).status == "sending"
    hanging.set()
    await job.ended.wait(5)
    assert (await second.send(**KEYED)).status == "sent"
    assert provider.calls == []


async def test_a_key_twice_in_one_list_is_one_message(build: Any, colour: Colour) -> None:
    """Both places hold the same, settled notification; a third, different message failed."""
    provider = Immediate()
    sent = await colour.voice(build(provider)).send_many([KEYED, KEYED, KEYED | {"to": "bob@example.com"}])
    assert [one.status for one in sent] == ["sent", "sent", "failed"]
    assert sent[0] == sent[1]
    assert "ConflictError" in str(sent[2].error)
    assert len(provider.seen) == 1


async def test_a_failed_notification_is_tried_again_under_its_key(build: Any, colour: Colour) -> None:
    """It stays the same notification."""
    provider = Immediate(InvalidInputError("mailbox full"))
    voice = colour.voice(build(provider))
    with pytest.raises(NotificationFailedError) as caught:
        await voice.send(**KEYED)
    sent = await voice.send(**KEYED)
    assert (sent.id, sent.status, sent.attempts, sent.error) == (caught.value.notification.id, "sent", 2, None)


async def test_a_dry_run_leaves_the_key_alone(build: Any, colour: Colour) -> None:
    """The real one is sent afterwards."""
    voice = colour.voice(build(Immediate()))
    assert (await voice.send(**KEYED, dry_run=True)).status == "simulated"
    assert (await voice.send(**KEYED)).status == "sent"


@pytest.mark.parametrize(("settings", "status", "sent"), [(AT_ONCE, "sent", 2), (HOLD, "unknown", 1)])
async def test_what_an_unknown_outcome_does_to_its_key(
    build: Any, colour: Colour, settings: NotificationSettings, status: str, sent: int
) -> None:
    """`resend` never loses it, `hold` never repeats it."""
    provider = Immediate(TimeoutError())
    voice = colour.voice(build(provider, settings))
    assert (await voice.send(**KEYED)).status == "unknown"
    assert (await voice.send(**KEYED)).status == status
    assert len(provider.seen) == sent


# Crashes


@pytest.mark.parametrize(("settings", "status", "sent"), [(AT_ONCE, "sent", 1), (HOLD, "unknown", 0)])
def test_after_a_crash_the_lease_decides_then_the_settings(
    build: Any, clock: ManualClock, settings: NotificationSettings, status: str, sent: int
) -> None:
    """While the lease lasts it is being sent; then it is unknown, and resent or held."""
    ledger, provider = MemoryLedger(), Immediate()
    entry = leave_behind(ledger, clock, **KEYED)
    notifier = build(provider, settings, ledger=ledger)
    clock.advance(59.9)
    assert (notifier.get(entry.id).status, notifier.recover()) == ("sending", [])
    clock.advance(0.1)
    assert notifier.get(entry.id).status == "unknown"
    assert [one.id for one in notifier.find(status="unknown")] == [entry.id]
    assert [one.status for one in notifier.recover()] == [status] * sent
    assert notifier.get(entry.id).status == status
    assert [message.id for message in provider.seen] == [entry.id] * sent
    assert notifier.send(**KEYED).id == entry.id


def test_recovery_happens_by_itself_with_a_durable_ledger(build: Any, clock: ManualClock) -> None:
    """At opening, and once per lease."""
    ledger, provider = Durable(), Immediate()
    entry = leave_behind(ledger, clock, **MAIL)
    build(provider, ledger=ledger).open()
    clock.wait_for_waiters()
    assert provider.seen == []
    clock.advance(60)
    until(lambda: [message.id for message in provider.seen] == [entry.id])


def test_no_thread_recovers_in_memory_or_where_one_only_emits(clock: ManualClock) -> None:
    """Nothing needs it there."""
    for ledger, role in ((MemoryLedger(), "all"), (Durable(), "emit")):
        context = Context(clock=clock, role=role)  # pyright: ignore[reportArgumentType]
        with_nothing = Notifier(Immediate(), context=context, ledger=ledger)
        with_nothing.open()
        assert not context.runtime.started
        with_nothing.close()


def test_a_message_that_kills_its_sender_does_not_go_on_for_ever(build: Any, clock: ManualClock) -> None:
    """It is sent again as often as `attempts` says, and stays unknown then, until somebody resends it."""
    provider = Immediate(*[TimeoutError()] * 4)
    notifier = build(provider)
    unknown = notifier.send(**MAIL)
    assert [[one.status for one in notifier.recover()] for _ in range(4)] == [["unknown"]] * 3 + [[]]
    assert len(provider.seen) == 4
    assert notifier.resend(unknown.id).status == "sent"


def test_a_sender_that_comes_back_too_late_settles_nothing(build: Any, clock: ManualClock) -> None:
    """Its lease was taken over: what the other one wrote stands, and it is told so."""
    ledger, hanging = MemoryLedger(), Latch()
    slow = build(ScriptedNotification(hanging, name="slow"), ledger=ledger)
    quick = build(Immediate(name="quick"), ledger=ledger)
    outcome: list[Any] = []

    async def send() -> None:
        outcome.append(await slow.asend(**MAIL))

    slow.context.runtime.spawn(send(), "slow")
    until(lambda: bool(slow._switchboard.lines[0]._own.calls))  # pyright: ignore[reportPrivateUsage]
    [entry] = ledger._entries.values()  # pyright: ignore[reportPrivateUsage]
    ledger._entries[entry.id] = replace(entry, leased_until=clock.time())  # pyright: ignore[reportPrivateUsage]
    [recovered] = quick.recover()
    hanging.set()
    until(lambda: bool(outcome))
    assert recovered.provider == "quick"
    assert outcome == [recovered]
    assert quick.get(entry.id) == recovered


async def test_a_cancelled_sender_leaves_it_unknown(build: Any) -> None:
    """At once, without waiting for the lease."""
    provider = ScriptedNotification(Latch())
    notifier = build(provider)
    task = asyncio.ensure_future(notifier.asend(**MAIL))
    await run_blocking(until, lambda: bool(provider.calls))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    [left] = await notifier.afind()
    assert (left.status, left.error) == ("unknown", "the sender was interrupted")


async def test_a_ledger_that_fails_after_the_send_leaves_the_lease(build: Any, clock: ManualClock) -> None:
    """The caller gets the error; later the outcome is unknown."""

    class Failing(MemoryLedger):
        async def replace(self, entries: Any) -> Any:
            if any(entry.notification.status != "sending" for entry in entries):
                raise ConnectionResetError("database gone")
            return await super().replace(entries)

    notifier = build(Immediate(), ledger=Failing())
    with pytest.raises(ConnectionFailedError, match="failed in replace"):
        await notifier.asend(**MAIL)
    clock.advance(60)
    assert [one.status for one in await notifier.afind()] == ["unknown"]


# Resending and looking


async def test_resend_is_a_new_attempt_of_the_same(build: Any, colour: Colour) -> None:
    """With the content as it was rendered then."""
    provider = Immediate()
    voice = colour.voice(build(provider))
    first = await voice.send(**MAIL)
    again = await voice.resend(first.id)
    assert (again.id, again.status, again.attempts) == (first.id, "sent", 2)
    assert again.external_id != first.external_id
    assert provider.seen[0] == provider.seen[1]


def test_a_notifier_that_is_opened_again_recovers_again(build: Any, clock: ManualClock) -> None:
    """As for an app whose opening failed half-way: its providers, its ledger and its recovery begin anew."""
    ledger, provider = Durable(), Immediate()
    notifier = build(provider, ledger=ledger)
    notifier.open()
    notifier.close()
    notifier.renew()
    entry = leave_behind(ledger, clock, **MAIL)
    clock.advance(60)
    notifier.open()
    until(lambda: [message.id for message in provider.seen] == [entry.id])
    assert "sent" == notifier.send(**MAIL).status


async def test_resend_of_what_is_not_there_or_under_way(build: Any, clock: ManualClock) -> None:
    """Two errors: not found, and conflict."""
    ledger = MemoryLedger()
    entry = await crashed(ledger, clock, **MAIL)
    notifier = build(Immediate(), ledger=ledger)
    with pytest.raises(NotFoundError, match="no notification 'nothing'"):
        await notifier.aresend("nothing")
    with pytest.raises(ConflictError, match="is being sent right now"):
        await notifier.aresend(entry.id)
    with pytest.raises(NotFoundError):
        await notifier.aget("nothing")


async def test_find_by_every_filter(build: Any, clock: ManualClock, colour: Colour) -> None:
    """Status, recipient, channel, resource and time, newest first."""
    voice = colour.voice(build({"*": Immediate(), "off": []}))
    first = await voice.send(**MAIL, resource=("order", "42"))
    clock.advance(10)
    second = await voice.send(**MAIL | {"to": "+46 1", "channel": "sms"})
    third = await voice.send(**MAIL | {"channel": "off"})
    assert await voice.find() == [third, second, first]
    assert await voice.find(status=["sent", "failed"]) == [second, first]
    assert await voice.find(to="+46 1") == await voice.find(channel="sms") == [second]
    assert await voice.find(resource=("order", "42")) == [first]
    assert await voice.find(since=second.created_at) == [third, second]
    assert await voice.find(since=second.created_at.astimezone(UTC) + timedelta(seconds=1)) == []
    assert await voice.find(limit=1) == [third]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"status": "snet"}, "there is no status 'snet'; did you mean 'sent'"),
        ({"since": datetime(2026, 1, 1)}, "since: expected a datetime with a time zone"),  # noqa: DTZ001
        ({"since": 12.5}, "since: expected a datetime"),
        ({"limit": 0}, "limit: expected 1 or more"),
        ({"resource": "order"}, "resource: expected a pair of texts"),
        ({"to": ""}, "to: expected text of 1"),
        ({"channel": 5}, "channel: expected text"),
    ],
)
def test_find_refuses_what_finds_nothing_by_mistake(build: Any, filters: Any, message: str) -> None:
    """Each filter names what it expects."""
    with pytest.raises(InvalidInputError, match=message):
        build(Immediate()).find(**filters)


@pytest.mark.parametrize(("settings", "status", "sent"), [(AT_ONCE, "sent", 2), (HOLD, "unknown", 1)])
async def test_who_waits_for_a_cancelled_sender_goes_on_as_after_a_crash(
    build: Any, settings: NotificationSettings, status: str, sent: int
) -> None:
    """The outcome is unknown then, and the settings decide."""
    provider = ScriptedNotification(Latch())
    notifier = build(provider, settings)
    leader = asyncio.ensure_future(notifier.asend(**KEYED))
    await run_blocking(until, lambda: bool(provider.calls))
    follower = asyncio.ensure_future(notifier.asend(**KEYED))
    await asyncio.sleep(0)
    leader.cancel()
    assert (await follower).status == status
    assert len(provider.seen) == sent
