"""Inline mode: handlers run inside `emit`, for tests of applications."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pilotis.bridge import Latch
from pilotis.modules.event.model import RetryLater
from pilotis.modules.event.provider import Delivery, EventProvider
from pilotis.modules.event.running import Judged, Runner
from pilotis.modules.event.subscriptions import Registry


async def run_inline(provider: EventProvider, registry: Registry, runner: Runner) -> None:
    """Run what waits in the lanes until nothing is left, and then raise what made dead letters.

    Retries follow at once, without their wait; what a handler puts off by `RetryLater` stays in its lane. One error
    is raised as it is, several as an ExceptionGroup.
    """
    errors: list[BaseException] = []
    while deliveries := await _waiting(provider, registry):
        for delivery in deliveries:
            judged = await _run(delivery, registry, runner)
            await provider.settle([it.outcome for it in judged])
            errors += [it.error for it in judged if it.error is not None and it.outcome.verdict == "dead"]
    _raise(errors)


async def _waiting(provider: EventProvider, registry: Registry) -> list[Delivery]:
    at_once = Latch()
    at_once.set()
    return await provider.receive({it.lane: it.batch or 1 for it in registry.all()}, at_once)


async def _run(delivery: Delivery, registry: Registry, runner: Runner) -> list[Judged]:
    subscription = registry.get(delivery.lane)
    if subscription is None:
        return []
    return [_hurried(judged) for judged in await runner.run(subscription, [delivery])]


def _hurried(judged: Judged) -> Judged:
    if judged.outcome.verdict != "retry" or isinstance(judged.error, RetryLater):
        return judged
    return Judged(msgspec.structs.replace(judged.outcome, delay=0.0), judged.error)


def _raise(errors: Sequence[BaseException]) -> None:
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise BaseExceptionGroup(f"{len(errors)} deliveries failed", errors)
