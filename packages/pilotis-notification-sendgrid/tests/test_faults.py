"""What SendGrid's errors mean: each that it documents, and those of the way to it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from email.utils import formatdate

import pytest
from pilotis.errors import (
    AuthenticationError,
    ConnectionFailedError,
    InvalidInputError,
    NotFoundError,
    NotificationFailedError,
    OperationError,
    OperationTimeoutError,
    PermissionDeniedError,
    ThrottledError,
)
from pilotis.modules.notification import Notifier
from pilotis.providers import Content, OutgoingMessage, Receipt
from pilotis_notification_sendgrid import SendGridNotifications
from pilotis_testing import Colour, ManualClock
from pilotis_testing.colours import soon
from pilotis_testing.sendgrid import SendGridServer
from pilotis_testing.sendgrid_rules import problem
from pilotis_testing.servers import free_port

Make = Callable[..., SendGridNotifications]
Message = Callable[..., OutgoingMessage]

FINAL = (False, None)
PASSING = (True, None)
UNKNOWN = (True, "unknown")


async def failure(provider: SendGridNotifications, message: OutgoingMessage) -> OperationError:
    [error] = await provider.send([message])
    assert isinstance(error, OperationError), error
    return error


# By status


@pytest.mark.parametrize(
    ("status", "kind", "nature"),
    [
        (400, InvalidInputError, FINAL),
        (401, AuthenticationError, FINAL),
        (403, PermissionDeniedError, FINAL),
        (404, OperationError, FINAL),
        (405, OperationError, FINAL),
        (406, OperationError, FINAL),
        (408, ConnectionFailedError, PASSING),
        (413, InvalidInputError, FINAL),
        (415, OperationError, FINAL),
        (429, ThrottledError, PASSING),
        (500, ConnectionFailedError, PASSING),
        (502, ConnectionFailedError, PASSING),
        (503, ConnectionFailedError, PASSING),
        (504, OperationTimeoutError, UNKNOWN),
    ],
)
async def test_a_status_has_its_meaning(
    make: Make,
    message: Message,
    *,
    sendgrid_server: SendGridServer,
    colour: Colour,
    status: int,
    kind: type[OperationError],
    nature: tuple[bool, str | None],
) -> None:
    """Whether it may pass, and whether the mail may have been accepted; in SendGrid's words, with the native error."""
    sendgrid_server.fail(status, problem("it is so"))
    error = await failure(make(), message())
    assert (type(error), (error.retryable, error.outcome)) == (kind, nature)
    assert str(error) == f"SendGrid answered {status}: it is so"
    assert getattr(error.__cause__, "status_code", None) == status


