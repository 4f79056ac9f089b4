"""What the notifier does between a request and its providers: routes, retries, unknown outcomes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from pilotis.backoff import Backoff
from pilotis.bridge import Latch
from pilotis.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailedError,
    InvalidInputError,
    NotificationFailedError,
    OperationTimeoutError,
    ThrottledError,
    UnsupportedError,
)
from pilotis.modules.notification import Content, MemoryLedger, Notification, NotificationRequest, Notifier, Receipt
from pilotis.providers import Attachment, Context, DeliveryUpdate, NotificationCapability, OutgoingMessage
from pilotis.settings.model import NotificationSettings
from pilotis_testing import Colour, ManualClock
from pilotis_testing.clock import until
from pilotis_testing.scripted import ScriptedNotification

HELLO = Content(subject="Hello", text="Hello Ada")
MAIL: dict[str, Any] = {"to": "ada@example.com", "channel": "email", "content": HELLO}


class Immediate(ScriptedNotification):
    """Scripted, and called directly."""

    capabilities = NotificationCapability.IMMEDIATE | NotificationCapability.OUTBOX


# Routes


async def test_a_channel_has_its_own_provider_and_the_star_has_the_rest(build: Any, colour: Colour) -> None:
    """Each message goes to the provider of its channel."""
    mail, rest = Immediate(name="mail"), Immediate(name="rest")
    voice = colour.voice(build({"email": mail, "*": [rest]}))
    sent = [await voice.send("ada@example.com", channel="email", content=HELLO)]
    sent.append(await voice.send("+46 1", channel="sms", content=HELLO))
    assert [one.provider for one in sent] == ["mail", "rest"]
    assert [message.to for message in mail.seen + rest.seen] == ["ada@example.com", "+46 1"]


async def test_an_unknown_channel_is_refused_with_the_known_ones(build: Any, colour: Colour) -> None:
    """The error lists the channels, and the nearest."""
    voice = colour.voice(build({"email": Immediate(), "sms": Immediate()}))
    with pytest.raises(InvalidInputError, match=r"no channel 'emial' \(there are: email, sms\); did you mean 'email'"):
        await voice.send(**MAIL | {"channel": "emial"})


async def test_a_channel_without_providers_is_switched_off(build: Any, colour: Colour) -> None:
    """What is sent there is recorded as skipped."""
    voice = colour.voice(build({"email": [], "*": Immediate()}))
    skipped = await voice.send(**MAIL)
    assert (skipped.status, skipped.attempts) == ("skipped", 0)
    assert await voice.find(status="skipped") == [skipped]


def test_routes_hold_providers_only() -> None:
    """Anything else is a configuration error with its place."""
    wrong: Any = {"email": ["sendgrid"]}
    with pytest.raises(ConfigurationError, match=r"notification\.channels\.email: expected a NotificationProvider"):
        Notifier(wrong)


async def test_all_providers_are_opened_pinged_and_closed_once(build: Any, colour: Colour) -> None:
    """A provider of two channels is one provider."""
    mail, both = Immediate(), Immediate()
    voice = colour.voice(build({"email": [mail, both], "sms": both}))
    await voice.open()
    await voice.close()
    assert [mail.life, both.life] == [["open", "ping", "close"]] * 2


async def test_opening_names_the_provider_that_cannot_be_reached(build: Any, colour: Colour) -> None:
    """Of several, the one that failed."""

    class Unreachable(Immediate):
        async def ping(self) -> None:
            raise ConnectionRefusedError("nobody there")

    voice = colour.voice(build({"email": [Immediate(name="good"), Unreachable(name="bad")]}))
    with pytest.raises(ConnectionFailedError, match="notification provider 'bad'"):
        await voice.open()


async def test_a_failed_opening_can_be_tried_again(build: Any, colour: Colour) -> None:
    """What was open stays open meanwhile, and closing closes it."""

    class Late(Immediate):
        async def ping(self) -> None:
            await super().ping()
            if self.life.count("ping") == 1:
                raise ConnectionRefusedError("not yet")

    good, late = Immediate(), Late()
    voice = colour.voice(build({"email": [good, late]}))
    with pytest.raises(ConnectionFailedError):
        await voice.send(**MAIL)
    assert (await voice.send(**MAIL)).status == "sent"
    await voice.close()
    assert good.life == ["open", "ping", "ping", "close"]
    assert late.life == ["open", "ping", "close", "open", "ping", "close"]


def test_closing_waits_for_what_is_being_sent(build: Any) -> None:
    """The provider is closed after it has answered."""
    hanging, sent = Latch(), list[Notification]()
    provider = ScriptedNotification(hanging)
    notifier = build(provider)
    threads = [
        threading.Thread(target=target) for target in (lambda: sent.append(notifier.send(**MAIL)), notifier.close)
    ]
    threads[0].start()
    until(lambda: bool(provider.calls))
    threads[1].start()
    until(notifier._closing.is_set)  # pyright: ignore[reportPrivateUsage]
    assert provider.life == ["open", "ping"]
    hanging.set()
    for thread in threads:
        thread.join(5)
    assert [one.status for one in sent] == ["sent"]
    assert provider.life == ["open", "ping", "close"]


async def test_closing_closes_every_provider_even_if_one_fails(context: Context, colour: Colour) -> None:
    """Also after an opening that failed; the error is raised."""

    class Sticky(Immediate):
        async def close(self) -> None:
            raise ConnectionResetError("stuck")

    good = Immediate()
    voice = colour.voice(Notifier({"email": [Sticky(name="sticky"), good]}, context=context))
    with pytest.raises(ConnectionFailedError, match=r"'sticky'.* failed in close"):
        await voice.close()
    assert good.life == ["close"]


def test_capabilities_are_those_of_every_provider(build: Any) -> None:
    """What only some channels have is not promised."""
    notifier = build({"email": Immediate(), "sms": ScriptedNotification()})
    assert notifier.capabilities == NotificationCapability(0)
    with pytest.raises(UnsupportedError, match="OUTBOX"):
        notifier.require_named(["outbox"])


# Errors of providers


@pytest.mark.parametrize("error", [ConnectionFailedError(), ThrottledError(), ConnectionResetError("native")])
async def test_passing_errors_are_tried_again_at_the_same_provider(
    build: Any, colour: Colour, error: Exception
) -> None:
    """Two failures, then success: three attempts, one provider."""
    first, second = Immediate(error, error, name="first"), Immediate(name="second")
    sent = await colour.voice(build({"*": [first, second]})).send(**MAIL)
    assert (sent.status, sent.attempts, sent.provider, sent.error) == ("sent", 3, "first", None)
    assert second.calls == []


async def test_used_up_attempts_are_the_next_ones_turn(build: Any, colour: Colour) -> None:
    """Three failures of the first, one success of the second."""
    first = Immediate(*[ConnectionFailedError()] * 3, name="first")
    sent = await colour.voice(build({"*": [first, Immediate(name="second")]})).send(**MAIL)
    assert (sent.status, sent.attempts, sent.provider) == ("sent", 4, "second")


@pytest.mark.parametrize("error", [AuthenticationError(), RuntimeError("a bug"), UnsupportedError("X", "first")])
async def test_lasting_errors_are_the_next_ones_turn_at_once(build: Any, colour: Colour, error: Exception) -> None:
    """No second attempt at a provider that cannot do it."""
    sent = await colour.voice(build({"*": [Immediate(error), Immediate(name="second")]})).send(**MAIL)
    assert (sent.status, sent.attempts, sent.provider) == ("sent", 2, "second")


async def test_a_refused_recipient_is_not_offered_to_the_next(build: Any, colour: Colour) -> None:
    """It would be refused there too."""
    second = Immediate()
    voice = colour.voice(build({"*": [Immediate(InvalidInputError("no such mailbox"), name="first"), second]}))
    with pytest.raises(NotificationFailedError, match="first: InvalidInputError: no such mailbox") as caught:
        await voice.send(**MAIL)
    failed: Notification = caught.value.notification
    assert (failed.status, failed.attempts, second.calls) == ("failed", 1, [])
    assert await voice.get(failed.id) == failed


async def test_when_all_fail_the_error_names_each(build: Any, colour: Colour) -> None:
    """And is retryable if one of them is."""
    first = Immediate(AuthenticationError("bad key"), name="first")
    second = Immediate(*[ConnectionFailedError("down")] * 3, name="second")
    with pytest.raises(NotificationFailedError, match=r"first: .*bad key; second: .*down") as caught:
        await colour.voice(build({"*": [first, second]})).send(**MAIL)
    assert caught.value.retryable
    assert isinstance(caught.value.__cause__, ConnectionFailedError)


async def test_an_error_of_the_whole_call_is_that_of_each_message(build: Any, colour: Colour) -> None:
    """Both are tried again, and go through."""
    provider = Immediate(raises=[ConnectionResetError("gone")])
    sent = await colour.voice(build(provider)).send_many([MAIL, MAIL])
    assert [(one.status, one.attempts) for one in sent] == [("sent", 2), ("sent", 2)]


async def test_an_answer_too_few_is_unknown(build: Any, colour: Colour) -> None:
    """Nobody can tell which of the messages it belongs to."""

    class Forgetful(Immediate):
        async def send(self, messages: Any) -> Any:
            return (await super().send(messages))[1:]

    sent = await colour.voice(build({"*": [Forgetful(), Immediate()]})).send_many([MAIL, MAIL])
    assert [one.status for one in sent] == ["unknown", "unknown"]


async def test_what_a_provider_lacks_is_the_next_ones_turn(build: Any, colour: Colour) -> None:
    """A message with a file is never sent without it."""

    class Able(Immediate):
        capabilities = Immediate.capabilities | NotificationCapability.ATTACHMENTS

    plain = Immediate(name="plain")
    voice = colour.voice(build({"*": [plain, Able(name="able")], "sms": plain}))
    files = [Attachment("a.txt", b"a")]
    sent = await voice.send(**MAIL, attachments=files)
    assert (sent.provider, sent.attempts, plain.calls) == ("able", 1, [])
    with pytest.raises(UnsupportedError, match="ATTACHMENTS"):
        await voice.send("+46 1", channel="sms", content=HELLO, attachments=files)


@pytest.mark.parametrize("status", ["skipped", "simulated"])
async def test_a_receipt_may_say_what_else_became_of_it(build: Any, colour: Colour, status: Any) -> None:
    """A recipient on a suppression list, a sandbox."""
    sent = await colour.voice(build(Immediate(Receipt(status=status, external_id="x")))).send(**MAIL)
    assert (sent.status, sent.external_id) == (status, "x")


# Time


async def test_waits_follow_the_backoff_and_what_the_provider_asks(build: Any, clock: ManualClock) -> None:
    """The longer of the two; the lease covers the wait."""
    provider = Immediate(ConnectionFailedError(), ThrottledError(retry_after=20), name="slow")
    notifier = build(provider, NotificationSettings(attempts=3, backoff=Backoff.fixed(5)))
    job = notifier.context.runtime.spawn(notifier.asend(**MAIL), "send")
    clock.wait_for_waiters()
    clock.advance(5)
    until(lambda: len(provider.calls) == 2)
    clock.wait_for_waiters()
    clock.advance(19.9)
    assert [one.status for one in await notifier.afind()] == ["sending"]
    clock.advance(0.1)
    await job.ended.wait(5)
    assert [(one.status, one.attempts) for one in await notifier.afind()] == [("sent", 3)]


async def test_a_provider_that_asks_for_too_long_a_wait_is_passed_over(build: Any, colour: Colour) -> None:
    """Longer than the lease: the next one has its turn."""
    first = Immediate(ThrottledError(retry_after=3600))
    sent = await colour.voice(build({"*": [first, Immediate(name="second")]})).send(**MAIL)
    assert (sent.status, sent.provider) == ("sent", "second")


async def test_a_time_out_is_unknown_and_goes_nowhere_else(build: Any, colour: Colour) -> None:
    """The provider's own time-out: no second attempt, no second provider, no error."""
    first, second = Immediate(TimeoutError("slow")), Immediate()
    unknown = await colour.voice(build({"*": [first, second]})).send(**MAIL)
    assert (unknown.status, unknown.attempts, second.calls) == ("unknown", 1, [])
    assert unknown.error is not None
    assert OperationTimeoutError.__name__ in unknown.error


