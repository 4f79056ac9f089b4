"""The face for authors: every provider interface, its capabilities, and what provider code may wait with."""

from __future__ import annotations

from pilotis.bridge import (
    Flights,
    Latch,
    PerLoop,
    blocking,
    finish,
    gather,
    pause,
    reset_after_fork,
    run_blocking,
    run_blocking_with_undo,
)
from pilotis.clock import Clock
from pilotis.context import Context
from pilotis.hooks import hookimpl
from pilotis.ids import new_id
from pilotis.modules.cache.counting import counted
from pilotis.modules.cache.provider import CLAIM_MARK, CacheCapability, CacheProvider, Entry
from pilotis.modules.event.audience import Audience
from pilotis.modules.event.connections import driver_error
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
from pilotis.modules.event.provider import (
    ID_TTL,
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
from pilotis.modules.file.chunks import Chunks
from pilotis.modules.file.links import Links
from pilotis.modules.file.provider import FileCapability, FileProvider
from pilotis.modules.file.types import FileInfo, Link, SignedUpload, WriteRequest
from pilotis.modules.locking.provider import Grant, LockingCapability, LockingProvider, LockRequest, LockState
from pilotis.modules.notification.addresses import address_parts, bare_address, masked
from pilotis.modules.notification.ledger import LedgerCapability, LedgerEntry, LedgerProvider, LedgerQuery
from pilotis.modules.notification.model import Attachment, Content, Notification
from pilotis.modules.notification.provider import (
    DeliveryUpdate,
    NotificationCapability,
    NotificationProvider,
    OutgoingMessage,
    Receipt,
)
from pilotis.modules.notification.retention import Retention
from pilotis.modules.notification.rows import ledger_entry, ledger_row, ledger_searches, newest_first
from pilotis.modules.workflow.model import (
    AT_REST,
    ENDED,
    STATUSES,
    Claimed,
    Ending,
    Fault,
    Fence,
    Fire,
    Letter,
    Notice,
    Parked,
    RunQuery,
    RunRecord,
    RunStatus,
    StepRecord,
    answered,
)
from pilotis.modules.workflow.provider import FencedError, WorkflowCapability, WorkflowProvider
from pilotis.provider import NoOptions, Provider
from pilotis.sharing import Shared

__all__ = [
    "AT_REST",
    "CLAIM_MARK",
    "ENDED",
    "ID_TTL",
    "STATUSES",
    "Attachment",
    "Audience",
    "CacheCapability",
    "CacheProvider",
    "CallersConnection",
    "Chunks",
    "Claimed",
    "ClaimedRow",
    "Clock",
    "Content",
    "Context",
    "DeadEvent",
    "DeadFilter",
    "Delivery",
    "DeliveryUpdate",
    "Emitted",
    "Ending",
    "Entry",
    "EventCapability",
    "EventLane",
    "EventProvider",
    "Fault",
    "Fence",
    "FencedError",
    "FileCapability",
    "FileInfo",
    "FileProvider",
    "Fire",
    "Flights",
    "Grant",
    "HandOver",
    "Handed",
    "LaneInfo",
    "Latch",
    "LedgerCapability",
    "LedgerEntry",
    "LedgerProvider",
    "LedgerQuery",
    "Letter",
    "Link",
    "Links",
    "LockRequest",
    "LockState",
    "LockingCapability",
    "LockingProvider",
    "NoOptions",
    "Notice",
    "Notification",
    "NotificationCapability",
    "NotificationProvider",
    "OutboxCapability",
    "OutboxKind",
    "OutboxProvider",
    "OutboxRow",
    "OutboxStatus",
    "Outcome",
    "OutgoingEvent",
    "OutgoingMessage",
    "Parked",
    "PerLoop",
    "Provider",
    "Receipt",
    "Retention",
    "RunQuery",
    "RunRecord",
    "RunStatus",
    "SetAside",
    "Shared",
    "SignedUpload",
    "StepRecord",
    "WorkflowCapability",
    "WorkflowProvider",
    "WriteRequest",
    "address_parts",
    "answered",
    "bare_address",
    "blocking",
    "counted",
    "driver_error",
    "finish",
    "gather",
    "hookimpl",
    "ledger_entry",
    "ledger_row",
    "ledger_searches",
    "masked",
    "new_id",
    "newest_first",
    "pause",
    "reset_after_fork",
    "run_blocking",
    "run_blocking_with_undo",
]
