"""One run of a subscription's handlers."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Sequence
from typing import Any

from pilotis.bridge import running_loop
from pilotis.context import Context
from pilotis.errors import InvalidInputError, OperationTimeoutError
from pilotis.modules.event.judging import Judged, Misfit, judge
from pilotis.modules.event.model import Event, PartialFailure
from pilotis.modules.event.provider import Delivery, Outcome
from pilotis.modules.event.subscriptions import Handler, Subscription
from pilotis.telemetry import Tracing

CLEAN_UP_SECONDS = 6.0
"""How long a cancelled handler may take to clean up, in real seconds."""


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
            error = event if isinstance(event, Misfit) else await self._try(handler, event, [event], subscription)
            if error is not None:
                errors.append(error)
        return judge(subscription, delivery, errors) if errors else Judged(Outcome(delivery=delivery, verdict="done"))

    async def _run_batch(self, subscription: Subscription, deliveries: Sequence[Delivery]) -> list[Judged]:
        """Run the handler once for all deliveries whose data fits."""
        [handler] = subscription.handlers
        events = [_read(handler, delivery) for delivery in deliveries]
        fitting = [event for event in events if not isinstance(event, Misfit)]
        raised = await self._try(handler, fitting, fitting, subscription) if fitting else None
        error_of = _told_apart(raised, fitting)
        errors = [event if isinstance(event, Misfit) else error_of(event.id) for event in events]
        return [
            judge(subscription, delivery, [] if error is None else [error])
            for delivery, error in zip(deliveries, errors, strict=True)
        ]

    async def _try(
        self, handler: Handler, argument: object, events: Sequence[Event[Any]], subscription: Subscription
    ) -> BaseException | None:
        """Call a handler and return what it raised. A cancellation of this very run passes."""
        telemetry = self._context.telemetry
        try:
            if telemetry is not None and isinstance(telemetry, Tracing):
                with telemetry.handling("event", handler.name, [event.metadata for event in events]):
                    await self._call(handler, argument, subscription.timeout)
            else:
                await self._call(handler, argument, subscription.timeout)
        except asyncio.CancelledError as error:
            if _being_cancelled():
                raise
            return error
        except BaseException as error:  # whatever it is, one handler never stops the others
            return error
        return None

    async def _call(self, handler: Handler, argument: object, timeout: float | None) -> None:
        if timeout is not None:
            await self._call_bounded(handler, argument, timeout)
        elif handler.is_async:
            await self._context.runtime.call_async(handler.function, argument)
        else:
            await self._context.runtime.call_plain(handler.function, argument)

    async def _call_bounded(self, handler: Handler, argument: object, timeout: float) -> None:
        call = _Call(handler, argument, self._context, self.stuck)
        context = contextvars.copy_context()  # with the span that was begun for it
        job = self._context.runtime.spawn(call.run(), f"handler {handler.name}", context=context)
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


def _read(handler: Handler, delivery: Delivery) -> Event[Any] | Misfit:
    try:
        return handler.read(delivery)
    except InvalidInputError as error:
        misfit = Misfit(f"the data is not what {handler.name} asks for: {error}")
        misfit.__cause__ = error
        return misfit


def _told_apart(raised: BaseException | None, events: Sequence[Event[Any]]) -> Callable[[str], BaseException | None]:
    """Return what tells the error of each event of a batch by its id."""
    if not isinstance(raised, PartialFailure):
        return lambda _: raised
    strangers = raised.failures.keys() - {event.id for event in events}
    if not strangers:
        return raised.failures.get
    error = InvalidInputError(f"PartialFailure: no event of the batch has the id {min(strangers, key=repr)!r}")
    error.__cause__ = raised
    return lambda _: error