async def test_a_provider_that_hangs_is_given_up(context: Context, colour: Colour) -> None:
    """After the time limit the outcome is unknown, in both colours."""
    hanging = Latch()
    notifier = Notifier(ScriptedNotification(hanging), settings=NotificationSettings(timeout=0.03))
    unknown = await colour.voice(notifier).send(**MAIL)
    assert unknown.status == "unknown"
    hanging.set()
    await notifier.aclose()
    notifier.context.runtime.stop()


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        (NotificationSettings(timeout=60, lease=60), "notification.timeout"),
        (NotificationSettings(timeout=0), "notification.timeout"),
        (NotificationSettings(attempts=0), "notification.attempts"),
        (NotificationSettings(on_unknown="lose"), "notification.on_unknown"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_settings_that_cannot_work_are_refused(settings: NotificationSettings, place: str) -> None:
    """Each with its place."""
    with pytest.raises(ConfigurationError, match=place):
        Notifier(Immediate(), settings=settings)


# Many


async def test_one_failure_hides_no_other(build: Any, colour: Colour) -> None:
    """In input order: refused by us, refused by the provider, unknown, sent."""

    def judge(message: Any) -> Any:
        errors = {"no@example.com": InvalidInputError("no"), "slow@example.com": TimeoutError()}
        return errors.get(message.to, Receipt())

    voice = colour.voice(build(Immediate(*[judge] * 3)))
    to = ["not an address", "no@example.com", "slow@example.com", "ada@example.com"]
    sent = await voice.send_many([MAIL | {"to": one} for one in to])
    assert [(one.to, one.status) for one in sent] == [
        (to[0], "failed"),
        (to[1], "failed"),
        (to[2], "unknown"),
        (to[3], "sent"),
    ]
    assert sent[0].error is not None
    assert "InvalidInputError: to: expected one mail address" in sent[0].error
    assert len(await voice.find()) == 3


async def test_batches_are_as_large_as_the_provider_takes(build: Any, colour: Colour) -> None:
    """Five messages, two at a time."""

    class Small(Immediate):
        batch = 2

    provider = Small()
    requests = [NotificationRequest(**MAIL, trigger=f"{number}") for number in range(5)]
    sent = await colour.voice(build(provider)).send_many(requests)
    assert [one.trigger for one in sent] == ["0", "1", "2", "3", "4"]
    assert [len(call) for call in provider.calls] == [2, 2, 1]


async def test_only_what_failed_of_a_batch_is_tried_again(build: Any, colour: Colour) -> None:
    """The message that went through is not sent twice."""
    provider = Immediate(Receipt(), ConnectionFailedError())
    sent = await colour.voice(build(provider)).send_many([MAIL, MAIL])
    assert [one.attempts for one in sent] == [1, 2]
    assert [len(call) for call in provider.calls] == [2, 1]


async def test_no_messages_are_no_work(build: Any, colour: Colour) -> None:
    """An empty list gives an empty list."""
    assert await colour.voice(build(Immediate())).send_many([]) == []


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("mail", r"messages\[1\]: expected a NotificationRequest or a mapping"),
        (MAIL | {"chanel": "sms"}, r"messages\[1\]: send has no argument 'chanel'; did you mean 'channel'"),
        ({"to": "ada@example.com"}, r"messages\[1\]: expected the argument 'channel'"),
    ],
)
async def test_an_item_that_is_no_message_stops_all(build: Any, colour: Colour, item: Any, message: str) -> None:
    """A mistake in the program: nothing is sent."""
    provider = Immediate()
    with pytest.raises(InvalidInputError, match=message):
        await colour.voice(build(provider)).send_many([MAIL, item])
    assert provider.calls == []


