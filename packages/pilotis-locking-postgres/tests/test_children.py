"""What a forked child has of its parent's locks: nothing; and what it does to them: nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pytest
from pilotis import Pilotis
from pilotis.bridge import run_blocking
from pilotis.errors import LockNotAcquiredError, PilotisError
from pilotis_testing.clock import until
from pilotis_testing.postgres import tell

MakeApp = Callable[..., Pilotis]

pytestmark = pytest.mark.slow

PATIENCE = 30.0
LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
QUEUED = "SELECT count(*) FROM pilotis_locks_queue WHERE NOT reserved"


@pytest.fixture(params=["transaction", "session", "table"])
def app(request: pytest.FixtureRequest, locks_url: str, make_app: MakeApp) -> Pilotis:
    """An app in each mode."""
    return make_app(locks_url, mode=request.param)


def forked(work: Callable[[], bool]) -> int:
    """Do some work in a forked child, and return the number of its process."""
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return pid


def is_well(pid: int) -> bool:
    """Wait for the end of a child, and tell whether its work said that all was well."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def is_refused(app: Pilotis, key: str) -> bool:
    try:
        app.locking.acquire(key)
    except LockNotAcquiredError:
        return True
    return False


def test_a_child_holds_nothing_and_ends_nothing(app: Pilotis) -> None:
    """It cannot have what its parent holds, nor let it go; it has other locks, and closes what is its own."""
    lease = app.locking.acquire("order:1", ttl=PATIENCE * 2)

    def work() -> bool:
        found = bool(lease.lost), lease.release(), is_refused(app, "order:1"), app.locking.acquire("order:2").release()
        app.close()
        return found == (True, False, True, True)

    assert is_well(forked(work))
    assert is_refused(app, "order:1")
    assert lease.release() is True
    assert app.locking.acquire(["order:1", "order:2"]).release() is True


def test_a_child_of_a_block_leaves_it_alone(app: Pilotis) -> None:
    """A hold that is renewed goes on in the parent, and leaving its copy in the child raises and frees nothing."""

    def work() -> bool:
        try:
            block.__exit__(None, None, None)
        except PilotisError:
            return True
        return False

    block = app.locking.hold("order:1", ttl=PATIENCE * 2)
    with block as lease:
        assert is_well(forked(work))
        assert is_refused(app, "order:1")
        assert not lease.lost


def test_a_child_under_a_loop_has_connections_of_its_own(app: Pilotis) -> None:
    """Locks of its parent's tasks stay, and the child's own loops work."""

    async def hold() -> bool:
        async with app.locking.hold("order:2") as mine:
            return mine.held and await run_blocking(is_refused, app, "order:1")

    async def scenario() -> None:
        async with app.locking.hold("order:1", ttl=PATIENCE * 2) as lease:
            pid = forked(lambda: asyncio.run(hold()))
            assert await run_blocking(is_well, pid)
            assert not lease.lost

    asyncio.run(scenario())


def test_a_waiting_child_is_woken_by_its_parent(app: Pilotis, locks_url: str) -> None:
    """As any other process is."""
    lease = app.locking.acquire("order:1", ttl=PATIENCE * 2)
    pid = forked(lambda: app.locking.acquire("order:1", wait=PATIENCE).release())
    until(lambda: tell(locks_url, f"SELECT ({LOCKS} AND NOT granted) + ({QUEUED})") == [(1,)], PATIENCE)
    assert lease.release() is True
    assert is_well(pid)
