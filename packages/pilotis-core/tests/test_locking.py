"""The portable class of locking: what no provider can influence."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from pilotis.errors import (
    BlockingCallInEventLoopError,
    ClosedError,
    ConfigurationError,
    ConnectionFailedError,
    InvalidInputError,
    LockLostError,
    LockNotAcquiredError,
    ReentrantCallError,
    UnsupportedError,
)
from pilotis.modules.locking import Locking
from pilotis.providers import Context, Grant, Latch, LockingCapability, LockingProvider, LockRequest
from pilotis.scopes import held_locks
from pilotis.settings.model import LockingSettings
from pilotis_testing import Colour, ManualClock
from pilotis_testing.clock import until


class PlainLocking(LockingProvider):
    """Grants what is free at the moment, for as long as nobody releases it; its renewals can be made to fail."""

    capabilities = LockingCapability(0)

    def __init__(self) -> None:
        super().__init__()
        self.holders: dict[str, str] = {}
        self.requests: list[LockRequest] = []
        self.renewed: list[int] = []
        self.failing: Callable[[], object] | None = None
        self.hanging: Latch | None = None

    async def acquire(self, request: LockRequest) -> Grant | None:
        self.requests.append(request)
        if any(key in self.holders for key in request.keys):
            return None
        self.holders.update(dict.fromkeys(request.keys, request.owner))
        now = self.context.clock.monotonic()
        return Grant(keys=request.keys, owner=request.owner, token=len(self.requests), ttl=request.ttl, since=now)

    async def renew(self, grants: Sequence[Grant]) -> list[bool]:
        self.renewed.append(len(grants))
        if self.failing is not None:
            self.failing()
        if self.hanging is not None:
            await self.hanging.wait()
        return [all(self.holders.get(key) == grant.owner for key in grant.keys) for grant in grants]

    async def release(self, grant: Grant) -> bool:
        if self.failing is not None:
            self.failing()
        freed = [self.holders.pop(key, None) == grant.owner for key in grant.keys]
        return all(freed)


@pytest.fixture
def provider() -> PlainLocking:
    return PlainLocking()


@pytest.fixture
def locking(provider: PlainLocking, clock: ManualClock) -> Iterator[Locking]:
    context = Context(clock=clock)
    locking = Locking(provider, context=context)
    yield locking
    locking.close()
    context.runtime.stop()


def down() -> None:
    raise ConnectionResetError("the network is down")


# Deployment


class KeptLocking(PlainLocking):
    """Needs a table, which is not there at first."""

    has_table = False

    async def open(self) -> None:
        if not self.has_table:
            raise ConnectionResetError("there is no table")

    async def migrate(self) -> list[str]:
        made, self.has_table = not self.has_table, True
        return ["made the table"] if made else []


async def test_migrating_comes_before_opening(clock: ManualClock, colour: Colour) -> None:
    """What a provider needs in its backend is made without opening it, and once; most need nothing."""
    kept: Any = colour.voice(Locking(KeptLocking(), context=Context(clock=clock)))
    with pytest.raises(ConnectionFailedError, match="there is no table"):
        await kept.open()
    assert [["made the table"], []] == [await kept.migrate(), await kept.migrate()]
    await kept.open()
    await kept.close()
    with pytest.raises(ClosedError):
        await kept.migrate()
    plain: Any = colour.voice(Locking(PlainLocking()))
    assert [] == await plain.migrate()


# Arguments


UNFIT: list[tuple[Callable[[Any], object], str]] = [
    (lambda locking: locking.hold(), "keys: expected at least one key, got none"),
    (lambda locking: locking.acquire([]), "keys: expected at least one key, got none"),
    (lambda locking: locking.acquire(7), "keys: expected a key or several, got int"),
    (lambda locking: locking.acquire(""), "key: expected text of 1 to 1024 characters, got 0"),
    (lambda locking: locking.acquire(["a", 7]), r"keys\[1\]: expected text, got int"),
    (lambda locking: locking.acquire("a\n"), "key: expected text without control characters"),
    (lambda locking: locking.hold(["a"]), r"keys\[0\]: expected text, got list"),
    (lambda locking: locking.hold("a", ttl=0), "ttl: expected from 0.01 to"),
    (lambda locking: locking.hold("a", ttl=-1), "ttl: expected from 0.01 to"),
    (lambda locking: locking.acquire("a", ttl=float("nan")), "ttl: expected a finite number"),
    (lambda locking: locking.acquire("a", wait=-1), "wait: expected from 0 to"),
    (lambda locking: locking.execute("a", int, wait="soon"), "wait: expected seconds as a number"),
    (lambda locking: locking.acquire("a", owner=7), "owner: expected text, got int"),
    (lambda locking: locking.hold("a", owner=""), "owner: expected text of 1 to 1024 characters"),
    (lambda locking: locking.hold("a", shared="no"), "shared: expected True or False, got str"),
    (lambda locking: locking.execute("a", None), "job: expected a function, plain or async, got NoneType"),
    (lambda locking: locking.hold("a", cancel_on_loss=1), "cancel_on_loss: expected True or False, got int"),
    (lambda locking: locking.lead("", on_elected=print), "key: expected text of 1 to 1024 characters, got 0"),
    (lambda locking: locking.lead("a", on_elected=None), "on_elected: expected a function, plain or async"),
    (lambda locking: locking.lead("a", on_elected=print, on_revoked=7), "on_revoked: expected a function"),
    (lambda locking: locking.lead("a", on_elected=print, ttl=0), "ttl: expected from 0.01 to"),
    (lambda locking: locking.locked("a")("b"), "locked: expected a function, plain or async, got str"),
]


@pytest.mark.parametrize(("call", "message"), UNFIT)
def test_unfit_arguments_are_refused(
    locking: Locking, provider: PlainLocking, call: Callable[[Any], object], message: str
) -> None:
    """An error names the argument and what was expected, before the provider is asked."""
    with pytest.raises(InvalidInputError, match=message):
        call(locking)
    assert provider.requests == []


class AbleLocking(PlainLocking):
    """Declares what the arguments of the tests need."""

    capabilities = (
        LockingCapability.SEMAPHORE | LockingCapability.TRANSACTION | LockingCapability.LIST | LockingCapability.BREAK
    )


UNFIT_FOR_THE_ABLE: list[tuple[Callable[[Any], object], str]] = [
    (lambda locking: locking.semaphore("a", permits=0), "permits: expected a whole number from 1 to 2147483647, got 0"),
    (lambda locking: locking.semaphore("a", permits=True), "permits: expected a whole number .* got True"),
    (lambda locking: locking.semaphore("a", permits=2.0), "permits: expected a whole number .* got 2.0"),
    (lambda locking: locking.semaphore(7, permits=2), "key: expected text, got int"),
    (lambda locking: locking.hold("a", permits="5"), "permits: expected a whole number .* got '5'"),
    (lambda locking: locking.acquire("a", connection=object(), ttl=5), "ttl: a lock inside your transaction"),
    (lambda locking: locking.held(7), "prefix: expected text, got int"),
    (lambda locking: locking.held("a\n"), "prefix: expected text without control characters"),
    (lambda locking: locking.held(limit=0), "limit: expected a whole number from 1 to 100000, got 0"),
    (lambda locking: locking.break_lock(""), "key: expected text of 1 to 1024 characters, got 0"),
]


@pytest.mark.parametrize(("call", "message"), UNFIT_FOR_THE_ABLE)
def test_unfit_arguments_of_rarer_verbs_are_refused(call: Callable[[Any], object], message: str) -> None:
    """As everywhere, before the provider is asked."""
    provider = AbleLocking()
    locking = Locking(provider)
    with pytest.raises(InvalidInputError, match=message):
        call(locking)
    assert provider.requests == []
    locking.close()


def test_a_lock_of_a_transaction_is_not_renewed(clock: ManualClock) -> None:
    """It lasts as long as the transaction: nothing runs in the background, and no time ends it."""
    provider, connection = AbleLocking(), object()
    locking = Locking(provider, context=Context(clock=clock))
    with locking.hold("a", connection=connection) as lease:
        clock.advance(30 * 365 * 86_400)
        lease.check()
    locking.acquire("b", connection=connection).release()
    assert [connection] * 2 == [request.connection for request in provider.requests]
    assert not locking.context.runtime.started
    locking.close()


def test_an_extended_lease_keeps_what_its_provider_gave_it(locking: Locking, provider: PlainLocking) -> None:
    """The grant that is renewed then is the one that was given, but for its times."""
    renewed: list[Grant] = []
    handle, grant = object(), provider.acquire

    async def acquire(request: LockRequest) -> Grant | None:
        granted = await grant(request)
        return None if granted is None else replace(granted, handle=handle, shared=True)

    async def renew(grants: Sequence[Grant]) -> list[bool]:
        renewed.extend(grants)
        return [True]

    provider.acquire, provider.renew = acquire, renew
    lease = locking.acquire("a", ttl=3)
    lease.extend(5)
    assert [replace(lease.grant, ttl=5.0)] == renewed
    assert renewed[0].handle is handle


def test_what_is_no_provider_is_refused() -> None:
    """Such as a URL, which belongs into the settings of an app."""
    for provider in ("redis://localhost", None, PlainLocking):
        with pytest.raises(ConfigurationError, match="locking: expected a provider object, got"):
            Locking(provider)  # pyright: ignore[reportArgumentType]


def test_defaults(provider: PlainLocking, clock: ManualClock) -> None:
    """The ttl is 30 s; hold waits 10 s, execute 5 s, acquire not at all; owners are fresh each time."""
    locking = Locking(provider, context=Context(clock=clock))
    locking.acquire("a")
    with locking.hold("b"):
        pass
    locking.execute("c", int)
    assert [(30, 0), (30, 10), (30, 5)] == [(one.ttl, one.wait) for one in provider.requests]
    assert 3 == len({one.owner for one in provider.requests})
    locking.close()
    locking.context.runtime.stop()


def test_defaults_come_from_the_settings(provider: PlainLocking) -> None:
    """Settings give the ttl and the waits; timedeltas will do in a call."""
    locking = Locking(provider, settings=LockingSettings(ttl=3, wait=2, execute_wait=1))
    locking.execute("a", int)
    with locking.hold("a", ttl=timedelta(minutes=1)):
        pass
    assert [(3, 1), (60, 2)] == [(one.ttl, one.wait) for one in provider.requests]
    locking.close()
    locking.context.runtime.stop()


def test_undeclared_capabilities_are_refused(locking: Locking, provider: PlainLocking) -> None:
    """Verbs whose capability the provider lacks name it, and the provider."""
    for call, name in (
        (lambda: locking.release("a", owner="job"), "OWNERS"),
        (lambda: locking.release_all("job"), "OWNERS"),
        (lambda: locking.inspect("a"), "INSPECT"),
        (lambda: locking.hold("a", shared=True), "SHARED"),
        (lambda: locking.hold("a", permits=2), "SEMAPHORE"),
        (lambda: locking.semaphore("a", permits=2), "SEMAPHORE"),
        (lambda: locking.acquire("a", connection=object()), "TRANSACTION"),
        (locking.held, "LIST"),
        (lambda: locking.break_lock("a"), "BREAK"),
    ):
        with pytest.raises(UnsupportedError, match=f"'PlainLocking' does not support {name}"):
            call()
    assert provider.requests == []


def test_a_refusal_says_where_it_comes_from(locking: Locking) -> None:
    """The error names keys, wait, module and provider."""
    locking.acquire("a")
    with pytest.raises(
        LockNotAcquiredError, match=r"a, b: not locked, one of its keys is held .* still after 2 s"
    ) as caught:
        locking.acquire(["b", "a"], wait=2)
    assert ("locking", "PlainLocking", "acquire") == (
        caught.value.module,
        caught.value.provider,
        caught.value.operation,
    )


# Blocks


async def test_held_locks_are_known_inside(locking: Locking, colour: Colour) -> None:
    """The keys of all blocks around it are known to running code, and no others."""
    voiced: Any = colour.voice(locking)
    async with voiced.hold("a", "b"):
        async with voiced.hold("c"):
            assert held_locks.get() == {"a", "b", "c"}
        assert held_locks.get() == {"a", "b"}
    assert held_locks.get() == frozenset()


async def test_a_nested_hold_is_told(locking: Locking, colour: Colour) -> None:
    """Holding a key inside a block that holds it raises at once, however the inner block came to run."""
    voiced: Any = colour.voice(locking)

    async def again() -> None:
        async with voiced.hold("b", "a"):
            raise AssertionError("not reached")

    async with voiced.hold("a"):
        with pytest.raises(ReentrantCallError, match="hold of a inside a block that holds it"):
            await again()
        with pytest.raises(ReentrantCallError):
            await voiced.execute("a", int)
        with pytest.raises(ReentrantCallError):
            await voiced.execute("c", locking.locked("a")(lambda: None))
    async with voiced.hold("a"):
        pass


async def test_another_task_is_not_nested(locking: Locking) -> None:
    """A task that was begun inside a block may ask for its key: it is refused as anybody else would be."""

    async def other() -> None:
        with pytest.raises(LockNotAcquiredError):
            async with locking.hold("a", wait=0):
                raise AssertionError("not reached")

    async with locking.hold("a"):
        await asyncio.ensure_future(other())


def test_one_hold_is_for_one_block_at_a_time(locking: Locking) -> None:
    """A hold may be entered again after it was left, and not before."""
    hold = locking.hold("a")
    for _ in range(2):
        with hold, pytest.raises(ReentrantCallError, match="entered already"), hold:
            raise AssertionError("not reached")


async def test_a_blocking_block_under_a_loop_is_refused(locking: Locking) -> None:
    """`with` on a thread whose loop runs names `async with`."""
    with pytest.raises(BlockingCallInEventLoopError, match="async with"), locking.hold("a"):
        raise AssertionError("not reached")


async def test_a_notebook_may_use_blocking_blocks(provider: PlainLocking) -> None:
    """With blocking_in_loop = "thread", `with` works under a loop, and the block knows its locks."""
    locking = Locking(provider, context=Context(blocking_in_loop="thread"))
    with locking.hold("a") as lease:
        assert held_locks.get() == {"a"}
        lease.extend(5)
    assert held_locks.get() == frozenset()
    assert provider.holders == {}
    await locking.aclose()
    locking.context.runtime.stop()


def test_a_failing_release_is_told(locking: Locking, provider: PlainLocking) -> None:
    """A backend that cannot be told of the release raises at the end of the block, or notes it on the block's error."""
    with pytest.raises(ConnectionFailedError, match="the network is down"), locking.hold("a"):
        provider.failing = down
    provider.failing = None

    def fail() -> None:
        with locking.hold("b"):
            provider.failing = down
            raise KeyError("mine")

    with pytest.raises(KeyError) as caught:
        fail()
    assert ["the network is down" in note for note in caught.value.__notes__] == [True]


