"""Notifications: one face for every channel and provider."""

from __future__ import annotations

from pilotis.modules.notification.ledger import (
    LedgerCapability,
    LedgerEntry,
    LedgerProvider,
    LedgerQuery,
    MemoryLedger,
    MemoryLedgerOptions,
)
from pilotis.modules.notification.model import Attachment, Content, Notification, NotificationRequest
from pilotis.modules.notification.portable import Notifier
from pilotis.modules.notification.provider import (
    DeliveryUpdate,
    NotificationCapability,
    NotificationProvider,
    OutgoingMessage,
    Receipt,
)

__all__ = [
    "Attachment",
    "Content",
    "DeliveryUpdate",
    "LedgerCapability",
    "LedgerEntry",
    "LedgerProvider",
    "LedgerQuery",
    "MemoryLedger",
    "MemoryLedgerOptions",
    "Notification",
    "NotificationCapability",
    "NotificationProvider",
    "NotificationRequest",
    "Notifier",
    "OutgoingMessage",
    "Receipt",
]