# The rest


async def test_the_ledger_comes_first(build: Any, colour: Colour) -> None:
    """When it cannot be written, nothing is sent."""

    class Broken(MemoryLedger):
        async def record(self, entries: Any) -> Any:
            raise ConnectionRefusedError("no database")

    provider = Immediate()
    voice = colour.voice(build(provider, ledger=Broken()))
    with pytest.raises(ConnectionFailedError, match=r"notification provider 'memory'.* failed in record"):
        await voice.send(**MAIL)
    assert provider.calls == []


async def test_webhooks_go_to_the_provider_of_that_name(build: Any, colour: Colour) -> None:
    """Another name lists the names; a body that is not raw is refused."""
    voice = colour.voice(build(Immediate(name="mail")))
    with pytest.raises(InvalidInputError, match=r"no provider 'sendgrid' \(there are: mail\)"):
        await voice.webhook("sendgrid", {}, b"")
    with pytest.raises(UnsupportedError, match="WEBHOOKS"):
        await voice.webhook("mail", {}, b"")
    with pytest.raises(InvalidInputError, match="body: expected the raw bytes"):
        await voice.webhook("mail", {}, "text")
    for headers in ([(b"a", b"b")], {b"a": "b"}, {"a": ["b"]}, None):
        with pytest.raises(InvalidInputError, match="headers: expected texts by name"):
            await voice.webhook("mail", headers, b"")


