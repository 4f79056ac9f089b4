"""The SendGrid notification provider of Pilotis."""

from __future__ import annotations

from pilotis_notification_sendgrid.options import SendGridOptions
from pilotis_notification_sendgrid.provider import SendGridNotifications

__all__ = ["SendGridNotifications", "SendGridOptions"]
