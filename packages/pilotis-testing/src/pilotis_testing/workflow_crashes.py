"""Crashing a worker after each operation of its provider in turn: the outcome must be the same, however far it came."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

import msgspec
from pilotis.backoff import Backoff
from pilotis.bridge import drive, pause, run_blocking
from pilotis.errors import PilotisError
from pilotis.modules.workflow import Flow, step, workflow
from pilotis.providers import ENDED, StepRecord, WorkflowProvider

from pilotis_testing.workflow_base import Engines

MOST_OPERATIONS = 500
WRITING = frozenset(
    {"start", "claim", "commit", "park", "compensate", "finish", "give_back", "signal", "cancel", "rewind"}
)


class Crashed(Exception):
    """The worker is gone. Nothing that it still tries reaches the provider."""


@WorkflowProvider.register
class CrashingProvider:
    """A provider that dies after its `last` writing operation: done, but nobody hears of it. None never dies."""

    def __init__(self, provider: WorkflowProvider, last: int | None) -> None:
        self._provider = provider
        self._left = last
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
        if self.crashed:
            raise Crashed
        if name == "claim":
            self.workers.add(args[0])
        answer = await verb(*args, **kwargs)
        if name in WRITING and answer != []:
            self._count()
        if self.crashed:
            raise Crashed
        return answer

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


async def check_crashes(engines: Engines, play: Play) -> int:
    """Crash a run of the workflow after each operation in turn, and recover it with another engine.

    Asserts that the run always ends in the same state, with the same result and the same journal. Returns how many
    crashes there were.
    """
    expected, _ = await _perform(engines, play, "whole", None)
    for last in range(1, MOST_OPERATIONS):
        outcome, crashed = await _perform(engines, play, f"crash-{last}", last)
        assert expected == outcome, f"a crash after operation {last} changed the outcome"
        if not crashed:
            return last - 1
    raise AssertionError(f"the workflow did not end within {MOST_OPERATIONS} operations")


async def check_lost_answers(engines: Engines, play: Play) -> int:
    """Lose the answer to each operation in turn. Asserts that the run ends as it would; returns how many there were.

    Claims are left out: a provider that may lose their answers has to find out itself that nobody works on a run.
    """
    expected, _ = await _perform(engines, play, "whole", None)
    for last in range(1, MOST_OPERATIONS):
        id, stumbling = f"lost-{last}", cast("Any", StumblingProvider(engines.provider, last))
        engine = engines(provider=stumbling, grace=0)
        while not await _at_end(engines, id):
            await _begin(engine, play, id)
            await _pass_time(engines)
        await engine.close()
        assert expected == await _outcome(engines.provider, id), f"losing answer {last} changed the outcome"
        if not stumbling.stumbled:
            return last - 1
    raise AssertionError(f"the workflow did not end within {MOST_OPERATIONS} operations")


async def _perform(engines: Engines, play: Play, id: str, last: int | None) -> tuple[Any, bool]:
    """Run the workflow, once through a provider that crashes and to its end with one that does not."""
    crashing: Any = CrashingProvider(engines.provider, last)
    engine = engines(provider=crashing, grace=0)
    await _begin(engine, play, id)
    while not crashing.crashed and not await _at_end(engines, id):
        await _pass_time(engines)
    with contextlib.suppress(PilotisError, Crashed):
        await engine.close()
    for worker in crashing.workers:
        await engines.provider.bury(worker)
    if crashing.crashed:
        engine = engines(grace=0)
        await _begin(engine, play, id)
        while not await _at_end(engines, id):
            await _pass_time(engines)
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


async def _pass_time(engines: Engines) -> None:
    await pause(0.0005)
    engines.clock.advance(5)


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
