"""Every error Pilotis raises, in one tree.

PilotisError
├── ConfigurationError                      before any I/O
│   ├── ProviderNotFoundError (LookupError)
│   ├── ProviderConflictError
│   └── ProviderLoadError (ImportError)
├── UsageError (RuntimeError)               the program calls Pilotis in a way that cannot work
│   ├── BlockingCallInEventLoopError
│   ├── SuspendedError
│   ├── ReentrantCallError
│   └── ClosedError
├── UnsupportedError (NotImplementedError)
└── OperationError
    ├── NotFoundError (LookupError)
    ├── AlreadyExistsError
    ├── ConflictError
    ├── ConnectionFailedError
    ├── OperationTimeoutError (TimeoutError)
    ├── ThrottledError
    ├── AuthenticationError
    ├── PermissionDeniedError
    ├── InvalidInputError (ValueError)
    │   ├── TypeMismatchError
    │   └── TemplateError
    ├── StorageFullError
    ├── LockNotAcquiredError
    ├── LockLostError
    ├── NotificationFailedError
    └── WorkflowError
        ├── WorkflowFailedError
        ├── WorkflowCancelledError
        ├── StepFailedError
        ├── StepInterruptedError
        └── NonDeterminismError

A message says what happened, what was expected and what to do. It never holds a secret.
"""

from __future__ import annotations

from typing import Any, Literal


class PilotisError(Exception):
    """The root of every error of Pilotis."""


# Configuration: before any I/O


class ConfigurationError(PilotisError):
    """Settings or declarations that cannot work. `path` is the place, such as `cache.default_ttl`."""

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message if path is None else f"{path}: {message}")
        self.path = path


class ProviderNotFoundError(ConfigurationError, LookupError):
    """No installed or registered provider has the name or URL scheme asked for."""


class ProviderConflictError(ConfigurationError):
    """Several installed distributions declare the same provider."""


class ProviderLoadError(ConfigurationError, ImportError):
    """An installed provider could not be imported."""


# Usage: the call itself is wrong


class UsageError(PilotisError, RuntimeError):
    """Pilotis was called in a way that cannot work, whatever the backend answers."""


class BlockingCallInEventLoopError(UsageError):
    """A blocking verb was called on a thread whose event loop is running."""


class SuspendedError(UsageError):
    """A coroutine suspended in blocking use, where no event loop can wake it."""

    def __init__(self, provider: str, verb: str) -> None:
        super().__init__(
            f"{provider} suspended in {verb}() in blocking use. Await only what pilotis.providers offers "
            f"(run_blocking, pause, Latch, ...), or set asyncio_only = True on the provider."
        )
        self.provider = provider
        self.verb = verb


class ReentrantCallError(UsageError):
    """A computation asked, from inside itself, for the value that it is computing."""


class ClosedError(UsageError):
    """The app or module was used after it was closed."""


# Capabilities


class UnsupportedError(PilotisError, NotImplementedError):
    """The provider does not declare the capability that the verb needs."""

    def __init__(self, capability: str, provider: str) -> None:
        super().__init__(f"provider {provider!r} does not support {capability}")
        self.capability = capability
        self.provider = provider


# Operations: something was tried, and this is how it ended


class OperationError(PilotisError):
    """A verb failed. The native error, if there is one, is `__cause__`.

    `retryable` tells whether the same call may succeed later, unchanged. `outcome` is "unknown" where an answer was
    lost, and nobody knows whether it was done; None where that is known, or where the provider cannot tell.
    """

    retryable: bool = False
    outcome: Literal["unknown"] | None = None

    def __init__(
        self,
        message: str = "",
        *,
        module: str | None = None,
        provider: str | None = None,
        operation: str | None = None,
        retryable: bool | None = None,
        outcome: Literal["unknown"] | None = None,
    ) -> None:
        super().__init__(message or type(self).__doc__ or "")
        self.module = module
        self.provider = provider
        self.operation = operation
        if retryable is not None:
            self.retryable = retryable
        if outcome is not None:
            self.outcome = outcome


class NotFoundError(OperationError, LookupError):
    """What the verb works on does not exist."""


class AlreadyExistsError(OperationError):
    """What the verb would create exists already."""


class ConflictError(OperationError):
    """Another caller got there first, or the same key was used for something else."""


class ConnectionFailedError(OperationError):
    """The backend could not be reached, or the connection broke."""

    retryable = True


class OperationTimeoutError(OperationError, TimeoutError):
    """The verb was not done in the time it was given."""

    retryable = True


class ThrottledError(OperationError):
    """The backend asks for fewer calls. `retry_after` is in seconds, None where it did not say."""

    retryable = True

    def __init__(self, message: str = "", *, retry_after: float | None = None, **context: Any) -> None:
        super().__init__(message, **context)
        self.retry_after = retry_after


class AuthenticationError(OperationError):
    """The backend does not accept the credentials."""


class PermissionDeniedError(OperationError):
    """The credentials are good, and do not allow this."""


class InvalidInputError(OperationError, ValueError):
    """An argument cannot be used. The message names its place and what was expected."""


class TypeMismatchError(InvalidInputError):
    """A stored or received value does not fit the type asked for."""


# File


class StorageFullError(OperationError):
    """The backend has no room for the file: its disk is full, or a quota or limit is reached."""


# Locking


class LockNotAcquiredError(OperationError):
    """Somebody else holds the lock, and still did when the wait was over."""

    retryable = True


class LockLostError(OperationError):
    """The lease ran out, or was taken away, before it was released."""


# Notification


class NotificationFailedError(OperationError):
    """No provider of the channel accepted the notification. `notification` is what the ledger knows of it."""

    notification: Any = None


class TemplateError(InvalidInputError):
    """A template is broken, or misses a variable: `template` is its file, `line` the line where it is known."""

    def __init__(self, message: str = "", template: str = "", line: int | None = None, **context: Any) -> None:
        super().__init__(message, **context)
        self.template = template
        self.line = line


# Workflow


class WorkflowError(OperationError):
    """The root of what a workflow run or one of its steps raises."""


class WorkflowFailedError(WorkflowError):
    """The run ended in failure. The message holds the error of the workflow function."""


class WorkflowCancelledError(WorkflowError):
    """The run was cancelled."""


class StepFailedError(WorkflowError):
    """A step raised after its last attempt: `step`, `type` and `message` say which and what."""

    def __init__(self, step: str, type: str, message: str, **context: Any) -> None:
        super().__init__(f"step {step!r} failed: {type}: {message}", **context)
        self.step = step
        self.type = type
        self.message = message


class StepInterruptedError(WorkflowError):
    """An attempt of a step with `once=True` was interrupted; nobody knows how far it came."""


class NonDeterminismError(WorkflowError):
    """The recorded history of a run does not match what the code does now."""
