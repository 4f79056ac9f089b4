"""One run of a subscription's handlers, and what follows from how it ended."""

from __future__ import annotations

import asyncio
import logging
import threading
import traceback
from collections.abc import Sequence
from typing import Any

import msgspec

from pilotis.bridge import running_loop
from pilotis.context import Context
from pilotis.errors import InvalidInputError, OperationTimeoutError
from pilotis.modules.event.messages import head, unpack
from pilotis.modules.event.model import DeadLetter, DeathCause, Discard, Event, RetryLater
from pilotis.modules.event.provider import Delivery, Outcome
from pilotis.modules.event.subscriptions import Handler, Subscription

logger = logging.getLogger("pilotis.event")

CLEAN_UP_SECONDS = 6.0
"""How long a cancelled handler may take to clean up, in real seconds."""


class Judged(msgspec.Struct, frozen=True):
    """How a delivery ended, and the error that it ended with."""

    outcome: Outcome
    error: BaseException | None = None


class _Misfit(Exception):
    """The data is not what the handler asks for."""


class Runner:
    """Runs handlers, from either colour."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.after_fork()

    def after_fork(self) -> None:
        """Handlers that hang do so in the parent."""
        self.stuck = _Counter()
        """Plain handlers that hang past their timeout: nothing can stop their threads."""

    async def run(self, subscription: Subscription, deliveries: Sequence[Delivery]) -> list[Judged]:
        """Run the handlers for each delivery, or once for all where they take batches."""
        if subscription.batch is not None:
            return await self._run_batch(subscription, deliveries)
        return [await self._run_one(subscription, delivery) for delivery in deliveries]

    async def _run_one(self, subscription: Subscription, delivery: Delivery) -> Judged:
        """Run every handler, whatever the others do."""
        errors: list[BaseException] = []
        for handler in subscription.handlers:
            event = _read(handler, delivery)
            error = event if isinstance(event, _Misfit) else await self._try(handler, event, subscription.timeout)
            if error is not None:
                errors.append(error)
        return _judge(subscription, delivery, errors)

    async def _run_batch(self, subscription: Subscription, deliveries: Sequence[Delivery]) -> list[Judged]:
        """Run the handler once for all deliveries whose data fits."""
        [handler] = subscription.handlers
        events = [_read(handler, delivery) for delivery in deliveries]
        fitting = [event for event in events if not isinstance(event, _Misfit)]
        error = await self._try(handler, fitting, subscription.timeout) if fitting else None
        errors = [event if isinstance(event, _Misfit) else error for event in events]
        return [
            _judge(subscription, delivery, [] if why is None else [why])
            for delivery, why in zip(deliveries, errors, strict=True)
        ]

    async def _try(self, handler: Handler, argument: object, timeout: float | None) -> BaseException | None:
        """Call a handler and return what it raised. A cancellation of this very run passes."""
        try:
            if timeout is None:
                await self._context.runtime.call(handler.function, argument)
            else:
                await self._call_bounded(handler, argument, timeout)
        except asyncio.CancelledError as error:
            if _being_cancelled():
                raise
            return error
        except BaseException as error:  # whatever it is, one handler never stops the others
            return error
        return None

    async def _call_bounded(self, handler: Handler, argument: object, timeout: float) -> None:
        call = _Call(handler, argument, self._context, self.stuck)
        job = self._context.runtime.spawn(call.run(), f"handler {handler.name}")
        try:
            if await self._context.clock.wait(job.ended, timeout):
                return call.result()
        finally:
            if not job.ended.is_set():
                call.give_up()
                job.cancel()
                await job.ended.wait(CLEAN_UP_SECONDS)
        raise OperationTimeoutError(f"handler {handler.name} was not done within its timeout of {timeout:g} s")


class _Counter:
    """A number that threads change."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.value = 0

    def add(self, number: int) -> None:
        with self._lock:
            self.value += number


