"""What is particular to the memory provider: threads and loops at once, forks, interruptions, its memory."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pilotis.bridge import drive
from pilotis.errors import LockLostError, LockNotAcquiredError
from pilotis.modules.locking import Locking
from pilotis.providers import Context, LockRequest
from pilotis_locking_memory import MemoryLocking, plugin
from pilotis_locking_memory.table import FIRST_SWEEP
from pilotis_testing import ManualClock
from pilotis_testing.interrupts import interrupted
from pilotis_testing.locking_base import LONG

FORKS = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
"""Python 3.12 and newer warn of forks beside threads; what happens then is what these tests are about."""


class Guarded:
    """Counts who is inside of which key, and fails when there are two."""

    def __init__(self, locking: Locking) -> None:
        self._locking = locking
        self._inside: set[str] = set()
        self.turns = 0
        self.errors: list[BaseException] = []

    def turn(self, keys: list[str]) -> None:
        with self._locking.hold(*keys, wait=20):
            self._enter(keys)
            time.sleep(0)
            self._leave(keys)

    async def aturn(self, keys: list[str]) -> None:
        async with self._locking.hold(*keys, wait=20):
            self._enter(keys)
            await asyncio.sleep(0)
            self._leave(keys)

    def _enter(self, keys: list[str]) -> None:
        assert not self._inside.intersection(keys), "two holders of one key"
        self._inside.update(keys)

    def _leave(self, keys: list[str]) -> None:
        self._inside.difference_update(keys)
        self.turns += 1

    def on_thread(self, plan: list[list[str]]) -> None:
        try:
            for keys in plan:
                self.turn(keys)
        except BaseException as error:
            self.errors.append(error)

    def on_loop(self, plan: list[list[str]]) -> None:
        async def tasks() -> None:
            await asyncio.gather(*(self.aturn(keys) for keys in plan))

        try:
            asyncio.run(tasks())
        except BaseException as error:
            self.errors.append(error)


KEY_SETS = st.lists(st.sampled_from("abcde"), min_size=1, max_size=4)
PLANS = st.lists(st.lists(KEY_SETS, min_size=1, max_size=6), min_size=2, max_size=6)


@settings(max_examples=40, deadline=None)
@given(threads=PLANS, loops=PLANS)
def test_threads_and_loops_exclude_each_other(threads: list[list[list[str]]], loops: list[list[list[str]]]) -> None:
    """Whatever sets of keys threads and the tasks of loops take, no key has two holders, and all get through."""
    locking = Locking(MemoryLocking())
    guarded = Guarded(locking)
    workers = [threading.Thread(target=guarded.on_thread, args=(plan,)) for plan in threads]
    workers += [threading.Thread(target=guarded.on_loop, args=(plan,)) for plan in loops]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert guarded.errors == []
    assert guarded.turns == sum(map(len, threads)) + sum(map(len, loops))
    assert [None] * 5 == [locking.inspect(key) for key in "abcde"]
    locking.close()
    locking.context.runtime.stop()


def test_what_ran_out_while_waiting_is_not_revived(clock: ManualClock) -> None:
    """An owner that waits for more than it holds gets a new token for what ran out meanwhile."""
    provider = MemoryLocking()
    provider.context = Context(clock=clock)
    old = drive(provider.acquire(LockRequest(keys=("a",), owner="job", ttl=1)))
    other = drive(provider.acquire(LockRequest(keys=("b",), owner="other", ttl=9)))
    assert old is not None
    assert other is not None
    granted: list[object] = []
    request = LockRequest(keys=("a", "b"), owner="job", ttl=9, wait=60)
    waiter = threading.Thread(target=lambda: granted.append(drive(provider.acquire(request))))
    waiter.start()
    clock.wait_for_waiters(1)
    clock.advance(2)
    drive(provider.release(other))
    waiter.join(5)
    assert len(granted) == 1
    assert drive(provider.renew([old])) == [False]
    assert drive(provider.release(old)) is False


def test_a_sharer_may_ask_to_be_alone(clock: ManualClock) -> None:
    """The same owner gets the key alone once the other sharers have gone, before those who came later."""
    locking = Locking(MemoryLocking(), context=Context(clock=clock))
    locking.acquire("a", owner="job", shared=True)
    other = locking.acquire("a", shared=True)
    with pytest.raises(LockNotAcquiredError):
        locking.acquire("a", owner="job")
    other.release()
    locking.acquire("a", owner="job")
    with pytest.raises(LockNotAcquiredError):
        locking.acquire("a", shared=True)
    locking.close()


def test_leases_that_ran_out_take_no_memory(clock: ManualClock) -> None:
    """Keys that are locked once and never looked at again are forgotten."""
    provider = MemoryLocking()
    locking = Locking(provider, context=Context(clock=clock))
    for number in range(4 * FIRST_SWEEP):
        locking.acquire(f"once:{number}", ttl=1)
        clock.advance(0.01)
    assert len(provider.table.keys) <= FIRST_SWEEP + 1
    locking.close()


def test_released_locks_take_no_memory() -> None:
    """Nothing is kept of keys that are free again, nor of waits in vain."""
    provider = MemoryLocking()
    locking = Locking(provider)
    lease = locking.acquire("b")
    with pytest.raises(LockNotAcquiredError):
        locking.acquire(["a", "b", "c"], wait=0.01)
    lease.release()
    assert provider.table.keys == {}
    locking.close()


def test_interrupted_waits_leave_nothing() -> None:
    """Ctrl-C while waiting, many times over, leaves no lock and no place in a queue."""
    provider = MemoryLocking()
    locking = Locking(provider)
    lease = locking.acquire("b", ttl=600)
    for _ in range(20):
        with interrupted(0.005):
            locking.acquire(["a", "b"], wait=LONG)
    lease.release()
    assert provider.table.keys == {}
    locking.close()


@FORKS
def test_a_child_process_holds_nothing() -> None:
    """A forked child has none of its parent's leases, and locks of its own; the parent keeps what it holds."""
    locking = Locking(MemoryLocking())
    with locking.hold("a") as lease:
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            os._exit(_child(locking, lease.release))
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        lease.check()
        with pytest.raises(LockNotAcquiredError):
            locking.acquire("a")
    locking.close()


def _child(locking: Locking, release: object) -> int:
    """Run in the child; returns its exit status."""
    assert callable(release)
    try:
        with locking.hold("b", wait=1):
            free = locking.acquire("a").release()
        return 0 if release() is False and free else 1
    except BaseException:
        return 2


@FORKS
def test_leaving_a_block_in_a_child_process_raises() -> None:
    """A block that a child process inherited ends there with LockLostError: the child never held the lock."""
    locking = Locking(MemoryLocking())
    parent, child = os.getpid(), 0
    try:
        with locking.hold("a"):
            child = os.fork()
    except LockLostError:
        os._exit(0 if os.getpid() != parent else 1)
    if child == 0:
        os._exit(2)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    locking.close()


def test_discovery_finds_the_class() -> None:
    """The plugin's hook answers with the provider."""
    assert plugin.pilotis_provider() is MemoryLocking
