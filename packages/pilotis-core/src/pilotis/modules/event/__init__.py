"""Events: emitted by whoever, handled at least once by each subscription, in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.faces import lazily

if TYPE_CHECKING:
    from pilotis.modules.event.declaring import Declarations
    from pilotis.modules.event.groups import Group
    from pilotis.modules.event.model import (
        DeadLetter,
        DeadLetterRecord,
        DeclaredLanes,
        Discard,
        Event,
        Message,
        PartialFailure,
        RetryLater,
    )
    from pilotis.modules.event.outbox import (
        CallersConnection,
        ClaimedRow,
        Handed,
        HandOver,
        OutboxCapability,
        OutboxKind,
        OutboxProvider,
        OutboxRow,
        OutboxStatus,
        SetAside,
    )
    from pilotis.modules.event.outlet import Outbox
    from pilotis.modules.event.portable import EventBus
    from pilotis.modules.event.provider import (
        DeadEvent,
        DeadFilter,
        Delivery,
        Emitted,
        EventCapability,
        EventLane,
        EventProvider,
        LaneInfo,
        Outcome,
        OutgoingEvent,
    )
    from pilotis.modules.event.transactions import Transaction

__all__ = [
    "CallersConnection",
    "ClaimedRow",
    "DeadEvent",
    "DeadFilter",
    "DeadLetter",
    "DeadLetterRecord",
    "Declarations",
    "DeclaredLanes",
    "Delivery",
    "Discard",
    "Emitted",
    "Event",
    "EventBus",
    "EventCapability",
    "EventLane",
    "EventProvider",
    "Group",
    "HandOver",
    "Handed",
    "LaneInfo",
    "Message",
    "Outbox",
    "OutboxCapability",
    "OutboxKind",
    "OutboxProvider",
    "OutboxRow",
    "OutboxStatus",
    "Outcome",
    "OutgoingEvent",
    "PartialFailure",
    "RetryLater",
    "SetAside",
    "Transaction",
]

__getattr__ = lazily(
    globals(),
    {
        "pilotis.modules.event.declaring": "Declarations",
        "pilotis.modules.event.groups": "Group",
        "pilotis.modules.event.model": (
            "DeadLetter DeadLetterRecord DeclaredLanes Discard Event Message PartialFailure RetryLater"
        ),
        "pilotis.modules.event.outbox": (
            "CallersConnection ClaimedRow Handed HandOver OutboxCapability OutboxKind OutboxProvider OutboxRow "
            "OutboxStatus SetAside"
        ),
        "pilotis.modules.event.outlet": "Outbox",
        "pilotis.modules.event.portable": "EventBus",
        "pilotis.modules.event.provider": (
            "DeadEvent DeadFilter Delivery Emitted EventCapability EventLane EventProvider LaneInfo "
            "Outcome OutgoingEvent"
        ),
        "pilotis.modules.event.transactions": "Transaction",
    },
)
