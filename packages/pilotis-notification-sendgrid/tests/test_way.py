"""The way to SendGrid: whoever is silent, slow or gone on it, each call ends in time, and says what became of it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

import pytest
from pilotis.errors import ConnectionFailedError, OperationError, OperationTimeoutError
from pilotis.providers import Content, OutgoingMessage, Receipt
from pilotis_notification_sendgrid import SendGridNotifications
from pilotis_testing import Colour, ManualClock
from pilotis_testing.colours import soon
from pilotis_testing.sendgrid import SendGridServer
from pilotis_testing.servers import free_port

Make = Callable[..., SendGridNotifications]
Message = Callable[..., OutgoingMessage]

LITTLE = 1.0
"""Seconds: little to wait for, and enough for a busy machine to hand over a mail."""


async def failure(provider: SendGridNotifications, message: OutgoingMessage) -> OperationError:
    [error] = await provider.send([message])
    assert isinstance(error, OperationError), error
    return error


async def test_nobody_is_there(make: Make, message: Message, colour: Colour) -> None:
    """The mail was surely not accepted: it may be tried again."""
    error = await failure(make(base_url=f"http://127.0.0.1:{free_port()}"), message())
    assert (type(error), error.retryable, error.outcome) == (ConnectionFailedError, True, None)


async def test_silence_leaves_the_outcome_open(
    make: Make, message: Message, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """The library would wait for ever; we do not, and say that nobody can tell."""
    sendgrid_server.fall_silent()
    error = await failure(make(call_timeout=LITTLE), message())
    assert (type(error), error.outcome) == (OperationTimeoutError, "unknown")
    await soon(lambda: len(sendgrid_server.sent) == 1)


@pytest.mark.slow
async def test_a_drip_leaves_the_outcome_open(
    make: Make, message: Message, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """However lively: the time is one for the whole call."""
    sendgrid_server.drip()
    error = await failure(make(call_timeout=LITTLE), message())
    assert (type(error), error.outcome) == (OperationTimeoutError, "unknown")
    assert 1 == len(sendgrid_server.sent)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_nobody_answers_the_door(make: Make, message: Message, colour: Colour, scheme: str) -> None:
    """A server that takes no connection, or says nothing of TLS, was not told of the mail: it may be tried again."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as stack:
        place = listener.getsockname()
        if scheme == "http":  # who connects first fills the line; the system leaves the others without an answer
            stack.enter_context(socket.create_connection(place))
        error = await failure(make(base_url=f"{scheme}://127.0.0.1:{place[1]}", call_timeout=0.2), message())
    assert (type(error), error.retryable, error.outcome) == (ConnectionFailedError, True, None)


@pytest.mark.slow
async def test_the_addresses_of_a_name_share_the_time(
    make: Make, message: Message, colour: Colour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it is over, those that were not tried yet are left alone."""
    look_up, connect, tried = socket.getaddrinfo, socket.create_connection, list[object]()

    def three(host: str, *more: Any, **words: Any) -> list[Any]:
        return look_up("127.0.0.1", *more, **words) * (3 if host == "mail.test" else 1)

    def noted(place: tuple[str, int], *more: Any) -> socket.socket:
        tried.append(place)
        return connect(place, *more)

    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, connect(listener.getsockname()):
        monkeypatch.setattr(socket, "getaddrinfo", three)
        monkeypatch.setattr(socket, "create_connection", noted)
        port = listener.getsockname()[1]
        error = await failure(make(base_url=f"http://mail.test:{port}", call_timeout=LITTLE), message())
    assert type(error) is ConnectionFailedError
    assert 1 == len(tried)


@pytest.mark.slow
async def test_a_door_that_stays_shut_is_told_at_the_start(
    make: Make, sendgrid_server: SendGridServer, colour: Colour
) -> None:
    """Within the time of one call, as everything else."""
    sendgrid_server.scopes_fault = "drip"
    with pytest.raises(OperationTimeoutError):
        await make(call_timeout=LITTLE).ping()


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
