"""The local provider keeps what every notification provider keeps."""

from __future__ import annotations

from pathlib import Path

import pytest
from pilotis_notification_local import LocalNotification, LocalNotificationOptions
from pilotis_testing.notification import NotificationConformance


class TestLocalNotification(NotificationConformance):
    @pytest.fixture
    def provider(self) -> LocalNotification:
        return LocalNotification()


class TestLocalNotificationWithFiles(NotificationConformance):
    @pytest.fixture
    def provider(self, tmp_path: Path) -> LocalNotification:
        return LocalNotification(LocalNotificationOptions(outbox_dir=tmp_path / "mails"))
