"""What is refused before anything is recorded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilotis.errors import InvalidInputError
from pilotis.modules.notification import Attachment, Content, Notifier
from pilotis.modules.notification.addresses import check_address, masked
from pilotis.providers import NotificationCapability
from pilotis.settings.model import NotificationSettings
from pilotis_testing import Colour
from pilotis_testing.scripted import ScriptedNotification

HELLO = Content(subject="Hello", text="Hello")
MAIL: dict[str, Any] = {"to": "ada@example.com", "channel": "email", "content": HELLO}


class Able(ScriptedNotification):
    """Takes everything, called directly."""

    capabilities = (
        NotificationCapability.IMMEDIATE | NotificationCapability.ATTACHMENTS | NotificationCapability.TEMPLATES
    )


@pytest.mark.parametrize(
    "address",
    [
        "ada@example.com",
        "ada+orders@mail.example.co.uk",
        "o'hara_1@localhost",
        "Ada Lovelace <ada@example.com>",
        '"Lovelace, Ada" <ada@example.com>',
        "jürgen@bücher.example",
        "<ada@example.com>",
    ],
)
def test_mail_addresses(address: str) -> None:
    """They come back as they are."""
    assert check_address(address, "email", "to") == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ada",
        "@example.com",
        "ada@",
        "ada@example..com",
        "ada@-example.com",
        "ada..b@example.com",
        ".ada@example.com",
        "ada lovelace@example.com",
        "ada@example.com, bob@example.com",
        "ada@example.com\nBcc: eve@example.com",
        "Ada\r\nBcc: eve@example.com <ada@example.com>",
        "Ada <ada@example.com> <eve@example.com>",
        "a" * 65 + "@example.com",
        "ada@" + "a" * 64 + ".com",
        "ada@" + "a." * 130 + "com",
        "ada@exam\x00ple.com",
        "ada@example.com\u2028",
        None,
        5,
    ],
)
def test_what_is_no_mail_address(address: Any) -> None:
    """The error says what was expected, and does not repeat the address."""
    with pytest.raises(InvalidInputError, match="to: expected") as caught:
        check_address(address, "email", "to")
    assert "eve" not in str(caught.value)


def test_other_channels_take_any_text() -> None:
    """A phone number, a device, a room; but no line breaks."""
    assert check_address("+46 70 123", "sms", "to") == "+46 70 123"
    with pytest.raises(InvalidInputError):
        check_address("", "sms", "to")
    with pytest.raises(InvalidInputError, match="single line"):
        check_address("+46\n70", "sms", "to")


@given(st.text(min_size=1), st.sampled_from(["\r\n", "\n", "\r", "\u2028", "\x85", "\x0b", "\x0c"]), st.text())
def test_no_line_break_gets_into_a_header(before: str, line_break: str, after: str) -> None:
    """Wherever it stands, whatever the channel."""
    for channel in ("email", "sms"):
        with pytest.raises(InvalidInputError):
            check_address(before + line_break + after, channel, "to")


@given(st.emails())
def test_a_masked_address_does_not_name_anybody(address: str) -> None:
    """Only the domain is left of it."""
    assert masked(address) == f"***@{address.rpartition('@')[2]}"
    assert masked(f"Ada <{address}>") == masked(address)


def test_masked_numbers() -> None:
    """The last two digits of long ones, nothing of short ones."""
    assert (masked("+46701234567"), masked("4711")) == ("***67", "***")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"to": "ada"}, "to: expected one mail address"),
        ({"channel": ""}, "channel: expected text of 1"),
        ({"sender": "shop"}, "sender: expected one mail address"),
        ({"sender": "Shop\nBcc: x@example.com <a@example.com>"}, "sender: expected a single line"),
        ({"content": Content(subject="Hi\r\nBcc: eve@example.com", text="x")}, "content.subject: expected a single"),
        ({"content": Content(subject="Hi")}, "content: expected a text or an html"),
        ({"content": Content(html="<p>Hi"), "channel": "sms"}, "content: expected a text, which is what channel 'sms'"),
        ({"content": Content(text=5)}, "content.text: expected text"),  # pyright: ignore[reportArgumentType]
        ({"content": "Hello"}, "content: expected a Content, got str"),
        ({"content": None}, "content: expected either a content or a template"),
        ({"template": "welcome"}, "content: expected either a content or a template"),
        ({"template": "wel\ncome", "content": None}, "template: expected a single line"),
        ({"data": [1]}, "data: expected a mapping"),
        ({"data": {"price": float("nan")}}, "data.price: expected a finite number"),
        ({"provider_data": {1: 2}}, "provider_data: expected keys that are text"),
        ({"resource": ("order",)}, "resource: expected a pair"),
        ({"resource": ("order", 42)}, r"resource\[1\]: expected text"),
        ({"trigger": ""}, "trigger: expected text of 1"),
        ({"idempotency_key": "a\nb"}, "idempotency_key: expected text without control"),
        ({"attachments": Attachment("a", b"")}, "attachments: expected a list of Attachment, got Attachment"),
        ({"attachments": [b"a"]}, r"attachments\[0\]: expected an Attachment"),
        ({"attachments": [Attachment("../a", b"")]}, r"attachments\[0\].filename: expected a file name without dir"),
        ({"attachments": [Attachment("a\nb", b"")]}, r"attachments\[0\].filename: expected a single line"),
        ({"attachments": [Attachment("a", "text")]}, r"attachments\[0\].content: expected bytes, got str"),  # pyright: ignore[reportArgumentType]
        ({"attachments": [Attachment("a", b"", "pdf")]}, r"attachments\[0\].content_type: expected a media type"),
        ({"attachments": [Attachment("a", b"", None, "a>b")]}, r"attachments\[0\].content_id: expected letters"),
        ({"attachments": [Attachment("a", b"1234"), Attachment("b", b"5678")]}, "expected at most 7 bytes together"),
    ],
)
async def test_what_cannot_be_sent(change: Any, message: str, colour: Colour) -> None:
    """The argument is named, and neither provider nor ledger sees anything."""
    provider = Able()
    notifier = Notifier(provider, settings=NotificationSettings(max_attachment_bytes=7))
    voice = colour.voice(notifier)
    with pytest.raises(InvalidInputError, match=message):
        await voice.send(**MAIL | change)
    assert (provider.calls, await voice.find()) == ([], [])
    await voice.close()


async def test_unfit_arguments_of_the_other_verbs(colour: Colour) -> None:
    """They are named too, before anything is done."""
    notifier = Notifier(Able())
    voice = colour.voice(notifier)
    for verb, arguments, message in (
        (voice.send_many, (5,), "messages: expected a sequence of messages, got int"),
        (voice.send_many, (MAIL,), "messages: expected a sequence of messages, got dict"),
        (voice.send_many, ("ab",), "messages: expected a sequence of messages, got str"),
        (voice.get, (None,), "id: expected text, got NoneType"),
        (voice.resend, (["a"],), "id: expected text, got list"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            await verb(*arguments)
    for query, message in (({"status": 5}, "status: expected a status or several"), ({"limit": True}, "limit: ")):
        with pytest.raises(InvalidInputError, match=message):
            await voice.find(**query)
    await voice.close()


async def test_content_types_are_guessed(colour: Colour) -> None:
    """From the file name, where none is given; compressed and unknown files are plain bytes."""
    provider = Able()
    voice = colour.voice(Notifier(provider))
    files = [
        Attachment("a.pdf", b""),
        Attachment("b.csv.gz", b""),
        Attachment("c", b""),
        Attachment("d.png", b"", "x/y"),
    ]
    await voice.send(**MAIL, attachments=files)
    assert [file.content_type for file in provider.seen[0].attachments] == [
        "application/pdf",
        "application/octet-stream",
        "application/octet-stream",
        "x/y",
    ]
    await voice.close()


async def test_data_reaches_the_provider_as_json_has_it(colour: Colour) -> None:
    """And is no longer tied to the caller's own."""
    provider = Able()
    voice = colour.voice(Notifier(provider))
    data = {"lines": [("a", 1)]}
    await voice.send("ada@example.com", channel="email", template="welcome", data=data)
    data["lines"].clear()
    assert provider.seen[0].data == {"lines": [["a", 1]]}
    assert (provider.seen[0].template, provider.seen[0].content) == ("welcome", None)
    await voice.close()
