"""Templates in a directory, sent through the local provider."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pilotis.errors import ConfigurationError, InvalidInputError, NotFoundError, TemplateError
from pilotis.modules.notification import Content, Notifier
from pilotis.settings.model import NotificationSettings
from pilotis_notification_local import LocalNotification
from pilotis_testing import Colour

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(file: str, text: str) -> None:
        path = tmp_path / "templates" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    put("order-placed.subject.txt", "Order {{ number }}\n")
    put("order-placed.txt", "Dear {{ name }},\nthank you.\n")
    put("order-placed.html", "<p>Dear {{ name }}</p>")
    return put


@pytest.fixture
def notifier(write: Write, tmp_path: Path) -> Iterator[Notifier]:
    notifier = Notifier(LocalNotification(), settings=NotificationSettings(templates=tmp_path / "templates"))
    yield notifier
    notifier.close()


async def send(notifier: Notifier, colour: Colour, template: str, channel: str = "email", **data: Any) -> Any:
    await colour.voice(notifier).send("ada@example.com", channel=channel, template=template, data=data)
    return notifier.outbox[-1].content


async def test_subject_text_and_html(notifier: Notifier, colour: Colour) -> None:
    """Each file is a part; html is escaped, text is not; the subject loses its line end."""
    content = await send(notifier, colour, "order-placed", name="<Ada & co>", number=42)
    assert content == Content(
        subject="Order 42", text="Dear <Ada & co>,\nthank you.", html="<p>Dear &lt;Ada &amp; co&gt;</p>"
    )


async def test_a_channels_own_template_goes_first(notifier: Notifier, write: Write, colour: Colour) -> None:
    """As a whole: nothing is mixed in from the other place."""
    write("sms/order-placed.txt", "{{ number }} placed")
    assert await send(notifier, colour, "order-placed", "sms", number=42) == Content(text="42 placed")


async def test_templates_include_and_extend(notifier: Notifier, write: Write, colour: Colour) -> None:
    """From the channel's directory and from the root."""
    write("base.html", "<body>{% block body %}{% endblock %}</body>")
    write("email/footer.html", "<i>{{ shop }}</i>")
    write("email/note.html", "{% extends 'base.html' %}{% block body %}{% include 'footer.html' %}{% endblock %}")
    assert await send(notifier, colour, "note", shop="A&B") == Content(html="<body><i>A&amp;B</i></body>")


async def test_objects_are_seen_as_they_are(notifier: Notifier, write: Write, colour: Colour) -> None:
    """A template may use attributes and formats."""

    @dataclasses.dataclass
    class Order:
        total: Decimal

    write("bill.txt", "{{ '%.2f' | format(order.total) }}")
    assert await send(notifier, colour, "bill", order=Order(Decimal("12.5"))) == Content(text="12.50")


async def test_a_changed_file_is_read_again(notifier: Notifier, write: Write, colour: Colour) -> None:
    """Without a restart."""
    write("note.txt", "one")
    assert await send(notifier, colour, "note") == Content(text="one")
    write("note.txt", "twenty")
    import os

    os.utime(notifier._composer._templates._root / "note.txt", (1, 1))  # pyright: ignore[reportPrivateUsage, reportOptionalMemberAccess]
    assert await send(notifier, colour, "note") == Content(text="twenty")


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("note.txt", "Dear\n{{ nmae }}", (r"note.txt, line 2: a variable is missing: 'nmae' is undefined", 2)),
        ("note.txt", "\n\n{{ order.id }}", (r"note.txt, line 3: .*has no attribute 'id'", 3)),
        ("note.txt", "one\n{% if %}", (r"note.txt, line 2: Expected an expression", 2)),
        ("note.txt", "{{ 1 / zero }}", (r"note.txt, line 1: ZeroDivisionError", 1)),
        ("note.txt", "\n{% include 'gone.txt' %}", (r"note.txt, line 2: there is no template file 'gone.txt'", 2)),
        ("email/note.html", "a\n\n\n{{ gone }}", (r"email/note.html, line 4: .*'gone' is undefined", 4)),
    ],
)
async def test_a_fault_in_a_template_has_its_place(
    *, notifier: Notifier, write: Write, colour: Colour, file: str, text: str, fault: tuple[str, int]
) -> None:
    """File, line and variable; nothing is recorded."""
    write(file, text)
    message, line = fault
    with pytest.raises(TemplateError, match=message) as caught:
        await send(notifier, colour, "note", order={}, zero=0)
    assert (caught.value.template, caught.value.line) == (file, line)
    assert notifier.outbox == []
    assert await colour.voice(notifier).find() == []


async def test_a_fault_in_an_included_file_is_found_there(notifier: Notifier, write: Write, colour: Colour) -> None:
    """The innermost template is named."""
    write("footer.txt", "--\n{{ shop }}")
    write("note.txt", "Hello\n\n{% include 'footer.txt' %}")
    with pytest.raises(TemplateError, match=r"footer.txt, line 2: .*'shop'"):
        await send(notifier, colour, "note")
    write("footer.txt", "--\n{% endif %}")
    with pytest.raises(TemplateError, match=r"footer.txt, line 2: "):
        await send(notifier, colour, "note")


async def test_a_missing_template_lists_those_there(notifier: Notifier, write: Write, colour: Colour) -> None:
    """And the nearest; those of other channels are named with their directory."""
    write("email/welcome.html", "")
    expected = (
        r"no template 'order-palced' for channel 'email' \(there are: order-placed, welcome\). Did you mean 'order"
    )
    with pytest.raises(NotFoundError, match=expected):
        await send(notifier, colour, "order-palced")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "..", "a\\b", ".hidden", "a//b", "a/"])
async def test_names_do_not_leave_the_directory(notifier: Notifier, tmp_path: Path, colour: Colour, name: str) -> None:
    """Whatever is outside."""
    (tmp_path / "secret.txt").write_text("secret")
    with pytest.raises(InvalidInputError, match="template: expected the name of a template"):
        await send(notifier, colour, name)


async def test_links_do_not_leave_the_directory(notifier: Notifier, tmp_path: Path, colour: Colour) -> None:
    """A link to the outside is not a template."""
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "templates" / "link.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(NotFoundError):
        await send(notifier, colour, "link")


async def test_data_makes_no_headers(notifier: Notifier, colour: Colour) -> None:
    """A line break that a variable brings into the subject is refused."""
    with pytest.raises(InvalidInputError, match=r"content.subject: expected a single line"):
        await send(notifier, colour, "order-placed", name="Ada", number="42\nBcc: eve@example.com")


async def test_a_providers_own_template(notifier: Notifier, colour: Colour) -> None:
    """Named with a prefix where there is a directory."""
    assert await send(notifier, colour, "provider:d-123", name="Ada") is None
    assert (notifier.outbox[-1].template, notifier.outbox[-1].data) == ("d-123", {"name": "Ada"})


async def test_resending_does_not_render_again(notifier: Notifier, write: Write, colour: Colour) -> None:
    """What was said is said again, though the template is gone."""
    voice = colour.voice(notifier)
    write("note.txt", "one")
    sent = await voice.send("ada@example.com", channel="email", template="note", idempotency_key="k")
    write("note.txt", "{{ broken")
    await voice.resend(sent.id)
    assert [message.text for message in notifier.outbox] == ["one", "one"]


def test_a_missing_directory_is_a_configuration_error(tmp_path: Path) -> None:
    """Found when the notifier is made."""
    with pytest.raises(ConfigurationError, match=r"notification.templates: there is no directory"):
        Notifier(LocalNotification(), settings=NotificationSettings(templates=tmp_path / "nowhere"))
