"""Inline mode: handlers run inside `emit`, for tests of applications."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from operator import attrgetter

import msgspec

from pilotis.bridge import Latch, finish
from pilotis.modules.event.judging import Judged
from pilotis.modules.event.model import RetryLater
from pilotis.modules.event.provider import Delivery, EventProvider, Outcome
from pilotis.modules.event.running import Runner
from pilotis.modules.event.subscriptions import Registry


async def run_inline(provider: EventProvider, registry: Registry, runner: Runner) -> None:
    """Run what waits in the lanes until nothing is left, and then raise what made dead letters.

    Retries follow at once, without their wait; what a handler puts off by `RetryLater` stays in its lane. One error
    is raised as it is, several as an ExceptionGroup.
    """
    errors: list[BaseException] = []
    while deliveries := await _waiting(provider, registry):
        ended = await _run_all(deliveries, provider, registry, runner)
        errors += [it.error for it in ended if it.error is not None and it.outcome.verdict == "dead"]
    _raise(errors)


async def _run_all(
    deliveries: Sequence[Delivery], provider: EventProvider, registry: Registry, runner: Runner
) -> list[Judged]:
    """Run deliveries, lane by lane. What was not begun or broken off, when the caller is cancelled, is given back."""
    left = {lane: list(mine) for lane, mine in itertools.groupby(deliveries, attrgetter("lane"))}
    ended: list[Judged] = []
    try:
        for lane in list(left):
            judged = await _run(left[lane], registry, runner)
            del left[lane]
            await provider.settle([it.outcome for it in judged])
            ended += judged
    except BaseException:
        back = [Outcome(delivery=it, verdict="back") for mine in left.values() for it in mine]
        await finish(provider.settle(back))
        raise
    return ended


async def _waiting(provider: EventProvider, registry: Registry) -> list[Delivery]:
    at_once = Latch()
    at_once.set()
    return await provider.receive({it.lane: it.batch or 1 for it in registry.all()}, at_once)


async def _run(deliveries: Sequence[Delivery], registry: Registry, runner: Runner) -> list[Judged]:
    subscription = registry.get(deliveries[0].lane)
    if subscription is None:
        return []
    return [_hurried(judged) for judged in await runner.run(subscription, deliveries)]


def _hurried(judged: Judged) -> Judged:
    if judged.outcome.verdict != "retry" or isinstance(judged.error, RetryLater):
        return judged
    return Judged(msgspec.structs.replace(judged.outcome, delay=0.0), judged.error)


def _raise(errors: Sequence[BaseException]) -> None:
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise BaseExceptionGroup(f"{len(errors)} deliveries failed", errors)