def test_a_failed_release_may_be_tried_again(locking: Locking, provider: PlainLocking) -> None:
    """A lease is still held when its release failed."""
    lease = locking.acquire("a")
    provider.failing = down
    with pytest.raises(ConnectionFailedError):
        lease.release()
    provider.failing = None
    assert lease.held
    assert lease.release() is True


# Decorated functions


def test_a_plain_function_is_locked(locking: Locking, provider: PlainLocking) -> None:
    """The keys are made of the arguments, and held while the function runs."""

    @locking.locked("order:{order_id}", "user:{user}", ttl=5, wait=1)
    def ship(order_id: int, user: str = "ada") -> list[str]:
        """Ship it."""
        return sorted(provider.holders)

    assert ship(7) == ["order:7", "user:ada"]
    assert provider.holders == {}
    assert (ship.__name__, ship.__doc__) == ("ship", "Ship it.")
    assert (provider.requests[0].ttl, provider.requests[0].wait) == (5, 1)


async def test_an_async_function_is_locked(locking: Locking, provider: PlainLocking) -> None:
    """It stays async, and holds the keys until it has ended."""

    @locking.locked("order:{order_id}")
    async def ship(order_id: int) -> list[str]:
        await asyncio.sleep(0)
        return sorted(provider.holders)

    assert await ship(order_id=7) == ["order:7"]
    assert provider.holders == {}


