"""The local notification provider of Pilotis: a log, an outbox to assert on, and .eml files."""

from __future__ import annotations

from pilotis_notification_local.provider import LocalNotification, LocalNotificationOptions

__all__ = ["LocalNotification", "LocalNotificationOptions"]
