"""What the tests of notifiers share, and those of telemetry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pilotis.backoff import Backoff
from pilotis.modules.notification import Notifier
from pilotis.providers import Context
from pilotis.settings.model import NotificationSettings
from pilotis_testing.telemetry import meters, spans

__all__ = ["meters", "spans"]

AT_ONCE = NotificationSettings(attempts=3, backoff=Backoff.fixed(0))


@pytest.fixture
def build(context: Context) -> Iterator[Callable[..., Notifier]]:
    """Make notifiers, which try three times, at once, and are closed after the test."""
    built: list[Notifier] = []

    def make(routes: Any, settings: NotificationSettings = AT_ONCE, **more: Any) -> Notifier:
        built.append(Notifier(routes, settings=settings, context=context, **more))
        return built[-1]

    yield make
    for notifier in built:
        notifier.close()
