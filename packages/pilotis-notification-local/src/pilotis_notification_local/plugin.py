"""The entry point: what discovery loads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.providers import hookimpl

if TYPE_CHECKING:
    from pilotis.providers import NotificationProvider


@hookimpl
def pilotis_provider() -> type[NotificationProvider]:
    from pilotis_notification_local.provider import LocalNotification

    return LocalNotification
