"""Crashing a worker before and after each operation of its provider: the outcome must be the same every time."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, cast

import msgspec
from pilotis.backoff import Backoff
from pilotis.bridge import blocking, drive, pause, run_blocking, running_loop
from pilotis.discovery import resolve
from pilotis.errors import PilotisError
from pilotis.modules.workflow import Flow, step, workflow
from pilotis.providers import ENDED, StepRecord, WorkflowProvider

from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import Colour
from pilotis_testing.workflow_base import Engines

MOST_OPERATIONS = 500
MOMENT = 5.0
"""Seconds that pass between two looks."""
WRITING = frozenset(
    {"start", "claim", "commit", "park", "compensate", "finish", "give_back", "signal", "cancel", "rewind"}
)


class Crashed(Exception):
    """The worker is gone. Nothing that it still tries reaches the provider."""


@WorkflowProvider.register
class CrashingProvider:
    """A provider that dies after its `last` writing operation: done, but nobody hears of it. None never dies.

    One that dies `before` does so in front of that operation: what led to it is not known to anybody else.
    """

    def __init__(self, provider: WorkflowProvider, last: int | None, *, before: bool = False) -> None:
        self._provider = provider
        self._left = last
        self._before = before
        self.crashed = False
        self.workers: set[str] = set()
        """Who claimed runs through it."""

    @property
    def context(self) -> Any:
        return self._provider.context

    @context.setter
    def context(self, context: Any) -> None:
        self._provider.context = context

    async def open(self) -> None:
        """The provider behind it is open."""

    async def ping(self) -> None:
        """It can always be reached."""

    async def close(self) -> None:
        """The provider behind it stays open."""

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._provider, name)
        if name.startswith("_") or not callable(member) or name in ("classify", "outcome", "native"):
            return member
        return partial(self._call, name, cast("Callable[..., Awaitable[Any]]", member))

    async def _call(self, name: str, verb: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        self._raise_if_crashed()
        if name == "claim":
            self.workers.add(args[0])
        if self._before and name in WRITING - {"claim"}:
            self._count()
            self._raise_if_crashed()
        answer = await verb(*args, **kwargs)
        if not self._before and name in WRITING and answer != []:
            self._count()
        self._raise_if_crashed()
        return answer

    def _raise_if_crashed(self) -> None:
        if self.crashed:
            raise Crashed

    def _count(self) -> None:
        if self._left is not None:
            self._left -= 1
            self.crashed = self._left <= 0


class StumblingProvider(CrashingProvider):
    """A provider that loses the answer to its `last` writing operation, and then goes on."""

    stumbled = False

    async def _call(self, name: str, verb: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        answer = await verb(*args, **kwargs)
        if name in WRITING - {"claim"}:
            self._count()
        if self.crashed and not self.stumbled:
            self.stumbled = True
            raise Crashed
        return answer


class Play(msgspec.Struct):
    """A workflow to crash, its arguments, and the signals that it waits for."""

    flow: Any
    args: tuple[Any, ...] = ()
    signals: dict[str, Any] = {}


async def acheck_crashes(
    flow: Flow[..., Any] | Callable[..., Any],
    *args: Any,
    signals: Mapping[str, Any] | None = None,
    provider: WorkflowProvider | None = None,
    clock: ManualClock | None = None,
) -> int:
    """Crash a run of a workflow before and after each operation of its provider, and recover it on another worker.

    Asserts that it always ends in the same state, with the same result and one and the same record of each step.
    Its steps are really run, and what was done and not recorded when the worker crashed is done again. `signals` are
    sent to it when it starts, each under its name as an id, and sleeps take no time. The provider is the memory one
    unless another one is given, with no other engine on it, and the clock that makes time pass there. Returns how many
    crashes there were.
    """
    colour = Colour.BLOCKING if running_loop() is None else Colour.ASYNC
    kept = resolve("workflow", "memory")() if provider is None else provider
    engines = Engines(cast("WorkflowProvider", kept), clock or ManualClock(), colour)
    try:
        return await crash_everywhere(engines, Play(flow, args, dict(signals or {})))
    finally:
        await run_blocking(engines.close)


check_crashes = blocking(acheck_crashes)
"""The same, for tests that are no coroutines."""


async def crash_everywhere(engines: Engines, play: Play) -> int:
    """Crash a run of the workflow before and after each operation in turn, and recover it with another engine.

    Asserts that the run always ends in the same state, with the same result and the same journal. Returns how many
    crashes there were.
    """
    expected, _ = await _perform(engines, play, "whole")
    return sum([await _crash_each(engines, play, expected, before=before) for before in (False, True)])


async def _crash_each(engines: Engines, play: Play, expected: Any, *, before: bool) -> int:
    when = "before" if before else "after"
    for last in range(1, MOST_OPERATIONS):
        outcome, crashed = await _perform(engines, play, f"crash-{when}-{last}", last, before=before)
        assert expected == outcome, f"a crash {when} operation {last} changed the outcome"
        if not crashed:
            return last - 1
    raise AssertionError(f"the workflow did not end within {MOST_OPERATIONS} operations")


async def lose_every_answer(engines: Engines, play: Play) -> int:
    """Lose the answer to each operation in turn. Asserts that the run ends as it would; returns how many there were.

    Claims are left out: a provider that may lose their answers has to find out itself that nobody works on a run.
    """
    expected, _ = await _perform(engines, play, "whole")
    for last in range(1, MOST_OPERATIONS):
        id, stumbling = f"lost-{last}", cast("Any", StumblingProvider(engines.provider, last))
        engine = engines(provider=stumbling, grace=0)
        while not await _at_end(engines, id):
            await _begin(engine, play, id)
            await _pass_time(engines, id)
        await engine.close()
        assert expected == await _outcome(engines.provider, id), f"losing answer {last} changed the outcome"
        if not stumbling.stumbled:
            return last - 1
    raise AssertionError(f"the workflow did not end within {MOST_OPERATIONS} operations")


async def _perform(
    engines: Engines, play: Play, id: str, last: int | None = None, *, before: bool = False
) -> tuple[Any, bool]:
    """Run the workflow, once through a provider that crashes and to its end with one that does not."""
    crashing: Any = CrashingProvider(engines.provider, last, before=before)
    engine = engines(provider=crashing, grace=0)
    await _begin(engine, play, id)
    while not crashing.crashed and not await _at_end(engines, id):
        await _pass_time(engines, id)
    with contextlib.suppress(PilotisError, Crashed):
        await engine.close()
    for worker in crashing.workers:
        await engines.provider.bury(worker)
    if crashing.crashed:
        engine = engines(grace=0)
        await _begin(engine, play, id)
        while not await _at_end(engines, id):
            await _pass_time(engines, id)
        await engine.close()
    return await _outcome(engines.provider, id), crashing.crashed


async def _begin(engine: Any, play: Play, id: str) -> None:
    """Start and signal, as a caller does who repeats what failed."""
    with contextlib.suppress(PilotisError):
        await engine.start(play.flow, *play.args, id=id)
        for name, payload in play.signals.items():
            await engine.signal(id, name, payload, signal_id=name)


async def _at_end(engines: Engines, id: str) -> bool:
    return await run_blocking(lambda: _rests(engines.provider, id))


def _rests(provider: WorkflowProvider, id: str) -> bool:
    run = drive(provider.load(id))
    return run is not None and run.status in ENDED


async def _pass_time(engines: Engines, id: str) -> None:
    """Have a moment pass; where the run does nothing but sleep, that is all of its sleep."""
    await pause(0.0005)
    asleep_until = await run_blocking(lambda: _asleep_until(engines.provider, id))
    engines.clock.advance(max(MOMENT, asleep_until - engines.clock.time()))


def _asleep_until(provider: WorkflowProvider, id: str) -> float:
    """Return when the next wait of a run ends, and a time long ago for a run that is at work."""
    run = drive(provider.load(id))
    if run is None or run.status != "waiting":
        return 0.0
    return min((record.due or 0.0 for record in drive(provider.journal(id)) if record.status == "waiting"), default=0.0)


async def _outcome(provider: WorkflowProvider, id: str) -> Any:
    run = await provider.load(id)
    assert run is not None
    journal = [_plain(record, id) for record in await provider.journal(id)]
    return run.status, run.result, sorted(journal)


def _plain(record: StepRecord, id: str) -> tuple[str, str, str, str]:
    """Return what must not depend on crashes: not the ids, the times and the number of attempts."""
    texts = (record.key, record.status, str(record.result), str(record.error))
    plain = [text.replace(id, "ID") for text in texts]
    return plain[0], plain[1], plain[2], plain[3]


class Story(enum.Enum):
    """The workflows that the suite crashes."""

    COMPLETES = "completes"
    COMPENSATES = "compensates"


def story_of(story: Story) -> Play:
    """Return a workflow with retries, parallel steps, a signal, a sleep, a child and, where it fails, compensation."""
    return Play(_crash_flow(fails=story is Story.COMPENSATES), (3,), {"go": 4})


def _crash_flow(*, fails: bool) -> Flow[..., int]:
    tries: dict[str, int] = {}

    @step
    def add(left: int, right: int) -> int:
        return left + right

    @add.compensate
    def subtract(left: int, right: int, total: int) -> None:
        assert left + right == total

    @step(attempts=4, backoff=Backoff.fixed(10))
    def flaky(number: int) -> int:
        tries[workflow.step_id()] = tries.get(workflow.step_id(), 0) + 1
        if tries[workflow.step_id()] < 2:
            raise ValueError("not yet")
        return number

    @workflow("crash-child")
    def child(number: int) -> int:
        return add(number, 1)

    @workflow(f"crash-{fails}")
    def flow(number: int) -> int:
        one = add(number, number)
        two, three = workflow.parallel(add.bind(one, 1), flaky.bind(one))
        four = workflow.wait_for("go", type=int)
        workflow.sleep(30)
        five = workflow.start_child(child, four).result()
        if fails:
            raise RuntimeError("alas")
        return two + three + five

    return flow
