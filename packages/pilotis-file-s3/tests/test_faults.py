"""Servers that are silent, slow, strict about time or credentials, or that do not do what they say."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from botocore.client import BaseClient  # pyright: ignore[reportMissingTypeStubs]
from pilotis.errors import (
    AuthenticationError,
    ConnectionFailedError,
    OperationError,
    OperationTimeoutError,
    PermissionDeniedError,
    ThrottledError,
    UnsupportedError,
)
from pilotis.providers import run_blocking
from pilotis_testing.chaos import eventually
from pilotis_testing.colours import Colour, soon
from pilotis_testing.s3 import Keys, S3Space, Trouble

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
LARGE = bytes(range(256)) * (20 * 1024) + b"end"
"""Five MiB, and a little more: two parts."""

# Silence


def url_of(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What troubles wait for, until the test is over."""
    gate = threading.Event()
    yield gate
    gate.set()


async def test_a_server_that_says_nothing(store: Any) -> None:
    """Whoever listens, and never answers, is given up after `timeout`; the error says where that was, and how long."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(OperationTimeoutError, match=rf"at {url_of(silent)}\) .*open.* 0\.2 s \(timeout\)"),
    ):
        await store(endpoint_url=url_of(silent), timeout=0.2).open()


async def opened(files: Any) -> None:
    """Open a store, on however busy a machine."""
    while True:
        with suppress(OperationTimeoutError):
            return await files.open()


async def test_a_server_that_falls_silent(store: Any, s3: S3Space, gate: threading.Event) -> None:
    """Each verb ends after `timeout`; what became of a write is unknown then."""
    files = store(timeout=0.3)
    await opened(files)
    for name in ("GetObject", "HeadObject", "ListObjects", "DeleteObjects", "PutObject"):
        s3.proxy.trouble(name, *[Trouble(hold=gate)] * 2)
    for verb in (lambda: files.read("a"), lambda: files.exists("a"), lambda: anext(files.list())):
        with pytest.raises(OperationTimeoutError, match=rf"at {s3.proxy.url}\) .* 0\.3 s \(timeout\)"):
            await verb()
    for verb in (lambda: files.delete("a"), lambda: files.put("a", b"1")):
        with pytest.raises(OperationTimeoutError, match=rf"at {s3.proxy.url}\) .* 0\.3 s \(timeout\)") as raised:
            await verb()
        assert "unknown" == raised.value.outcome


async def test_a_server_that_stops_listening(store: Any, s3: S3Space, raw: Any, gate: threading.Event) -> None:
    """What there is no room for on the way is given up after `connect_timeout`, and leaves nothing."""
    files = store(connect_timeout=0.5, part_size=16 * MIB)
    await files.open()
    s3.proxy.trouble("PutObject", Trouble(deaf=gate))
    with pytest.raises(OperationTimeoutError, match=rf"at {s3.proxy.url}\) .* 0\.5 s \(connect_timeout\)"):
        await files.put("a", b"x" * 16 * MIB)
    gate.set()
    eventually(lambda: s3.proxy.is_idle)
    assert [] == raw.names


async def test_a_server_that_takes_no_connection(store: Any) -> None:
    """It is given up after `connect_timeout`; nothing was sent, so nothing is unknown."""
    with ExitStack() as opened:
        full = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        files = store(endpoint_url=url_of(full), connect_timeout=0.2)
        with pytest.raises(OperationTimeoutError, match=rf"{url_of(full)}.*0\.2 s \(connect_timeout\)") as raised:
            await files.open()
    assert raised.value.outcome is None


@pytest.mark.parametrize("colour", [Colour.ASYNC])
async def test_a_part_that_nobody_answers(store: Any, s3: S3Space, raw: Any, gate: threading.Event) -> None:
    """The put fails after `timeout`, and leaves nothing, though the part comes later."""
    s3.proxy.trouble("UploadPart", Trouble(hold=gate))
    with pytest.raises(OperationTimeoutError, match=r"write.* 2 s \(timeout\)"):
        await store(timeout=2).put("a.bin", iter([LARGE]))
    gate.set()
    eventually(lambda: s3.proxy.is_idle)
    assert ([], []) == (raw.names, raw.uploads)


@pytest.mark.parametrize("colour", [Colour.BLOCKING])
async def test_an_answer_that_stops(store: Any, s3: S3Space, gate: threading.Event) -> None:
    """A read goes on where it stopped; where that happens again and again, it says how long it has waited."""
    await store().put("a.bin", LARGE)
    files = store(timeout=0.5, attempts=4)
    await opened(files)
    s3.proxy.trouble("GetObject", Trouble(cut_answer=MIB, stall=gate))
    assert LARGE == await files.read("a.bin")
    s3.proxy.trouble("GetObject", *[Trouble(cut_answer=0, stall=gate)] * 4)
    with pytest.raises(OperationTimeoutError, match=rf"at {s3.proxy.url}\) .*read.* 0\.5 s \(timeout\)"):
        await files.read("a.bin")


@pytest.mark.parametrize("colour", [Colour.BLOCKING])
async def test_an_answer_that_drips(store: Any, s3: S3Space) -> None:
    """It comes whole, though it takes longer than `timeout`, which is about silence."""
    content = LARGE[: 40 * 1024]
    files = store(timeout=2)
    await files.put("a.bin", content)
    s3.proxy.trouble("GetObject", Trouble(drip=0.06))
    assert content == await files.read("a.bin")
    assert 1 == s3.proxy.count("GetObject")


@pytest.mark.parametrize("colour", [Colour.ASYNC])
@pytest.mark.parametrize("way", ["stops", "drips"])
async def test_a_read_that_is_cancelled(store: Any, s3: S3Space, gate: threading.Event, way: str) -> None:
    """Neither the loop nor the caller waits for the server; the connection is closed, and not read to its end."""
    files = store(timeout=20)
    await files.put("a.bin", LARGE)
    before = s3.proxy.connections
    s3.proxy.trouble("GetObject", Trouble(cut_answer=MIB, stall=gate) if way == "stops" else Trouble(drip=0.2))
    reading = asyncio.ensure_future(files.read("a.bin"))
    await soon(lambda: s3.proxy.count("GetObject") == 1)
    await asyncio.sleep(0.1)  # and until it waits for bytes
    loop = asyncio.get_running_loop()
    asked = loop.time()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert 10 > loop.time() - asked
    gate.set()
    await run_blocking(eventually, lambda: s3.proxy.connections < before)


# Clocks, credentials, digests


@pytest.mark.parametrize("ahead", [3600, -3600])
async def test_a_clock_that_is_off(store: Any, s3: S3Space, ahead: int) -> None:
    """The error says by how much, and what to do; also where S3 answers with a status alone."""
    files = store()
    await files.put("a", b"1")
    s3.proxy.clock_ahead = ahead
    side = "behind" if ahead > 0 else "ahead of"
    for verb in (lambda: files.exists("a"), lambda: files.put("a", b"2"), lambda: anext(files.list())):
        with pytest.raises(AuthenticationError, match=rf"clock of this machine is 3[56]\d\d s {side} .*NTP") as raised:
            await verb()
        assert ("file", "S3Files") == (raised.value.module, raised.value.provider)


async def test_who_is_refused_has_no_wrong_clock(store: Any, s3: S3Space) -> None:
    """A clock within what S3 allows explains nothing."""
    files = store()
    await files.open()
    s3.proxy.clock_ahead = 600
    s3.proxy.trouble("HeadObject", Trouble(403, "AccessDenied"))
    with pytest.raises(PermissionDeniedError):
        await files.exists("a")


@pytest.fixture
def role(monkeypatch: pytest.MonkeyPatch, s3: S3Space) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", s3.proxy.url)
    return "arn:aws:iam::123456789012:role/shop"


def expire(s3: S3Space) -> None:
    """Have the credentials of all roles expire, before their time."""
    for name, keys in [*s3.proxy.known.items()]:
        if keys.token is not None:
            s3.proxy.known[name] = keys._replace(are_expired=True)


async def test_a_role_that_expires_while_parts_are_sent(store: Any, s3: S3Space, raw: Any, role: str) -> None:
    """It is assumed again, once for all parts, and what was refused is sent again, whole."""
    files = store(role_arn=role)
    await files.open()
    assert 1 == s3.proxy.count("AssumeRole")

    def pieces() -> Iterator[bytes]:
        yield LARGE
        expire(s3)
        yield LARGE
        yield LARGE

    await files.put("a.bin", pieces())
    assert 2 == s3.proxy.count("AssumeRole")
    assert LARGE * 3 == await files.read("a.bin")
    assert [] == raw.uploads


async def test_a_role_that_expires_before_a_look(store: Any, s3: S3Space, role: str) -> None:
    """Though HEAD is answered with a status alone."""
    files = store(role_arn=role)
    await files.put("a", b"1")
    expire(s3)
    assert await files.exists("a")
    assert 2 == s3.proxy.count("AssumeRole")


async def test_a_role_that_stays_expired(store: Any, s3: S3Space, role: str) -> None:
    """It is asked for once more, and not again."""
    files = store(role_arn=role)
    await files.open()
    s3.proxy.trouble("PutObject", *[Trouble(400, "ExpiredToken")] * 3)
    with pytest.raises(AuthenticationError, match="ExpiredToken"):
        await files.put("a", b"1")
    assert (2, 2) == (s3.proxy.count("PutObject"), s3.proxy.count("AssumeRole"))


async def test_keys_that_expire_and_cannot_be_renewed(store: Any, s3: S3Space) -> None:
    """Those that stand in the settings are as they are: nothing is sent twice."""
    s3.proxy.known["ASIATEMPORARY"] = Keys("temporary", "the-token", are_expired=True)
    files = store(access_key_id="ASIATEMPORARY", secret_access_key="temporary", session_token="the-token")
    with pytest.raises(AuthenticationError, match="ExpiredToken"):
        await files.open()
    assert 1 == s3.proxy.count("ListObjects")


async def test_a_digest_that_s3_finds_to_be_wrong(files: Any, s3: S3Space, raw: Any) -> None:
    """BadDigest is an error of the way there: the same call may succeed. Nothing is left of it."""
    for name, content in (("PutObject", b"small"), ("UploadPart", LARGE)):
        s3.proxy.trouble(name, Trouble(400, "BadDigest"))
        with pytest.raises(ConnectionFailedError, match="BadDigest") as raised:
            await files.put("a.bin", content)
        assert raised.value.retryable
        assert ([], []) == (raw.names, raw.uploads)


# Conditions


def without_conditions(files: Any) -> None:
    """Have what is sent lose its conditions on the way, as servers lose them that do not know of them."""

    def strip(request: Any, **_: object) -> None:
        del request.headers["If-None-Match"]

    files.native(BaseClient).meta.events.register("before-sign.s3", strip)


async def test_a_server_that_passes_over_conditions(files: Any, raw: Any) -> None:
    """`if_absent` is refused there, before anything is sent; other files are stored."""
    await files.open()
    without_conditions(files)
    for _ in range(2):
        with pytest.raises(UnsupportedError, match="CREATE_ONLY") as raised:
            await files.put("a", b"1", if_absent=True)
        assert "If-None-Match" in raised.value.__notes__[0]
    await files.put("b", b"1")
    assert [".pilotis/if-absent", "b"] == raw.names


async def test_a_server_that_knows_no_conditions(files: Any, s3: S3Space) -> None:
    """Some say so: that is the same."""
    s3.proxy.trouble("PutObject", Trouble(501, "NotImplemented"))
    with pytest.raises(UnsupportedError, match="CREATE_ONLY"):
        await files.put("a", b"1", if_absent=True)


async def test_conditions_are_tried_out_once(store: Any, s3: S3Space, raw: Any) -> None:
    """By one request of a process, as a rule; what is tried out with is neither listed nor swept."""
    for expected in (2, 1):
        files = store()
        s3.proxy.seen.clear()
        await files.put(f"a{expected}", b"1", if_absent=True)
        await files.put(f"b{expected}", b"1", if_absent=True)
        assert expected + 2 == s3.proxy.count("PutObject")
    assert 0 == await files.sweep(older_than=0)
    assert ["a1", "a2", "b1", "b2"] == [info.key async for info in files.list()]
    assert ".pilotis/if-absent" in raw.names


async def test_a_race_for_what_is_tried_out(files: Any, s3: S3Space) -> None:
    """That somebody else is at it just now shows as well that conditions are kept."""
    s3.proxy.trouble("PutObject", Trouble(409, "ConditionalRequestConflict"))
    await files.put("a", b"1", if_absent=True)
    assert b"1" == await files.read("a")


# Deleting


@pytest.mark.parametrize("told", ["<Key>theirs</Key>", "", "<Key></Key>"], ids=["unknown", "missing", "empty"])
async def test_an_error_of_nobody_knows_which_key(files: Any, s3: S3Space, told: str) -> None:
    """It is told of each that it may be about, and hides no other error."""
    s3.proxy.protected.add("b")
    answer_more(files, f"<Error>{told}<Code>SlowDown</Code><Message>later</Message></Error>")
    with pytest.raises(ThrottledError, match="later") as raised:
        await files.delete("a", "b")
    assert ("file", True) == (raised.value.module, raised.value.retryable)
    first, second = raised.value.__notes__
    assert first == "'a' was not deleted"
    assert second.startswith("'b' was not deleted: ClientError: An error occurred (AccessDenied)")


async def test_an_error_without_a_code(files: Any, s3: S3Space) -> None:
    """It is an error all the same."""
    answer_more(files, "<Error><Key>a</Key></Error>")
    with pytest.raises(OperationError, match="told of 'a'"):
        await files.delete("a", "b")


def answer_more(files: Any, error: str) -> None:
    """Have one more error in what is told of deleting."""

    def add(response_dict: Any, **_: object) -> None:
        body = response_dict["body"]
        response_dict["body"] = body.replace(b"</DeleteResult>", error.encode() + b"</DeleteResult>")

    files.native(BaseClient).meta.events.register("before-parse.s3.DeleteObjects", add)


async def test_a_thousand_that_fail_do_not_keep_the_others(files: Any, s3: S3Space, raw: Any) -> None:
    """Every key is tried, whatever became of the request before."""
    await files.put("z", b"1")
    s3.proxy.trouble("DeleteObjects", Trouble(503, "SlowDown"))
    with pytest.raises(ThrottledError) as raised:
        await files.delete(*(f"many/{number}" for number in range(1000)), "z")
    assert 1000 == len(raised.value.__notes__)
    assert [] == raw.names
