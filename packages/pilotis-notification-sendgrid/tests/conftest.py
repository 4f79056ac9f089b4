"""What the tests of SendGrid have in common: a provider on the test server, and messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pilotis.modules.notification import Notifier
from pilotis.providers import Content, Context, OutgoingMessage, new_id
from pilotis.settings.model import NotificationSettings
from pilotis_notification_sendgrid import SendGridNotifications, SendGridOptions
from pilotis_testing import ManualClock
from pilotis_testing.sendgrid import SendGridServer

Make = Callable[..., SendGridNotifications]


@pytest.fixture
def make(sendgrid_server: SendGridServer, clock: ManualClock) -> Make:
    """Make providers that send to the test server. Their clock and the server's are the test's."""
    sendgrid_server.clock = clock.time

    def provider(**options: Any) -> SendGridNotifications:
        given: dict[str, Any] = {
            "api_key": sendgrid_server.key,
            "sender": "shop@example.com",
            "base_url": sendgrid_server.url,
        }
        made = SendGridNotifications(SendGridOptions(**given | options))
        made.context = Context(clock=clock)
        return made

    return provider


@pytest.fixture
def message(clock: ManualClock) -> Callable[..., OutgoingMessage]:
    """Make messages, to Ada unless told otherwise."""

    def made(to: str = "ada@example.com", **fields: Any) -> OutgoingMessage:
        given: dict[str, Any] = {
            "id": new_id(clock),
            "channel": "email",
            "to": to,
            "content": Content(subject="Order 42", text="Thank you"),
        }
        return OutgoingMessage(**given | fields)

    return made


@pytest.fixture
def notifier(make: Make, clock: ManualClock) -> Iterator[Notifier]:
    """A notifier on a provider that names itself `sendgrid`, and tries once."""
    provider = make()
    provider.name = "sendgrid"
    context = Context(clock=clock)
    made = Notifier(provider, context=context, settings=NotificationSettings(attempts=1))
    yield made
    made.close()
    context.runtime.stop()
