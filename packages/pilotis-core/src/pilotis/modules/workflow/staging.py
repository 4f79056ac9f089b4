"""Events of a run on their way into its journal, and out of it when the run completes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace


def pack_events(events: Sequence[Any], prefix: str) -> list[bytes]:
    """Return events as they are recorded, with ids that a repetition makes again, so that the bus drops it."""
    named = (replace(event, id=f"{prefix}.{index}", generated=False) for index, event in enumerate(events))
    return [msgspec.json.encode(event) for event in named]


def unpack_events(staged: Sequence[bytes]) -> list[Any]:
    """Return recorded events, ready for the bus."""
    from pilotis.modules.event.provider import OutgoingEvent

    return [msgspec.json.decode(event, type=OutgoingEvent) for event in staged]
