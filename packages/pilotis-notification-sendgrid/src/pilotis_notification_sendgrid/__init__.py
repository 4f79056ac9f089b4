"""The SendGrid notification provider of Pilotis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.faces import lazily

if TYPE_CHECKING:
    from pilotis_notification_sendgrid.options import SendGridOptions
    from pilotis_notification_sendgrid.provider import SendGridNotifications

__all__ = ["SendGridNotifications", "SendGridOptions"]

__getattr__ = lazily(
    globals(),
    {
        "pilotis_notification_sendgrid.options": "SendGridOptions",
        "pilotis_notification_sendgrid.provider": "SendGridNotifications",
    },
)
