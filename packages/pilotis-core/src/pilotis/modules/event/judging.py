"""What follows from how a run of handlers ended."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence

import msgspec

from pilotis.errors import InvalidInputError
from pilotis.modules.event.messages import Head, head
from pilotis.modules.event.model import DeadLetter, DeathCause, Discard, RetryLater
from pilotis.modules.event.provider import Delivery, Outcome
from pilotis.modules.event.subscriptions import Subscription

logger = logging.getLogger("pilotis.event")

MOST_ERROR = 4_000
MOST_TRACEBACK = 40_000
"""Characters that are kept: some errors quote all that a handler was given, and a dead letter is no place for it."""


class Judged(msgspec.Struct, frozen=True):
    """How a delivery ended, and the error that it ended with."""

    outcome: Outcome
    error: BaseException | None = None


class Misfit(Exception):
    """The data is not what the handler asks for."""


def judge(subscription: Subscription, delivery: Delivery, errors: Sequence[BaseException]) -> Judged:
    """Decide what becomes of a delivery."""
    errors = [error for error in errors if not isinstance(error, Discard)]
    if not errors:
        return Judged(Outcome(delivery=delivery, verdict="done"))
    fatal = next((error for error in errors if isinstance(error, (DeadLetter, Misfit))), None)
    if fatal is not None:
        return _dead(delivery, fatal, "mismatch" if isinstance(fatal, Misfit) else "given up")
    failures = [error for error in errors if not isinstance(error, RetryLater)]
    try:
        stated = head(delivery)
    except InvalidInputError as error:
        return _dead(delivery, error, "mismatch")
    if not failures:
        return _later(subscription, delivery, stated, errors)
    return _failed(subscription, delivery, stated, failures[0] if len(failures) == 1 else _joined(failures))


def _joined(failures: Sequence[BaseException]) -> BaseException:
    return BaseExceptionGroup(f"{len(failures)} handlers failed", failures)


def _failed(subscription: Subscription, delivery: Delivery, stated: Head, error: BaseException) -> Judged:
    attempts = stated.attempts or subscription.attempts
    if delivery.attempt >= attempts:
        return _dead(delivery, error, "failed")
    delay = (stated.backoff or subscription.backoff).delay(delivery.attempt)
    logger.warning(
        "%s for %r failed (attempt %d of %d), again in %.3g s: %s",
        delivery.name, subscription.lane, delivery.attempt, attempts, delay, _named(error),
    )  # fmt: skip
    return Judged(Outcome(delivery=delivery, verdict="retry", delay=delay, error=_named(error)), error)


def _later(subscription: Subscription, delivery: Delivery, stated: Head, errors: Sequence[BaseException]) -> Judged:
    """Put off: by the longest wait that a handler asked for."""
    waits = [error.after for error in errors if isinstance(error, RetryLater) and error.after is not None]
    backoff = stated.backoff or subscription.backoff
    delay = max(waits) if waits else backoff.delay(delivery.attempt)
    outcome = Outcome(delivery=delivery, verdict="retry", delay=delay, counted=False, error=_named(errors[0]))
    return Judged(outcome, errors[0])


def _dead(delivery: Delivery, error: BaseException, cause: DeathCause) -> Judged:
    logger.error("%s for %r is a dead letter (%s): %s", delivery.name, delivery.lane, cause, _named(error))
    text = _shortened("".join(traceback.format_exception(error)), MOST_TRACEBACK)
    return Judged(Outcome(delivery=delivery, verdict="dead", cause=cause, error=_named(error), traceback=text), error)


def _named(error: BaseException) -> str:
    try:
        return _shortened(f"{type(error).__name__}: {error}", MOST_ERROR)
    except Exception as broken:
        return f"{type(error).__name__}, whose text cannot be had ({type(broken).__name__})"


def _shortened(text: str, most: int) -> str:
    """Return a text without its middle where it is too long: what failed stands at its ends."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters are left out here ...\n{text[-half:]}"
