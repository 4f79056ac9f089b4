"""Leaders, where what they call goes wrong or calls back."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator

import pytest
from pilotis.bridge import drive
from pilotis.errors import BlockingCallInEventLoopError
from pilotis.modules.locking import Leadership, Locking
from pilotis.providers import Context, Grant, LockRequest
from pilotis_locking_memory import MemoryLocking
from pilotis_testing import ManualClock
from pilotis_testing.clock import until
from pilotis_testing.colours import soon


@pytest.fixture
def provider() -> MemoryLocking:
    return MemoryLocking()


@pytest.fixture
def locking(provider: MemoryLocking, clock: ManualClock) -> Iterator[Locking]:
    context = Context(clock=clock)
    locking = Locking(provider, context=context)
    yield locking
    locking.close()
    context.runtime.stop()


@pytest.mark.parametrize("error", [KeyError("mine"), asyncio.CancelledError("mine"), SystemExit("mine")], ids=repr)
def test_a_leader_that_cannot_begin_gives_its_office_back(
    locking: Locking, clock: ManualClock, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """The error is logged, others get their turn, and it stands again after a second."""
    tries: list[int] = []

    async def begin(lease: object) -> None:
        tries.append(len(tries))
        if len(tries) == 1:
            raise error

    def leads_after_a_while() -> bool:
        clock.advance(0.1)
        return leader.leading

    with locking.lead("a", on_elected=begin, on_revoked=lambda: tries.append(-1), ttl=86_400) as leader:
        until(lambda: locking.inspect("a") is None and len(tries) == 1)
        assert not leader.leading
        until(leads_after_a_while)
        assert clock.monotonic() >= 1
        until(lambda: len(tries) == 2)
    assert [0, 1, -1] == tries
    assert "on_elected of the leadership of a failed" in caplog.text


@pytest.mark.parametrize("error", [KeyError("mine"), asyncio.CancelledError("mine"), SystemExit("mine")], ids=repr)
def test_an_error_of_the_revoked_is_logged(
    locking: Locking, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """And the office is given back all the same."""

    def end() -> None:
        raise error

    with locking.lead("a", on_elected=print, on_revoked=end) as leader:
        until(lambda: leader.leading)
    assert "on_revoked of the leadership of a failed" in caplog.text
    assert locking.inspect("a") is None


def test_an_election_that_fails_is_tried_again(
    locking: Locking,
    provider: MemoryLocking,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """When the backend is down, after a second."""
    acquire = provider.acquire

    async def down(request: LockRequest) -> Grant | None:
        raise ConnectionResetError("the network is down")

    monkeypatch.setattr(provider, "acquire", down)
    with caplog.at_level(logging.WARNING, "pilotis.locking"), locking.lead("a", on_elected=print) as leader:
        until(lambda: "the network is down" in caplog.text)
        clock.wait_for_waiters(1)
        monkeypatch.setattr(provider, "acquire", acquire)
        clock.advance(1)
        until(lambda: leader.leading)


def test_closing_waits_for_the_revoked_only_so_long(
    provider: MemoryLocking, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader whose work does not end does not keep the module open; its lock is kept from others until its ttl."""
    monkeypatch.setattr("pilotis.modules.locking.portable.STOP_SECONDS", 0.05)
    locking = Locking(provider, context=Context(clock=clock))
    ended = threading.Event()
    leader = locking.lead("a", on_elected=print, on_revoked=ended.wait)
    until(lambda: leader.leading)
    locking.close()
    assert not leader.leading
    assert drive(provider.inspect("a")) is not None
    ended.set()
    locking.context.runtime.stop()


async def test_functions_run_on_the_loop_of_the_app(locking: Locking) -> None:
    """Async ones on the loop that entered the app, plain ones on threads, in order."""
    locking.context.runtime.home = asyncio.get_running_loop()
    threads: list[int] = []

    async def begin(lease: object) -> None:
        await asyncio.sleep(0)
        threads.append(threading.get_ident())

    async with locking.lead("a", on_elected=begin, on_revoked=lambda: threads.append(threading.get_ident())):
        await soon(lambda: len(threads) == 1)
    assert threading.get_ident() == threads[0]
    assert threads[1] != threads[0]
    locking.context.runtime.home = None


def test_a_leader_may_resign_from_inside(locking: Locking) -> None:
    """A function that stops its own leadership does not wait for itself."""
    told: list[str] = []
    found = threading.Event()
    leaders: list[Leadership] = []

    def begin(lease: object) -> None:
        found.wait(10)
        leaders[0].stop()
        told.append("elected")

    leaders.append(locking.lead("a", on_elected=begin, on_revoked=lambda: told.append("revoked")))
    found.set()
    until(lambda: told == ["elected", "revoked"])
    leaders[0].stop()
    assert locking.inspect("a") is None


async def test_a_blocking_stop_under_a_loop_is_refused(locking: Locking) -> None:
    """As any blocking verb is."""
    leader = locking.lead("a", on_elected=print)
    with pytest.raises(BlockingCallInEventLoopError, match="astop"):
        leader.stop()
    await leader.astop()


def test_of_many_candidates_each_has_its_turn(locking: Locking) -> None:
    """Ten stand at once, on threads that come and go: never do two lead, and each does once."""
    inside: list[int] = []
    most: list[int] = []

    def stand(number: int) -> None:
        done = threading.Event()

        def begin(lease: object) -> None:
            inside.append(number)
            most.append(len(inside))
            done.set()

        with locking.lead("a", on_elected=begin, on_revoked=lambda: inside.remove(number)):
            assert done.wait(30)

    threads = [threading.Thread(target=stand, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [1] * 10 == most
    assert locking.inspect("a") is None
