"""The conformance suite of notification providers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pilotis.errors import AuthenticationError, InvalidInputError, UnsupportedError
from pilotis.modules.notification import Notifier
from pilotis.providers import (
    Attachment,
    Content,
    Context,
    NotificationCapability,
    NotificationProvider,
    OutgoingMessage,
    Receipt,
    new_id,
)

from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import Colour, together
from pilotis_testing.conformance import Conformance

SECRET = "the-code-is-4711"


class NotificationConformance(Conformance):
    """What every notification provider keeps.

    Overridable fixtures: `channel` (email), `recipient` (an address that the service accepts), `others` (for a number,
    another such address; by default the same) and, for a provider that declares TEMPLATES, `template` (the name of one
    that it has).
    """

    @pytest.fixture
    def channel(self) -> str:
        return "email"

    @pytest.fixture
    def recipient(self) -> str:
        return "ada.lovelace@example.com"

    @pytest.fixture
    def others(self, recipient: str) -> Callable[[int], str]:
        return lambda _: recipient

    @pytest.fixture
    def template(self) -> str:
        return "welcome"

    @pytest.fixture
    def context(self, clock: ManualClock) -> Any:
        context = Context(clock=clock)
        yield context
        context.runtime.stop()

    @pytest.fixture
    def notifier(self, provider: NotificationProvider, context: Context) -> Any:
        notifier = Notifier(provider, context=context)
        yield notifier
        notifier.close()

    @pytest.fixture
    def compose(self, channel: str, recipient: str, clock: ManualClock) -> Any:
        """Make messages to the recipient."""

        def make(text: str = "Hello", **fields: Any) -> OutgoingMessage:
            content = Content(subject="Hello", text=text)
            given: dict[str, Any] = {"id": new_id(clock), "channel": channel, "to": recipient, "content": content}
            return OutgoingMessage(**given | fields)

        return make

    # The verb

    async def test_each_message_has_its_receipt_in_order(
        self, provider: NotificationProvider, compose: Any, colour: Colour
    ) -> None:
        """Several messages in one call: one receipt each, and no two have the same external id."""
        await provider.open()
        messages = [compose(f"message {number}") for number in range(3)]
        receipts = await provider.send(messages)
        assert [Receipt] * 3 == [type(receipt) for receipt in receipts]
        assert len(_external_ids(receipts)) == len(set(_external_ids(receipts)))
        await provider.close()

    async def test_no_messages_give_no_answers(self, provider: NotificationProvider, colour: Colour) -> None:
        """An empty batch is not an error."""
        await provider.open()
        assert await provider.send([]) == []
        await provider.close()

    async def test_a_full_batch_is_taken(
        self, provider: NotificationProvider, compose: Any, others: Callable[[int], str], colour: Colour
    ) -> None:
        """As many messages as `batch` says go through one call."""
        await provider.open()
        receipts = await provider.send([compose(to=others(number)) for number in range(provider.batch)])
        assert len(receipts) == provider.batch
        assert all(isinstance(receipt, Receipt) for receipt in receipts)
        await provider.close()

    async def test_concurrent_calls_do_not_mix(
        self, provider: NotificationProvider, compose: Any, colour: Colour
    ) -> None:
        """Calls side by side: each gets as many answers as it gave messages."""
        await provider.open()
        sizes = [1, 2, 3, 4, 5, 6, 7, 8]
        answers = await together(*(_sender(provider, [compose() for _ in range(size)]) for size in sizes))
        assert [len(answer) for answer in answers] == sizes
        external_ids = _external_ids([receipt for answer in answers for receipt in answer])
        assert len(external_ids) == len(set(external_ids))
        await provider.close()

    async def test_the_same_message_may_come_again(
        self, provider: NotificationProvider, compose: Any, colour: Colour
    ) -> None:
        """A message that was sent is accepted once more: that is what `resend` does."""
        await provider.open()
        message = compose()
        assert isinstance((await provider.send([message]))[0], Receipt)
        assert isinstance((await provider.send([message]))[0], Receipt)
        await provider.close()

    async def test_any_text_is_sent(
        self, notifier: Notifier, channel: str, recipient: str, provider: NotificationProvider, colour: Colour
    ) -> None:
        """Other scripts, emoji, empty lines and long lines."""
        text = "Grüße, 世界 👋\n\n.\nFrom here\n" + "x" * 2000
        voice = colour.voice(notifier)
        sent = await voice.send(recipient, channel=channel, content=Content(subject="Grüße 👋", text=text))
        assert sent.status in ("sent", "simulated")
        if _has(provider, NotificationCapability.OUTBOX):
            assert notifier.outbox[-1].content == Content(subject="Grüße 👋", text=text)

    async def test_nothing_personal_is_logged(
        self, provider: NotificationProvider, compose: Any, colour: Colour, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Neither recipient nor content nor data stands in any log line, at any level."""
        caplog.set_level(logging.DEBUG)
        message = compose(SECRET, data={"code": SECRET}, provider_data={"note": SECRET})
        await provider.open()
        await provider.send([message])
        await provider.close()
        assert SECRET not in caplog.text
        assert message.to not in caplog.text
        assert message.subject not in caplog.text

    # Life cycle

    async def test_it_opens_again_after_closing(
        self, provider: NotificationProvider, compose: Any, colour: Colour
    ) -> None:
        """Closing is idempotent, works without opening, and opening again makes it usable again."""
        await provider.close()
        await provider.open()
        await provider.ping()
        await provider.close()
        await provider.close()
        await provider.open()
        assert isinstance((await provider.send([compose()]))[0], Receipt)
        await provider.close()

    def test_it_knows_its_errors(self, provider: NotificationProvider) -> None:
        """A time-out is told from a lost connection: one is unknown, the other is tried again."""
        assert issubclass(provider.classify(TimeoutError()) or int, TimeoutError)
        refused = provider.classify(ConnectionRefusedError())
        assert refused is not None
        assert refused.retryable
        assert not issubclass(refused, TimeoutError)

    # Capabilities, in both directions

    def test_capabilities_are_notification_capabilities(self, provider: NotificationProvider) -> None:
        """What is declared is a set of `NotificationCapability`."""
        assert isinstance(provider.capabilities, NotificationCapability)

    async def test_attachments(
        self, notifier: Notifier, provider: NotificationProvider, channel: str, recipient: str, colour: Colour
    ) -> None:
        """Declared: they go along. Otherwise the message is refused, and not sent without them."""
        voice = colour.voice(notifier)
        files = [Attachment("invoice.pdf", b"%PDF-1.7 \x00\xff"), Attachment("Übersicht.txt", b"\n")]
        sending = voice.send(recipient, channel=channel, content=Content(text="See there"), attachments=files)
        if not _has(provider, NotificationCapability.ATTACHMENTS):
            with pytest.raises(UnsupportedError, match="ATTACHMENTS"):
                await sending
            return
        assert (await sending).status in ("sent", "simulated")
        if _has(provider, NotificationCapability.OUTBOX):
            assert [file.content for file in notifier.outbox[-1].attachments] == [b"%PDF-1.7 \x00\xff", b"\n"]

    async def test_templates(
        self,
        *,
        notifier: Notifier,
        provider: NotificationProvider,
        channel: str,
        recipient: str,
        template: str,
        colour: Colour,
    ) -> None:
        """Declared: the name and the data of a template are enough. Otherwise they are refused."""
        voice = colour.voice(notifier)
        sending = voice.send(recipient, channel=channel, template=template, data={"name": "Ada"})
        if not _has(provider, NotificationCapability.TEMPLATES):
            with pytest.raises(UnsupportedError, match="TEMPLATES"):
                await sending
            return
        assert (await sending).status in ("sent", "simulated")
        if _has(provider, NotificationCapability.OUTBOX):
            assert (notifier.outbox[-1].template, notifier.outbox[-1].data) == (template, {"name": "Ada"})

    async def test_webhooks(self, notifier: Notifier, provider: NotificationProvider, colour: Colour) -> None:
        """Declared: a body that is not signed is refused. Otherwise the verb is unsupported."""
        voice = colour.voice(notifier)
        if _has(provider, NotificationCapability.WEBHOOKS):
            with pytest.raises((AuthenticationError, InvalidInputError)):
                await voice.webhook(notifier.provider_name, {}, b"[]")
        else:
            with pytest.raises(UnsupportedError, match="WEBHOOKS"):
                await voice.webhook(notifier.provider_name, {}, b"[]")
            with pytest.raises(UnsupportedError, match="WEBHOOKS"):
                await provider.parse_webhook({}, b"[]")

    async def test_outbox(self, notifier: Notifier, provider: NotificationProvider, compose: Any) -> None:
        """Declared: a copy of what was sent, oldest first. Otherwise it is unsupported."""
        if not _has(provider, NotificationCapability.OUTBOX):
            with pytest.raises(UnsupportedError, match="OUTBOX"):
                notifier.outbox  # noqa: B018 - it is the look that raises
            return
        await notifier.aopen()
        messages = [compose(f"message {number}") for number in range(3)]
        await provider.send(messages)
        assert notifier.outbox == messages
        provider.outbox.clear()
        assert provider.outbox == messages

    async def test_immediate(
        self, notifier: Notifier, provider: NotificationProvider, context: Context, channel: str, recipient: str
    ) -> None:
        """Declared: sending starts no background thread. Otherwise the time limit is kept there."""
        await notifier.asend(recipient, channel=channel, content=Content(subject="Hello", text="Hello"))
        assert context.runtime.started is not _has(provider, NotificationCapability.IMMEDIATE)

    # Behind the portable class

    async def test_a_sent_notification_says_by_whom(
        self, notifier: Notifier, provider: NotificationProvider, channel: str, recipient: str, colour: Colour
    ) -> None:
        """The ledger holds the provider, its id of the message, and one attempt."""
        voice = colour.voice(notifier)
        sent = await voice.send(recipient, channel=channel, content=Content(subject="Hello", text="Hello"))
        assert (sent.status in ("sent", "simulated"), sent.attempts, sent.error) == (True, 1, None)
        assert sent.provider == notifier.provider_name
        assert await voice.get(sent.id) == sent

    async def test_a_dry_run_reaches_nobody(
        self, notifier: Notifier, provider: NotificationProvider, channel: str, recipient: str, colour: Colour
    ) -> None:
        """It is simulated and recorded, and the provider does not see it."""
        voice = colour.voice(notifier)
        run = await voice.send(recipient, channel=channel, content=Content(text="Hello"), dry_run=True)
        assert (run.status, run.attempts, run.external_id) == ("simulated", 0, None)
        if _has(provider, NotificationCapability.OUTBOX):
            assert notifier.outbox == []

    async def test_many_are_answered_in_order(
        self,
        notifier: Notifier,
        provider: NotificationProvider,
        channel: str,
        others: Callable[[int], str],
        colour: Colour,
    ) -> None:
        """More than one batch, with one in the middle that cannot be sent."""
        size = provider.batch + 2
        items: list[dict[str, Any]] = [
            {"to": others(number), "channel": channel, "content": Content(text="Hello"), "trigger": f"number {number}"}
            for number in range(size)
        ]
        items[1]["content"] = Content()
        sent = await colour.voice(notifier).send_many(items)
        statuses = ["failed" if one.status == "failed" else "sent" for one in sent]
        assert statuses == ["sent", "failed"] + ["sent"] * (size - 2)
        assert [one.trigger for one in sent if one.status != "failed"] == [
            f"number {number}" for number in range(size) if number != 1
        ]


def _has(provider: NotificationProvider, capability: NotificationCapability) -> bool:
    return capability in provider.capabilities


def _external_ids(receipts: Sequence[Receipt | Exception]) -> list[str]:
    return [one.external_id for one in receipts if isinstance(one, Receipt) and one.external_id is not None]


def _sender(provider: NotificationProvider, messages: list[OutgoingMessage]) -> Any:
    return lambda: provider.send(messages)