def test_unfit_templates_are_refused_when_decorating(locking: Locking) -> None:
    """A field that the function does not have, no key at all, and a generator are found before any call."""

    def ship(order_id: int) -> None: ...

    def stream(order_id: int) -> Iterator[int]:
        yield order_id

    with pytest.raises(ConfigurationError, match=r"unknown field \{order\}"):
        locking.locked("order:{order}")(ship)
    with pytest.raises(InvalidInputError, match="at least one key"):
        locking.locked()(ship)
    with pytest.raises(ConfigurationError, match="generator"):
        locking.locked("order:{order_id}")(stream)


# Renewal


def test_one_call_renews_all(locking: Locking, provider: PlainLocking, clock: ManualClock) -> None:
    """Leases taken at different times come together: after a while, one call an interval renews them all."""
    holds = [locking.hold(f"key:{number}", ttl=3) for number in range(500)]
    for hold in holds:
        hold.__enter__()
        clock.advance(0.001)
    for _ in range(6):
        calls = len(provider.renewed)
        clock.wait_for_waiters(1)
        clock.advance(1)
        until(lambda before=calls: len(provider.renewed) > before)
    assert provider.renewed[-3:] == [500, 500, 500]
    for hold in reversed(holds):
        hold.__exit__(None, None, None)
    assert provider.holders == {}


