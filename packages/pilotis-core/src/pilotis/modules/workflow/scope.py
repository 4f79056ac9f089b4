"""Where the running code stands: in a workflow function, in the body of a step, or in neither."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from pilotis.bridge import scoped
from pilotis.errors import UsageError

if TYPE_CHECKING:
    from pilotis.modules.workflow.replay import Replay


class Unwind(BaseException):
    """Leaves a workflow function: it waits, or has no business any more. Not an Exception: user code lets it pass."""


class Body:
    """The body of a step or compensation: `replay` is the run it belongs to, `id` is the same in every attempt."""

    __slots__ = ("id", "replay", "staged")

    def __init__(self, replay: Replay, key: str) -> None:
        self.replay = replay
        self.id = f"{replay.run.id}/{key}"
        self.staged: list[bytes] = []

    async def stage(self, bus: Any, messages: Any) -> None:
        """Keep events for the record of the step: those of an attempt that fails are dropped with it."""
        self.staged += self.replay.packed(bus, messages, f"{self.id}/{len(self.staged)}")


place: ContextVar[Replay | Body | None] = scoped("pilotis_workflow_place", None)


def current_replay() -> Replay | None:
    """Return the run whose workflow function calls, None in the body of a step and outside of workflows."""
    here = place.get()
    return None if here is None or isinstance(here, Body) else here


def surrounding_replay() -> Replay | None:
    """Return the run whose workflow function or step calls."""
    here = place.get()
    return here.replay if isinstance(here, Body) else here


def require_replay(verb: str) -> Replay:
    """Return the run whose workflow function calls. Raises `UsageError` elsewhere."""
    replay = current_replay()
    if replay is None:
        where = "in the body of a step" if place.get() is not None else "outside of a workflow"
        raise UsageError(f"workflow.{verb} was used {where}; call it in a function decorated with @workflow")
    return replay


def current_step_id() -> str:
    """Return the id of the step whose body calls."""
    here = place.get()
    if not isinstance(here, Body):
        raise UsageError("workflow.step_id was used outside of a step; call it in a function decorated with @step")
    return here.id
