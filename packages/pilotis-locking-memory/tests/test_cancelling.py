"""Blocks that end with their lease: the task inside is cancelled, and no other cancellation is taken for that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from pilotis.errors import InvalidInputError, LockLostError
from pilotis.modules.locking import Lease, Locking
from pilotis.providers import Context
from pilotis_locking_memory import MemoryLocking
from pilotis_testing import ManualClock
from pilotis_testing.colours import soon

TTL = 3.0


@pytest.fixture
def locking(clock: ManualClock) -> Iterator[Locking]:
    context = Context(clock=clock)
    locking = Locking(MemoryLocking(), context=context)
    yield locking
    locking.close()
    context.runtime.stop()


async def lose(locking: Locking, clock: ManualClock) -> None:
    """Take the lock away, and have its renewal find that out."""
    await soon(lambda: clock.waiting >= 1)
    await locking.abreak_lock("a")
    clock.advance(TTL / 2)


async def test_a_lost_lease_cancels_its_block(locking: Locking, clock: ManualClock) -> None:
    """What the block waits for is cancelled, leaving tells of the loss, and the task goes on as if nothing were."""
    ended: list[str] = []

    async def block() -> None:
        async with locking.hold("a", ttl=TTL, cancel_on_loss=True):
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")

    async def work() -> None:
        with pytest.raises(LockLostError, match="lost before it was released") as caught:
            await block()
        assert isinstance(caught.value.__context__, asyncio.CancelledError)
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        ended.append(f"{task.cancelling()} under way")

    task = asyncio.ensure_future(work())
    await lose(locking, clock)
    await task
    assert ["cancelled", "0 under way"] == ended


async def test_a_block_that_goes_on_all_the_same_is_told(locking: Locking, clock: ManualClock) -> None:
    """A body that catches the cancellation and succeeds ends with the loss, and is not cancelled again."""

    ended: list[str] = []

    async def block() -> None:
        async with locking.hold("a", ttl=TTL, cancel_on_loss=True):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
            ended.append("done")

    task = asyncio.ensure_future(block())
    await lose(locking, clock)
    with pytest.raises(LockLostError):
        await task
    assert ["done"] == ended


async def test_an_error_of_a_cancelled_block_goes_on(locking: Locking, clock: ManualClock) -> None:
    """With a note that the lock was lost."""

    async def block() -> None:
        async with locking.hold("a", ttl=TTL, cancel_on_loss=True):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise KeyError("mine") from None

    task = asyncio.ensure_future(block())
    await lose(locking, clock)
    with pytest.raises(KeyError) as caught:
        await task
    assert ["lost" in note for note in caught.value.__notes__] == [True]


@pytest.mark.parametrize("is_lost", [True, False])
async def test_a_cancellation_of_others_stays_one(locking: Locking, is_lost: bool) -> None:
    """A task that is cancelled from outside is cancelled, whether or not its lease is lost as well."""
    entered: list[Lease] = []

    async def block() -> None:
        async with locking.hold("a", ttl=TTL, cancel_on_loss=True) as lease:
            entered.append(lease)
            await asyncio.Event().wait()

    task = asyncio.ensure_future(block())
    await soon(lambda: len(entered) == 1)
    if is_lost:
        entered[0].lost.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await locking.ainspect("a") is None


async def test_a_loss_after_the_block_cancels_nothing(locking: Locking, clock: ManualClock) -> None:
    """Nor does a block in which nothing is lost, nor one that has not asked for it."""
    with pytest.raises(LockLostError):
        async with locking.hold("a", ttl=TTL, cancel_on_loss=True) as lease:
            lease.lost.set()
    await asyncio.sleep(0)
    async with locking.hold("a", ttl=TTL, cancel_on_loss=True) as lease:
        pass
    lease.lost.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    async def block() -> str:
        with pytest.raises(LockLostError):
            async with locking.hold("a", ttl=TTL) as lease:
                await lease.lost.wait()
        return "not cancelled"

    task = asyncio.ensure_future(block())
    await lose(locking, clock)
    assert "not cancelled" == await task


def test_a_plain_block_cannot_be_cancelled(locking: Locking) -> None:
    """It is refused before the lock is taken, with what to do instead."""
    with pytest.raises(InvalidInputError, match="cancel_on_loss: a plain block cannot be cancelled; use `async with`"):
        locking.hold("a", cancel_on_loss=True).__enter__()
    assert locking.inspect("a") is None