def test_no_thread_without_a_hold(locking: Locking) -> None:
    """Leases that are not renewed need no background loop."""
    locking.acquire("a").release()
    assert not locking.context.runtime.started


def test_a_failing_renewal_is_tried_again(
    locking: Locking, provider: PlainLocking, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One that fails is logged and repeated soon, and a lease that is renewed in time is not lost."""
    with caplog.at_level(logging.WARNING, "pilotis.locking"), locking.hold("a", ttl=3) as lease:
        provider.failing = down
        clock.wait_for_waiters(1)
        clock.advance(1)
        until(lambda: len(caplog.records) == 1)
        provider.failing = None
        clock.wait_for_waiters(1)
        before = lease.deadline
        clock.advance(0.4)
        until(lambda: lease.deadline > before)
        assert not lease.lost
    assert "the network is down" in caplog.text


def test_a_hanging_renewal_does_not_hide_the_loss(locking: Locking, provider: PlainLocking, clock: ManualClock) -> None:
    """While a renewal hangs, the deadline passes as it would: the signal comes in time, and stays."""
    provider.hanging = hanging = Latch()
    signalled = threading.Event()

    def block() -> None:
        with locking.hold("a", ttl=3) as lease:
            lease.lost.on_set(signalled.set)
            clock.wait_for_waiters(1)
            clock.advance(1)
            until(lambda: provider.renewed == [1])
            clock.wait_for_waiters(1)
            clock.advance(1.95)
            assert signalled.wait(5)
            hanging.set()
            assert lease.lost

    with pytest.raises(LockLostError, match="lost before it was released"):
        block()


def test_a_lease_that_the_backend_dropped_is_lost_at_once(
    locking: Locking, provider: PlainLocking, clock: ManualClock
) -> None:
    """The first renewal that is refused tells the holder."""

    def block() -> None:
        with locking.hold("a", ttl=3) as lease:
            provider.holders.clear()
            clock.wait_for_waiters(1)
            clock.advance(1)
            until(lease.lost.is_set)
            assert not lease.held

    with pytest.raises(LockLostError):
        block()


def test_closing_ends_renewals(provider: PlainLocking, clock: ManualClock) -> None:
    """A block that still runs when its module is closed has lost its lock; verbs raise ClosedError from then on."""
    locking = Locking(provider, context=Context(clock=clock))

    def block() -> None:
        with locking.hold("a") as lease:
            locking.close()
            assert lease.lost
            with pytest.raises(LockLostError):
                lease.extend(5)

    with pytest.raises(LockLostError) as caught:
        block()
    assert isinstance(caught.value.__cause__, ClosedError)
    with pytest.raises(ClosedError):
        locking.acquire("b")
    assert clock.waiting == 0
    locking.context.runtime.stop()


def test_a_module_that_is_opened_again_renews_again(locking: Locking) -> None:
    """As it is where the opening of an app failed half-way and is tried again."""
    locking.open()
    locking.close()
    locking.renew()
    with locking.hold("a") as lease:
        lease.check()


def test_a_lock_granted_while_closing_is_not_renewed(
    locking: Locking, provider: PlainLocking, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that is entered while its module closes has lost its lock from the beginning, and nothing is started."""
    grant = provider.acquire

    async def closing(request: LockRequest) -> Grant | None:
        await locking.aclose()
        return await grant(request)

    monkeypatch.setattr(provider, "acquire", closing)
    with pytest.raises(LockLostError), locking.hold("a") as lease:
        assert lease.lost
    assert not locking.context.runtime.started


def test_telemetry_sees_every_verb(provider: PlainLocking) -> None:
    """Taking, holding and executing are told under their names."""
    verbs: list[str] = []

    class Told:
        def operation(self, module: str, verb: str, provider: str) -> AbstractContextManager[None]:
            verbs.append(f"{module}.{verb} {provider}")
            return nullcontext()

    locking = Locking(provider, context=Context(telemetry=Told()))
    locking.acquire("a").release()
    with locking.hold("a"):
        pass
    locking.execute("a", int)
    locking.close()
    locking.context.runtime.stop()
    assert verbs == [f"locking.{verb} PlainLocking" for verb in ("acquire", "hold", "execute")]


def test_a_grant_that_comes_too_late_is_none(locking: Locking, provider: PlainLocking, clock: ManualClock) -> None:
    """A grant whose ttl was over when it arrived is given back, and refused."""
    grant = Grant(keys=("a",), owner="job", token=1, ttl=1, since=clock.monotonic() - 2)

    async def late(request: LockRequest) -> Grant:
        provider.holders["a"] = "job"
        return grant

    provider.acquire = late
    with pytest.raises(LockNotAcquiredError, match="over before it arrived"):
        locking.acquire("a", ttl=1)
    assert provider.holders == {}


def test_a_lease_tells_about_itself(locking: Locking) -> None:
    """Its repr has keys, token and state."""
    lease = locking.acquire(["b", "a"])
    assert repr(lease) == "<Lease of a, b, token 1, held>"
    lease.release()
    assert repr(lease) == "<Lease of a, b, token 1, released>"
    with pytest.raises(LockLostError, match="released before"):
        lease.check()
