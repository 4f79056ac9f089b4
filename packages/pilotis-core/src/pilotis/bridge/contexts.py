"""Context variables of ours: what surrounds a call, and must not follow work that outlives it."""

from __future__ import annotations

from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")

_ours: list[tuple[ContextVar[Any], Any]] = []


def scoped(name: str, default: T) -> ContextVar[T]:
    """Return a context variable that `detached_context` puts back to its default."""
    variable = ContextVar(name, default=default)
    _ours.append((variable, default))
    return variable


def detached_context() -> Context:
    """Return a copy of the caller's context for work in the background.

    It has the variables of the application, and none of ours: the work is not inside the group, the locks, the
    workflow or the computation that its caller is in, and may go on when they are over.
    """
    context = copy_context()
    for variable, default in _ours:
        context.run(variable.set, default)
    return context
