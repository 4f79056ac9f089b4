"""The entry point: found by discovery, imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.providers import hookimpl

if TYPE_CHECKING:
    from pilotis.providers import NotificationProvider


@hookimpl
def pilotis_provider() -> type[NotificationProvider]:
    """Return the provider class."""
    from pilotis_notification_sendgrid.provider import SendGridNotifications

    return SendGridNotifications
