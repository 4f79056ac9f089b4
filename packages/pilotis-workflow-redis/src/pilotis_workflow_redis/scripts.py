"""The scripts that runs stand on, each beside what they have in common."""

from __future__ import annotations

from pilotis_redis import Script

_NAMES = (
    "start claim commit park compensate finish give_back",
    "signal fire cancel rewind bury rescue set_aside",
    "journal find",
)

SCRIPTS = {name: Script.load("pilotis_workflow_redis", "runs", name) for names in _NAMES for name in names.split()}
"""By name. What each of them takes and returns stands at its head."""
