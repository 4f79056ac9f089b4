"""SendGrid keeps what every notification provider keeps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pilotis.settings.secrets import Secret
from pilotis_notification_sendgrid import SendGridNotifications, SendGridOptions
from pilotis_testing.notification import NotificationConformance
from pilotis_testing.sendgrid import TEMPLATE, SendGridServer


class TestSendGridNotifications(NotificationConformance):
    @pytest.fixture
    def provider(self, sendgrid_server: SendGridServer) -> SendGridNotifications:
        return SendGridNotifications(
            SendGridOptions(
                api_key=Secret(sendgrid_server.key),
                sender="Shop <shop@example.com>",
                base_url=sendgrid_server.url,
                webhook_public_key=sendgrid_server.public_key,
            )
        )

    @pytest.fixture
    def others(self) -> Callable[[int], str]:
        return lambda number: f"ada.lovelace+{number}@example.com"

    @pytest.fixture
    def template(self) -> str:
        return TEMPLATE
