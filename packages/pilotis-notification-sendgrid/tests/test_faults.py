"""What SendGrid's errors mean: each that it documents, and those of the way to it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

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
from pilotis.providers import Content, Context, OutgoingMessage, Receipt
from pilotis.settings.model import NotificationSettings
from pilotis_notification_sendgrid import SendGridNotifications
from pilotis_testing import Colour, ManualClock
from pilotis_testing.sendgrid import SendGridServer
from pilotis_testing.sendgrid_rules import problem

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


@pytest.mark.parametrize("status", [400, 503])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>ada@example.com may not</body></html>",
        b'{"errors": null}',
        b'{"errors": [{"message": 7}]}',
        b'["errors"]',
        b'{"more": ' + b"[" * 100_000,
        b'{"errors": [{"message": "\xff"}]}',
    ],
    ids=["empty", "page", "null", "number", "list", "well", "bytes"],
)
async def test_a_body_that_says_nothing(
    make: Make, message: Message, *, sendgrid_server: SendGridServer, colour: Colour, status: int, body: bytes
) -> None:
    """The status stands for itself, and the other calls of the batch are answered for."""
    sendgrid_server.fail(status, body=body)
    results = await make(concurrency=1).send([message(), message(content=Content(text="Another"))])
    assert f"SendGrid answered {status}" == str(results[0])
    assert isinstance(results[1], Receipt)


@pytest.mark.parametrize("part", ["7", "-1", "9" * 5000, "\u0661", "0x"])
async def test_a_part_that_is_not_there_is_nobodys(
    make: Make, message: Message, sendgrid_server: SendGridServer, colour: Colour, part: str
) -> None:
    """The call as a whole was refused then."""
    sendgrid_server.fail(400, problem("no", f"personalizations.{part}.to"))
    results = await make().send([message("ada@example.com"), message("bob@example.com")])
    assert [InvalidInputError] * 2 == [type(result) for result in results]


async def test_what_sendgrid_repeats_of_a_message_is_not(
    make: Make, message: Message, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """Neither an address nor the key, and of a long complaint only the beginning."""
    told = f"You have included [ada@example.com] more than once, with {sendgrid_server.key}. " + "x" * 5000
    sendgrid_server.fail(400, problem(told, "from"))
    error = str(await failure(make(), message()))
    assert error.startswith(
        "SendGrid answered 400: from: You have included [***@example.com] more than once, with ***. x"
    )
    assert len(error) < 1100


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
        ({"X-RateLimit-Reset": "-1"}, None),
        ({"X-RateLimit-Reset": "9" * 400}, None),
        ({"X-RateLimit-Reset": "1767225660", "Date": "Thu, 01 Jan 99999999999999999999 00:00:00 GMT"}, 60.0),
        ({"X-RateLimit-Reset": "1767225660", "Date": "Thu, 01 Jan 2026 00:00:00 +99999999999999"}, 60.0),
        ({"X-RateLimit-Reset": "1767225660", "Date": "Thu, 01 Jan 2026 00:00:50 -0000"}, 10.0),
        ({"Retry-After": "soon", "X-RateLimit-Reset": "1767225660"}, 60.0),
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


# Behind the portable class


async def test_a_failure_says_why(notifier: Notifier, sendgrid_server: SendGridServer, colour: Colour) -> None:
    """In the error and in the ledger, by the provider's name."""
    sendgrid_server.fail(500, problem("sorry"))
    with pytest.raises(NotificationFailedError, match="sendgrid: ConnectionFailedError: SendGrid answered 500: sorry"):
        await colour.voice(notifier).send("ada@example.com", channel="email", content=Content(text="Hi"))
    [kept] = await colour.voice(notifier).find(status="failed")
    assert kept.error == "sendgrid: ConnectionFailedError: SendGrid answered 500: sorry"


@pytest.mark.parametrize(("on_unknown", "status", "times"), [("resend", "sent", 2), ("hold", "unknown", 1)])
async def test_a_lost_answer_is_unknown(
    make: Make,
    *,
    clock: ManualClock,
    sendgrid_server: SendGridServer,
    colour: Colour,
    on_unknown: Any,
    status: str,
    times: int,
) -> None:
    """Whoever uses its key next sends it again, unless it is held; nobody raises."""
    sendgrid_server.cut(accepting=True)
    context = Context(clock=clock)
    settings = NotificationSettings(on_unknown=on_unknown)
    own = Notifier(make(), context=context, settings=settings)
    voice = colour.voice(own)
    order = {"to": "ada@example.com", "channel": "email", "idempotency_key": "order-42", "content": Content(text="Hi")}
    assert (await voice.send(**order)).status == "unknown"
    assert (await voice.send(**order)).status == status
    assert len(sendgrid_server.sent) == times
    await voice.close()
    context.runtime.stop()


@pytest.mark.parametrize("kind", ["answer", "echo", "page", "cut"])
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
    echo = f"ada@example.com may not, with {sendgrid_server.key}"
    if kind == "cut":
        sendgrid_server.cut()
    elif kind == "page":
        sendgrid_server.fail(503, body=echo.encode())
    else:
        sendgrid_server.fail(401, problem(echo if kind == "echo" else "wrong"))
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
