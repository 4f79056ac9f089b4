"""Exceptions to records and back: a failure looks the same on the first run and on every replay."""

from __future__ import annotations

from collections.abc import Sequence

from pilotis.codec import JSON
from pilotis.errors import (
    InvalidInputError,
    PilotisError,
    StepFailedError,
    StepInterruptedError,
    WorkflowCancelledError,
    WorkflowFailedError,
)
from pilotis.modules.workflow.limits import Escaped
from pilotis.modules.workflow.model import Fault

_LONGEST = 10_000

Raises = Sequence[type[Exception]]


class PermanentError(PilotisError):
    """Raised by a step, itself or as the base of an error: trying again is no use."""


def fault_of(error: BaseException, raises: Raises = ()) -> Fault:
    """Return the record of an exception, with its arguments where its class, or a base of it, is in `raises`."""
    if isinstance(error, Escaped) and error.__cause__ is not None:
        error = error.__cause__
    named = next((kind for kind in type(error).__mro__ if kind in (*raises, StepInterruptedError)), None)
    permanent = isinstance(error, (PermanentError, StepInterruptedError))
    plain = Fault(type=type(error).__name__, message=_text(error), permanent=permanent)
    if named is None:
        return plain
    arguments = _encoded(error.args)
    fault = Fault(type=named.__name__, message=plain.message, arguments=arguments, permanent=permanent)
    return plain if _restored(fault, raises) is None else fault


def step_error(fault: Fault, step: str, raises: Raises = ()) -> Exception:
    """Return the exception that the caller of a failed step gets."""
    return _restored(fault, raises) or StepFailedError(step, fault.type, fault.message)


def run_error(fault: Fault | None, run: str) -> WorkflowFailedError | WorkflowCancelledError:
    """Return the exception that whoever asks for the result of a run gets."""
    if fault is None:
        return WorkflowFailedError(f"run {run!r} failed")
    if fault.type == WorkflowCancelledError.__name__:
        return WorkflowCancelledError(fault.message)
    return WorkflowFailedError(f"run {run!r} failed: {fault.type}: {fault.message}")


def cancelled_fault(run: str) -> Fault:
    """Return what is recorded of a run that was cancelled."""
    return Fault(type=WorkflowCancelledError.__name__, message=f"run {run!r} was cancelled")


def _restored(fault: Fault, raises: Raises) -> Exception | None:
    if fault.arguments is None:
        return None
    for kind in (*raises, StepInterruptedError):
        if kind.__name__ == fault.type:
            try:
                return kind(*JSON.decode(fault.arguments, list))
            except Exception:  # its constructor does not take what it left in `args`: it cannot be restored
                return None
    return None


def _encoded(arguments: tuple[object, ...]) -> bytes | None:
    try:
        return JSON.encode(arguments)
    except InvalidInputError:
        return None


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:
        text = "(its message could not be made)"
    return text[:_LONGEST].encode("utf-8", "replace").decode("utf-8")
