"""Fixtures for tests that cross packages."""

from __future__ import annotations

from pilotis_testing.telemetry import meters, spans

__all__ = ["meters", "spans"]