class Signed(Immediate):
    """Believes those webhooks whose body begins with its key."""

    capabilities = Immediate.capabilities | NotificationCapability.WEBHOOKS

    def __init__(self, key: bytes) -> None:
        super().__init__(name="mail")
        self.key = key

    async def parse_webhook(self, headers: Mapping[str, str], body: bytes) -> list[DeliveryUpdate]:
        if not body.startswith(self.key):
            raise AuthenticationError(f"not signed with {self.key.decode()}")
        return [DeliveryUpdate(external_id=self.key.decode(), event="opened", at=datetime.now(UTC))]


async def test_of_several_accounts_the_one_answers_that_believes_a_webhook(build: Any, colour: Colour) -> None:
    """They have one name in the settings; what none believes is refused."""
    voice = colour.voice(build({"email": [Signed(b"first"), Signed(b"second")], "*": Signed(b"third")}))
    for key in ("first", "second", "third"):
        [update] = await voice.webhook("mail", {}, f"{key}: ...".encode())
        assert key == update.external_id
    with pytest.raises(AuthenticationError, match="not signed with"):
        await voice.webhook("mail", {}, b"nobody: ...")


async def test_two_accounts_of_one_service_are_told_apart(build: Any, colour: Colour) -> None:
    """In what became of a notification, too, where they have one name."""
    routes = [Immediate(AuthenticationError(f"no {which} account"), name="mail") for which in ("first", "second")]
    with pytest.raises(NotificationFailedError, match=r"no first account; mail: .*no second account"):
        await colour.voice(build({"*": routes})).send(**MAIL)