async def test_an_answer_that_is_no_json(
    make: Make, message: Message, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """From whatever stands in between."""
    sendgrid_server.fail(503)
    assert str(await failure(make(), message())) == "SendGrid answered 503"


async def test_a_redirection_is_not_followed(
    make: Make, message: Message, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """It would take the key elsewhere, and lose the mail on the way."""
    with SendGridServer().running() as elsewhere:
        for status in (301, 302, 303, 307, 308):
            sendgrid_server.fail(status, headers={"Location": f"{elsewhere.url}/v3/scopes"})
            error = await failure(make(), message())
            assert (type(error), str(error)) == (OperationError, f"SendGrid answered {status}")
        assert [] == elsewhere.requests


async def test_an_answer_that_is_not_accepted(
    make: Make, message: Message, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """Only 202 is; a page of a proxy is not."""
    sendgrid_server.fail(200)
    assert "200, which does not mean accepted" in str(await failure(make(), message()))


# By field


async def test_a_sender_that_is_not_verified(
    make: Make, message: Message, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """Another provider may have it verified."""
    sendgrid_server.senders = {"orders@example.com"}
    error = await failure(make(), message())
    assert type(error) is PermissionDeniedError
    assert "from: The from address does not match a verified Sender Identity" in str(error)


@pytest.mark.parametrize(("field", "kind"), [("from", PermissionDeniedError), ("content.0.value", InvalidInputError)])
async def test_a_bad_request_is_told_by_its_field(
    make: Make,
    message: Message,
    *,
    sendgrid_server: SendGridServer,
    colour: Colour,
    field: str,
    kind: type[OperationError],
) -> None:
    """What is wrong with the message would be wrong elsewhere; what is wrong with the account would not."""
    sendgrid_server.fail(400, problem("no", f"{field}"))
    error = await failure(make(), message())
    assert (type(error), str(error)) == (kind, f"SendGrid answered 400: {field}: no")


async def test_a_template_that_sendgrid_does_not_have(make: Make, message: Message, colour: Colour) -> None:
    """Another provider may have one of that name."""
    error = await failure(make(), message(content=None, template="d-nobody-made-it"))
    assert type(error) is NotFoundError


async def test_a_refused_recipient_does_not_take_the_others_along(
    make: Make, message: Message, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """SendGrid refuses the call as a whole; whom it names is refused, and the others go in another call."""
    mails = [message(to) for to in ("a@example.com", "ö@example.com", "b@example.com", "ü@example.com")]
    results = await make().send(mails)
    assert [Receipt, InvalidInputError, Receipt, InvalidInputError] == [type(result) for result in results]
    assert str(results[3]) == "SendGrid answered 400: personalizations.3.to.0.email: Does not contain a valid address."
    assert ["a@example.com", "b@example.com"] == [mail.to for mail in sendgrid_server.sent]


async def test_a_call_that_is_too_large_is_halved(
    make: Make, message: Message, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """Until its parts fit; what is too large alone is refused."""
    sendgrid_server.fail(413, times=2)
    results = await make().send([message(f"{name}@example.com") for name in "abcd"])
    assert [Receipt] * 4 == [type(result) for result in results]
    assert ["a", "b", "c", "d"] == [mail.to[0] for mail in sendgrid_server.sent]


@pytest.mark.slow
@pytest.mark.parametrize("colour", [Colour.ASYNC])
async def test_recipients_that_are_refused_one_after_the_other(
    make: Make, message: Message, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """As many as there are: each answer names another one, and all others are sent."""
    sendgrid_server.fail(400, problem("no", "personalizations.0.to.0.email"), times=600)
    results = await make().send([message(f"{number}@example.com") for number in range(602)])
    assert [InvalidInputError] * 600 + [Receipt] * 2 == [type(result) for result in results]
    assert ["600@example.com", "601@example.com"] == [mail.to for mail in sendgrid_server.sent]


async def test_refusals_do_not_outlast_the_batch(
    make: Make, message: Message, sendgrid_server: SendGridServer, clock: ManualClock, colour: Colour
) -> None:
    """What is left when its time is over is left to another attempt, and not made unknown by a time limit."""
    provider = make(call_timeout=10)

    def slower() -> float:
        clock.advance(6)
        return clock.time()

    sendgrid_server.clock = slower
    sendgrid_server.fail(400, problem("no", "personalizations.0.to.0.email"), times=3)
    results = await provider.send([message(f"{name}@example.com") for name in "abcd"])
    assert [InvalidInputError, InvalidInputError, OperationError, OperationError] == [type(one) for one in results]
    assert len(sendgrid_server.requests) == 2


# Throttling


async def test_how_long_to_wait_is_what_sendgrid_says(
    make: Make, message: Message, sendgrid_server: SendGridServer, clock: ManualClock, colour: Colour
) -> None:
    """By the time on its own clock, not ours."""
    sendgrid_server.limit, sendgrid_server.reset_at = 0, clock.time() + 30
    sendgrid_server.clock = lambda: clock.time() - 7
    error = await failure(make(), message())
    assert isinstance(error, ThrottledError)
    assert error.retry_after == 37


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"X-RateLimit-Reset": "soon"}, None),
        ({"X-RateLimit-Reset": "0"}, 0.0),
        ({"X-RateLimit-Reset": "1767225660", "Date": "yesterday"}, 60.0),
        ({"X-RateLimit-Reset": "1767225660", "Date": formatdate(1767225600, usegmt=True)}, 60.0),
        ({"Retry-After": "7", "X-RateLimit-Reset": "1767225660"}, 7.0),
    ],
)
async def test_what_headers_say_of_throttling(
    make: Make,
    message: Message,
    *,
    sendgrid_server: SendGridServer,
    colour: Colour,
    headers: dict[str, str],
    expected: float | None,
) -> None:
    """What makes no sense says nothing."""
    sendgrid_server.fail(429, headers=headers)
    error = await failure(make(), message())
    assert isinstance(error, ThrottledError)
    assert error.retry_after == expected


# The way


async def test_nobody_is_there(make: Make, message: Message, colour: Colour) -> None:
    """The mail was surely not accepted: it may be tried again."""
    error = await failure(make(base_url=f"http://127.0.0.1:{free_port()}"), message())
    assert (type(error), error.retryable, error.outcome) == (ConnectionFailedError, True, None)


async def test_silence_leaves_the_outcome_open(
    make: Make, message: Message, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """The library would wait for ever; we do not, and say that nobody can tell."""
    sendgrid_server.fall_silent()
    error = await failure(make(call_timeout=0.2), message())
    assert (type(error), error.outcome) == (OperationTimeoutError, "unknown")
    await soon(lambda: len(sendgrid_server.sent) == 1)


@pytest.mark.parametrize("accepting", [True, False])
async def test_a_cut_leaves_the_outcome_open(
    make: Make, message: Message, sendgrid_server: SendGridServer, colour: Colour, *, accepting: bool
) -> None:
    """Nobody can tell the one from the other."""
    sendgrid_server.cut(accepting=accepting)
    error = await failure(make(), message())
    assert (type(error), error.outcome) == (OperationTimeoutError, "unknown")
    assert len(sendgrid_server.sent) == accepting


async def test_what_cannot_begin_in_time_is_left_for_later(
    make: Make, message: Message, sendgrid_server: SendGridServer, clock: ManualClock, colour: Colour
) -> None:
    """So that a long batch ends before its time limit, which would leave open what became of all of it."""
    provider = make(call_timeout=10, concurrency=1)
    moments = iter([0, 5, 6])

    def slower() -> float:
        clock.advance(next(moments, 0))
        return clock.time()

    sendgrid_server.clock = slower
    mails = [message(content=Content(subject="Hi", text=text)) for text in ("one", "two", "three")]
    results = await provider.send(mails)
    assert [Receipt, OperationError] == [type(result) for result in results[::2]]
    assert isinstance(results[2], OperationError)
    assert results[2].retryable


# Behind the portable class


async def test_a_failure_says_why(notifier: Notifier, sendgrid_server: SendGridServer, colour: Colour) -> None:
    """In the error and in the ledger, by the provider's name."""
    sendgrid_server.fail(500, problem("sorry"))
    with pytest.raises(NotificationFailedError, match="sendgrid: ConnectionFailedError: SendGrid answered 500: sorry"):
        await colour.voice(notifier).send("ada@example.com", channel="email", content=Content(text="Hi"))
    [kept] = await colour.voice(notifier).find(status="failed")
    assert kept.error == "sendgrid: ConnectionFailedError: SendGrid answered 500: sorry"


async def test_a_lost_answer_is_unknown(notifier: Notifier, sendgrid_server: SendGridServer, colour: Colour) -> None:
    """And sent again by whoever uses its key next."""
    voice = colour.voice(notifier)
    sendgrid_server.cut(accepting=True)
    order = {"to": "ada@example.com", "channel": "email", "idempotency_key": "order-42", "content": Content(text="Hi")}
    assert (await voice.send(**order)).status == "unknown"
    assert (await voice.send(**order)).status == "sent"
    assert len(sendgrid_server.sent) == 2


@pytest.mark.parametrize("kind", ["answer", "silence"])
async def test_neither_key_nor_recipient_is_told(
    make: Make,
    message: Message,
    *,
    sendgrid_server: SendGridServer,
    colour: Colour,
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    """In logs at any level, though the library would like to; nor in errors."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="python_http_client.client")
    if kind == "answer":
        sendgrid_server.fail(401, problem("wrong"))
    else:
        sendgrid_server.cut()
    provider = make()
    error = await failure(provider, message())
    told = f"{caplog.text}{error!r}{provider.options!r}{provider.address}"
    assert sendgrid_server.key not in told
    assert "ada@example.com" not in told


async def test_calls_share_no_headers(
    make: Make, message: Message, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """Each has its own key, whatever calls of other providers do meanwhile."""
    other = make(api_key="SG.another")
    provider = make()
    assert isinstance((await provider.send([message()]))[0], Receipt)
    assert isinstance((await other.send([message()]))[0], AuthenticationError)
    assert isinstance((await provider.send([message()]))[0], Receipt)
    keys = [headers["Authorization"].removeprefix("Bearer ") for headers in sendgrid_server.requests]
    assert [sendgrid_server.key, "SG.another", sendgrid_server.key] == keys
