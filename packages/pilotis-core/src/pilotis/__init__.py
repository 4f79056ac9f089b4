"""Pilotis: the infrastructure of a Python application as swappable modules. The face for users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.faces import lazily

if TYPE_CHECKING:
    from pilotis.app import Pilotis
    from pilotis.backoff import Backoff
    from pilotis.checks import Check
    from pilotis.clock import Clock
    from pilotis.discovery import register, unregister
    from pilotis.errors import (
        AlreadyExistsError,
        AuthenticationError,
        BlockingCallInEventLoopError,
        ClosedError,
        ConfigurationError,
        ConflictError,
        ConnectionFailedError,
        InvalidInputError,
        LockLostError,
        LockNotAcquiredError,
        NonDeterminismError,
        NotFoundError,
        NotificationFailedError,
        OperationError,
        OperationTimeoutError,
        PermissionDeniedError,
        PilotisError,
        ProviderConflictError,
        ProviderLoadError,
        ProviderNotFoundError,
        ReentrantCallError,
        StepFailedError,
        StepInterruptedError,
        StorageFullError,
        SuspendedError,
        TemplateError,
        ThrottledError,
        TypeMismatchError,
        UnsupportedError,
        UsageError,
        WorkflowCancelledError,
        WorkflowError,
        WorkflowFailedError,
    )
    from pilotis.findings import Finding
    from pilotis.handlers import Handlers
    from pilotis.modules.cache import Cache, CacheStats
    from pilotis.modules.event import (
        DeadLetter,
        DeadLetterRecord,
        DeclaredLanes,
        Discard,
        Event,
        EventBus,
        LaneInfo,
        Message,
        PartialFailure,
        RetryLater,
    )
    from pilotis.modules.file import FileInfo, FileStore, SignedUpload
    from pilotis.modules.locking import Lease, Locking, LockState
    from pilotis.modules.notification import Attachment, Content, Notification, NotificationRequest, Notifier
    from pilotis.modules.workflow import Flow, PermanentError, Run, RunInfo, Step, WorkflowEngine, step, workflow

__all__ = [
    "AlreadyExistsError",
    "Attachment",
    "AuthenticationError",
    "Backoff",
    "BlockingCallInEventLoopError",
    "Cache",
    "CacheStats",
    "Check",
    "Clock",
    "ClosedError",
    "ConfigurationError",
    "ConflictError",
    "ConnectionFailedError",
    "Content",
    "DeadLetter",
    "DeadLetterRecord",
    "DeclaredLanes",
    "Discard",
    "Event",
    "EventBus",
    "FileInfo",
    "FileStore",
    "Finding",
    "Flow",
    "Handlers",
    "InvalidInputError",
    "LaneInfo",
    "Lease",
    "LockLostError",
    "LockNotAcquiredError",
    "LockState",
    "Locking",
    "Message",
    "NonDeterminismError",
    "NotFoundError",
    "Notification",
    "NotificationFailedError",
    "NotificationRequest",
    "Notifier",
    "OperationError",
    "OperationTimeoutError",
    "PartialFailure",
    "PermanentError",
    "PermissionDeniedError",
    "Pilotis",
    "PilotisError",
    "ProviderConflictError",
    "ProviderLoadError",
    "ProviderNotFoundError",
    "ReentrantCallError",
    "RetryLater",
    "Run",
    "RunInfo",
    "SignedUpload",
    "Step",
    "StepFailedError",
    "StepInterruptedError",
    "StorageFullError",
    "SuspendedError",
    "TemplateError",
    "ThrottledError",
    "TypeMismatchError",
    "UnsupportedError",
    "UsageError",
    "WorkflowCancelledError",
    "WorkflowEngine",
    "WorkflowError",
    "WorkflowFailedError",
    "register",
    "step",
    "unregister",
    "workflow",
]

__getattr__ = lazily(
    globals(),
    {
        "pilotis.app": "Pilotis",
        "pilotis.backoff": "Backoff",
        "pilotis.checks": "Check",
        "pilotis.clock": "Clock",
        "pilotis.discovery": "register unregister",
        "pilotis.errors": (
            "AlreadyExistsError AuthenticationError BlockingCallInEventLoopError ClosedError "
            "ConfigurationError ConflictError ConnectionFailedError InvalidInputError LockLostError "
            "LockNotAcquiredError NonDeterminismError NotFoundError NotificationFailedError "
            "OperationError OperationTimeoutError PermissionDeniedError PilotisError "
            "ProviderConflictError ProviderLoadError ProviderNotFoundError ReentrantCallError "
            "StepFailedError StepInterruptedError StorageFullError SuspendedError TemplateError "
            "ThrottledError TypeMismatchError UnsupportedError UsageError WorkflowCancelledError "
            "WorkflowError WorkflowFailedError"
        ),
        "pilotis.findings": "Finding",
        "pilotis.handlers": "Handlers",
        "pilotis.modules.cache": "Cache CacheStats",
        "pilotis.modules.event": (
            "DeadLetter DeadLetterRecord DeclaredLanes Discard Event EventBus LaneInfo Message PartialFailure "
            "RetryLater"
        ),
        "pilotis.modules.file": "FileInfo FileStore SignedUpload",
        "pilotis.modules.locking": "Lease LockState Locking",
        "pilotis.modules.notification": "Attachment Content Notification NotificationRequest Notifier",
        "pilotis.modules.workflow": "Flow PermanentError Run RunInfo Step WorkflowEngine step workflow",
    },
)


def __dir__() -> list[str]:
    return __all__