async def test_nothing_personal_is_logged(build: Any, colour: Colour, caplog: pytest.LogCaptureFixture) -> None:
    """Not when all goes wrong, and at no level."""
    caplog.set_level(logging.DEBUG)
    error = RuntimeError("ada@example.com is in quarantine: Hello Ada")
    voice = colour.voice(build({"*": [Immediate(error), Immediate(ConnectionResetError("ada@example.com"))]}))
    await voice.send(**MAIL)
    await colour.voice(build(ScriptedNotification(error))).send_many([MAIL, MAIL | {"to": "ada"}])
    assert "scripted met OperationError" in caplog.text
    for personal in ("ada", "Hello"):
        assert personal not in caplog.text


async def test_the_default_sender_is_for_mails(build: Any, colour: Colour) -> None:
    """A message's own goes before it; other channels leave it to their provider."""
    provider = Immediate()
    voice = colour.voice(build(provider, NotificationSettings(sender="Shop <shop@example.com>")))
    await voice.send(**MAIL)
    await voice.send(**MAIL, sender="me@example.com")
    await voice.send("+46 1", channel="sms", content=HELLO)
    assert [message.sender for message in provider.seen] == ["Shop <shop@example.com>", "me@example.com", None]
    with pytest.raises(ConfigurationError, match=r"notification\.sender: expected one mail address"):
        Notifier(Immediate(), settings=NotificationSettings(sender="nobody"))


# Refusals before anything is recorded


class Choosy(Immediate):
    """Takes no mails with attachments whose name begins with its own."""

    capabilities = Immediate.capabilities | NotificationCapability.ATTACHMENTS

    def check(self, message: OutgoingMessage) -> None:
        if any(file.filename.startswith(self.name) for file in message.attachments):
            raise InvalidInputError(f"attachments: {self.name} takes none of its own name")


async def test_what_every_provider_refuses_is_not_recorded(build: Any, colour: Colour) -> None:
    """The first one's words are told; in a batch, they stand in the item."""
    voice = colour.voice(build({"email": [Choosy(name="a"), Choosy(name="a.b")]}))
    refused = MAIL | {"attachments": [Attachment("a.b.txt", b"x")]}
    with pytest.raises(InvalidInputError, match="attachments: a takes none"):
        await voice.send(**refused)
    [failed] = await voice.send_many([refused])
    assert ("failed", "InvalidInputError: attachments: a takes none of its own name") == (failed.status, failed.error)
    assert [] == await voice.find()


async def test_what_one_provider_would_take_is_recorded(build: Any, colour: Colour) -> None:
    """It has its turn, and the one that would not is passed over."""
    first = Choosy(name="a")
    voice = colour.voice(build({"email": [first, Choosy(name="b")]}))
    sent = await voice.send(**MAIL | {"attachments": [Attachment("a.txt", b"x")]})
    assert ("sent", "b", 1, []) == (sent.status, sent.provider, sent.attempts, first.calls)
