"""SendGridNotifications: mails by SendGrid's v3 API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Flag
from itertools import chain
from typing import ClassVar

import msgspec
from pilotis.errors import (
    AuthenticationError,
    InvalidInputError,
    OperationError,
    PermissionDeniedError,
)
from pilotis.providers import (
    DeliveryUpdate,
    NotificationCapability,
    NotificationProvider,
    OutgoingMessage,
    Receipt,
    gather,
    run_blocking,
)

from pilotis_notification_sendgrid import webhooks
from pilotis_notification_sendgrid.calls import Answer, get_scopes, post_mail
from pilotis_notification_sendgrid.faults import Problem, body_in, explained, kind_of, problems_in
from pilotis_notification_sendgrid.mails import Mail, as_mail, body_of, calls_for
from pilotis_notification_sendgrid.options import SendGridOptions

SCOPE = "mail.send"
UNKNOWN_QUESTION = (404, 405, 501)
"""What is answered by who takes mails, and knows nothing else."""

Result = Receipt | Exception
Results = dict[int, Result]
"""What became of mails, by their index."""


class SendGridNotifications(NotificationProvider):
    """Hands mails to SendGrid: those that differ in their recipients alone in one call, a thousand at most.

    It serves any channel that has mail addresses. SendGrid does not drop duplicates: a message that is given again is
    sent again.
    """

    Options = SendGridOptions
    options: SendGridOptions
    capabilities: ClassVar[Flag] = (
        NotificationCapability.ATTACHMENTS | NotificationCapability.TEMPLATES | NotificationCapability.WEBHOOKS
    )
    batch: ClassVar[int] = 1000

    def __init__(self, options: SendGridOptions) -> None:
        super().__init__(options)

    @property
    def address(self) -> str:
        return self.options.place

    async def ping(self) -> None:
        """Ask what the key may do. A gateway in between that does not know the question is no obstacle."""
        try:
            answer = await run_blocking(get_scopes, self.options)
        except Exception as error:
            if getattr(error, "status_code", None) in UNKNOWN_QUESTION:
                return
            raise self._explained(error) from error
        _check_scopes(answer)

    def classify(self, error: Exception) -> type[OperationError] | None:
        if isinstance(error, ConnectionRefusedError):  # nobody was there to accept anything
            return super().classify(error)
        return kind_of(error) or super().classify(error)

    def check(self, message: OutgoingMessage) -> None:
        as_mail(0, message, self.options.sender)

    async def send(self, messages: Sequence[OutgoingMessage]) -> list[Receipt | Exception]:
        results: Results = {}
        mails: list[Mail] = []
        for index, message in enumerate(messages):
            try:
                mails.append(as_mail(index, message, self.options.sender))
            except InvalidInputError as error:
                results[index] = error
        results |= await self._send_all(calls_for(mails))
        return [results[index] for index in range(len(messages))]

    async def parse_webhook(self, headers: Mapping[str, str], body: bytes) -> list[DeliveryUpdate]:
        key = self.options.webhook_public_key
        if key is None:
            raise AuthenticationError("webhook_public_key: expected one in the options, to verify webhooks with")
        webhooks.verify(key, headers, body, self.context.clock.time(), self.options.webhook_tolerance)
        return webhooks.updates_in(body)

    # Calls

    async def _send_all(self, calls: Sequence[list[Mail]]) -> Results:
        """Make some calls at once, and the others after them. What cannot begin in time is left to another attempt."""
        waiting = iter(calls)
        last_begin = self.context.clock.monotonic() + self.options.call_timeout

        async def work() -> list[Results]:
            return [await self._settle(call, last_begin) for call in waiting]

        workers = [work() for _ in range(min(self.options.concurrency, len(calls)))]
        return dict(chain.from_iterable(part.items() for parts in await gather(*workers) for part in parts))

    async def _settle(self, call: list[Mail], last_begin: float) -> Results:
        """Make a call, and those that take up what SendGrid refused to take with the rest of it."""
        results: Results = {}
        calls = [call]
        while calls:
            made, again = await self._send_in_time(calls.pop(), last_begin)
            results |= made
            calls += again
        return results

    async def _send_in_time(self, call: list[Mail], last_begin: float) -> tuple[Results, list[list[Mail]]]:
        """Return what became of mails, and the calls to be made for the others."""
        if self.context.clock.monotonic() > last_begin:
            late = OperationError("there were too many calls before this one: it was not made", retryable=True)
            return _for_all(call, late), []
        try:
            answer = await run_blocking(post_mail, self.options, body_of(call, sandbox=self.options.sandbox))
        except Exception as error:
            return self._after(error, call)
        return self._accepted(answer, call), []

    def _accepted(self, answer: Answer, call: list[Mail]) -> Results:
        if answer.status != 202 and not (self.options.sandbox and answer.status == 200):
            return _for_all(call, OperationError(f"SendGrid answered {answer.status}, which does not mean accepted"))
        status = "simulated" if self.options.sandbox else "sent"
        message_id = answer.headers.get("X-Message-Id")
        ids = [_external_id(message_id, part, len(call)) for part in range(len(call))]
        return {mail.index: Receipt(external_id=id, status=status) for mail, id in zip(call, ids, strict=True)}

    def _after(self, error: Exception, call: list[Mail]) -> tuple[Results, list[list[Mail]]]:
        """Settle who is to blame for an error; the other mails of the call go in another one."""
        blamed = _blamed(error, call)
        if blamed:
            others = [mail for part, mail in enumerate(call) if part not in blamed]
            results: Results = {call[part].index: self._explained(error, problems) for part, problems in blamed.items()}
            return results, [others] if others else []
        if getattr(error, "status_code", None) == 413 and len(call) > 1:
            middle = len(call) // 2
            return {}, [call[middle:], call[:middle]]
        return _for_all(call, self._explained(error)), []

    def _explained(self, error: Exception, problems: tuple[Problem, ...] | None = None) -> Exception:
        told = problems_in(body_in(error)) if problems is None else problems
        return explained(error, told, self.context.clock.time(), str(self.options.api_key))


def _for_all(call: list[Mail], error: Result) -> Results:
    return dict.fromkeys((mail.index for mail in call), error)


def _external_id(message_id: str | None, part: int, parts: int) -> str | None:
    return message_id if parts == 1 or message_id is None else webhooks.external_id(message_id, part)


def _blamed(error: Exception, call: list[Mail]) -> dict[int, tuple[Problem, ...]]:
    """Return the parts of a call that an answer complains about, if it complains about nothing else."""
    problems = problems_in(body_in(error))
    parts = {problem.part for problem in problems}
    if getattr(error, "status_code", None) != 400 or not parts <= set(range(len(call))):
        return {}
    return {part: tuple(problem for problem in problems if problem.part == part) for part in parts if part is not None}


class _Scopes(msgspec.Struct):
    scopes: list[str]


def _check_scopes(answer: Answer) -> None:
    try:
        scopes = msgspec.json.decode(answer.body, type=_Scopes).scopes
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if SCOPE not in scopes:
        raise PermissionDeniedError(f"api_key: this key may not send mails; give it the scope {SCOPE}")