class _Call:
    """One call of a handler that somebody may stop waiting for. Counted as stuck from then on, until it ends."""

    def __init__(self, handler: Handler, argument: object, context: Context, stuck: _Counter) -> None:
        self._handler = handler
        self._argument = argument
        self._context = context
        self._stuck = stuck
        self._lock = threading.Lock()
        self._ended = self._given_up = False
        self._error: BaseException | None = None

    async def run(self) -> None:
        """Call the handler; its error is kept. A cancelled wait for a thread is not the end of the call."""
        tracked = self._in_loop if self._handler.is_async else self._on_thread
        try:
            await self._context.runtime.call(tracked)
        except BaseException as error:
            self._error = error

    def result(self) -> None:
        if self._error is not None:
            raise self._error

    def give_up(self) -> None:
        with self._lock:
            self._given_up = not self._ended
        self._stuck.add(self._given_up)

    async def _in_loop(self) -> None:
        try:
            await self._handler.function(self._argument)
        except (SystemExit, KeyboardInterrupt) as error:  # asyncio would end the loop of the application over it
            self._error = error
        finally:
            self._end()

    def _on_thread(self) -> Any:
        try:
            return self._handler.function(self._argument)
        finally:
            self._end()

    def _end(self) -> None:
        with self._lock:
            self._ended = True
        self._stuck.add(-self._given_up)


def _being_cancelled() -> bool:
    if running_loop() is None:
        return False
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _read(handler: Handler, delivery: Delivery) -> Event[Any] | _Misfit:
    try:
        return unpack(delivery, handler.type)
    except InvalidInputError as error:
        misfit = _Misfit(f"the data is not what {handler.name} asks for: {error}")
        misfit.__cause__ = error
        return misfit


def _judge(subscription: Subscription, delivery: Delivery, errors: Sequence[BaseException]) -> Judged:
    """Decide what becomes of a delivery."""
    errors = [error for error in errors if not isinstance(error, Discard)]
    if not errors:
        return Judged(Outcome(delivery=delivery, verdict="done"))
    fatal = next((error for error in errors if isinstance(error, (DeadLetter, _Misfit))), None)
    if fatal is not None:
        return _dead(delivery, fatal, "mismatch" if isinstance(fatal, _Misfit) else "given up")
    failures = [error for error in errors if not isinstance(error, RetryLater)]
    if not failures:
        return _later(subscription, delivery, errors)
    return _failed(subscription, delivery, failures[0] if len(failures) == 1 else _joined(failures))


def _joined(failures: Sequence[BaseException]) -> BaseException:
    return BaseExceptionGroup(f"{len(failures)} handlers failed", failures)


def _failed(subscription: Subscription, delivery: Delivery, error: BaseException) -> Judged:
    stated = head(delivery)
    attempts = stated.attempts or subscription.attempts
    if delivery.attempt >= attempts:
        return _dead(delivery, error, "failed")
    delay = (stated.backoff or subscription.backoff).delay(delivery.attempt)
    logger.warning(
        "%s for %r failed (attempt %d of %d), again in %.3g s: %s",
        delivery.name, subscription.lane, delivery.attempt, attempts, delay, _named(error),
    )  # fmt: skip
    return Judged(Outcome(delivery=delivery, verdict="retry", delay=delay, error=_named(error)), error)


def _later(subscription: Subscription, delivery: Delivery, errors: Sequence[BaseException]) -> Judged:
    """Put off: by the longest wait that a handler asked for."""
    waits = [error.after for error in errors if isinstance(error, RetryLater) and error.after is not None]
    backoff = head(delivery).backoff or subscription.backoff
    delay = max(waits) if waits else backoff.delay(delivery.attempt)
    outcome = Outcome(delivery=delivery, verdict="retry", delay=delay, counted=False, error=_named(errors[0]))
    return Judged(outcome, errors[0])


def _dead(delivery: Delivery, error: BaseException, cause: DeathCause) -> Judged:
    logger.error("%s for %r is a dead letter (%s): %s", delivery.name, delivery.lane, cause, _named(error))
    text = "".join(traceback.format_exception(error))
    return Judged(Outcome(delivery=delivery, verdict="dead", cause=cause, error=_named(error), traceback=text), error)


def _named(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception as broken:
        return f"{type(error).__name__}, whose text cannot be had ({type(broken).__name__})"
