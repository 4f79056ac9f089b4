"""Locking: mutual exclusion by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, ParamSpec, TypeVar, final

from pilotis.bridge import blocking, gather
from pilotis.context import Context
from pilotis.errors import ConfigurationError, LockNotAcquiredError
from pilotis.ids import new_id
from pilotis.keys import KeyTemplate, check_flag, check_text
from pilotis.modules.base import Portable, diverted, operation
from pilotis.modules.locking.hold import Hold
from pilotis.modules.locking.keeper import STOP_SECONDS, Keeper
from pilotis.modules.locking.leadership import LONGEST_CAMPAIGN, Leadership
from pilotis.modules.locking.lease import Lease
from pilotis.modules.locking.provider import Grant, LockingCapability, LockingProvider, LockRequest, LockState
from pilotis.modules.locking.requests import (
    MOST_LISTED,
    MOST_PERMITS,
    Duration,
    Keys,
    check_keys,
    check_whole,
    lock_request,
    refusal,
)
from pilotis.modules.locking.semaphore import Semaphore
from pilotis.runtime import check_function, is_async
from pilotis.settings.model import LockingSettings

P = ParamSpec("P")
R = TypeVar("R")


@final
class Locking(Portable[LockingProvider]):
    """Locks by name: one holder at a time, in every thread, task and (where the provider is shared) process.

    Keys are text of 1 to 1024 characters. Several keys are taken all or none; a key that is named twice counts once.
    `ttl` is how long a lease lasts unless it is renewed, in seconds of at least 0.01; `wait` is how long to wait for
    others, in seconds, zero for not at all. An owner is text; where none is named, a fresh one is made up. With
    `shared`, all who ask for it hold the key together, and exclude those who do not. Unfit arguments raise
    `InvalidInputError`.
    """

    module: ClassVar[str] = "locking"

    def __init__(
        self, provider: LockingProvider, *, settings: LockingSettings | None = None, context: Context | None = None
    ) -> None:
        super().__init__(provider, context=context)
        self.settings = settings or LockingSettings()
        self._keeper = Keeper(self, self._provider)
        self._leaderships: set[Leadership] = set()

    @diverted
    def hold(
        self,
        *keys: str,
        ttl: Duration | None = None,
        wait: Duration | None = None,
        owner: str | None = None,
        shared: bool = False,
        permits: int | None = None,
        connection: object | None = None,
        cancel_on_loss: bool = False,
    ) -> Hold:
        """Hold the keys around a block, `with` or `async with`, and renew the lease until the block ends.

        Entering waits up to `wait` (from the settings, 10 s), first come, first served, and raises
        `LockNotAcquiredError` when that is over. A block inside which one of the keys is held already raises
        `ReentrantCallError`. Leaving raises `LockLostError` if the lease was lost meanwhile, even though the block
        succeeded; if the block raised, its error goes on with a note. With `cancel_on_loss`, an `async with` block is
        cancelled as soon as the lease is lost, and leaving raises `LockLostError`; a plain block refuses it.

        `permits` is what `semaphore` gives. With `connection`, the lock is taken inside your own transaction on it, and
        lasts until that ends, whatever the block does.
        """
        request = self._request(
            keys,
            self.settings.wait if wait is None else wait,
            owner=owner,
            ttl=ttl,
            shared=shared,
            permits=permits,
            connection=connection,
        )
        cancels = check_flag(cancel_on_loss, "cancel_on_loss")
        return Hold(self._keeper, request, self._hold, cancel_on_loss=cancels)

    @operation
    async def aacquire(
        self,
        keys: Keys,
        *,
        owner: str | None = None,
        ttl: Duration | None = None,
        wait: Duration = 0,
        shared: bool = False,
        permits: int | None = None,
        connection: object | None = None,
    ) -> Lease:
        """Take the keys, one or several, and return the lease, which is not renewed.

        It ends after `ttl`, unless it is extended, or released by the lease or by its owner's name. The same owner
        may acquire again: the ttl begins anew, nothing is counted, and one release frees. Raises
        `LockNotAcquiredError` when somebody else holds a key and still does after `wait`. `permits` and `connection`
        are as with `hold`.
        """
        return await self._take(
            self._request(keys, wait, owner=owner, ttl=ttl, shared=shared, permits=permits, connection=connection)
        )

    acquire = blocking(aacquire)

    @operation
    async def arelease(self, keys: Keys, *, owner: str) -> bool:
        """Free the keys that the owner holds, one or several, and tell whether it held all of them.

        What others hold is not touched. Leases on these keys are lost.
        """
        self.require(LockingCapability.OWNERS)
        checked = check_keys(keys)
        owner = check_text(owner, "owner")
        with self.calling("release"):
            return await self._provider.release_owner(owner, checked) == len(checked)

    release = blocking(arelease)

    @operation
    async def arelease_all(self, owner: str) -> int:
        """Free everything that the owner holds, and return how many keys that were."""
        self.require(LockingCapability.OWNERS)
        owner = check_text(owner, "owner")
        with self.calling("release_all"):
            return await self._provider.release_owner(owner)

    release_all = blocking(arelease_all)

    @operation
    async def aexecute(
        self,
        keys: Keys,
        job: Callable[[], Coroutine[Any, Any, R] | R],
        *,
        wait: Duration | None = None,
        ttl: Duration | None = None,
        owner: str | None = None,
        shared: bool = False,
    ) -> R:
        """Call `job()`, a plain or an async function, while holding the keys, and return its result.

        Waits up to `wait` (from the settings, 5 s); if the lock is not to be had, the job does not run. The rest is
        as with `hold`: when the lease was lost, the result is refused with `LockLostError`. The job's own errors pass
        unchanged.
        """
        check_function(job, "job")
        wait = self.settings.execute_wait if wait is None else wait
        async with Hold(self._keeper, self._request(keys, wait, owner=owner, ttl=ttl, shared=shared), self._take):
            return await self.context.runtime.call(job)

    execute = blocking(aexecute)

    def locked(
        self, *keys: str, ttl: Duration | None = None, wait: Duration | None = None, shared: bool = False
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Decorate a function so that it holds the keys while it runs: `@app.locking.locked("order:{order_id}")`.

        Keys are templates of the function's parameters. A field that it does not have raises `ConfigurationError`
        when the function is decorated, and so does a generator, which would run after the lock is gone. Plain
        functions stay plain, async ones async; the rest is as with `hold`.
        """

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            check_function(function, "locked")
            if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
                raise ConfigurationError(
                    f"locked: {function.__qualname__} is a generator, and would run without the lock; use hold inside"
                )
            templates = [KeyTemplate(check_text(key, "key"), function) for key in check_keys(keys)]

            def held(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hold:
                names = (template.render(args, kwargs) for template in templates)
                return self.hold(*names, ttl=ttl, wait=wait, shared=shared)

            return _async_locked(function, held) if is_async(function) else _plain_locked(function, held)

        return decorate

    @operation
    async def ainspect(self, key: str) -> LockState | None:
        """Return who holds the key, since when and until when, or None where nobody does."""
        self.require(LockingCapability.INSPECT)
        key = check_text(key, "key")
        with self.calling("inspect"):
            return await self._provider.inspect(key)

    inspect = blocking(ainspect)

    @operation
    async def aheld(self, prefix: str = "", *, limit: int = 1000) -> list[LockState]:
        """Return up to `limit` keys that begin with `prefix` and are held now, with their holders, sorted by key."""
        self.require(LockingCapability.LIST)
        prefix = check_text(prefix, "prefix") if prefix != "" else prefix
        limit = check_whole(limit, "limit", maximum=MOST_LISTED)
        with self.calling("held"):
            return await self._provider.held(prefix, limit)

    held = blocking(aheld)

    @operation
    async def abreak_lock(self, key: str) -> int:
        """Take a key away from whoever holds it, and return how many holders it was taken from.

        Their leases are lost, which they learn at the next renewal and when they release: until then they work on, so
        this is for holders that are known to be dead or wrong. Whoever waits gets the key.
        """
        self.require(LockingCapability.BREAK)
        key = check_text(key, "key")
        with self.calling("break_lock"):
            return await self._provider.break_lock(key)

    break_lock = blocking(abreak_lock)

    @diverted
    def semaphore(self, key: str, *, permits: int) -> Semaphore:
        """Return a semaphore: a key that up to `permits` may hold together."""
        self.require(LockingCapability.SEMAPHORE)
        return Semaphore(self, check_text(key, "key"), check_whole(permits, "permits", maximum=MOST_PERMITS))

    @diverted
    def lead(
        self,
        name: str,
        *,
        on_elected: Callable[[Lease], object],
        on_revoked: Callable[[], object] | None = None,
        ttl: Duration | None = None,
    ) -> Leadership:
        """Stand for leader from now on: of all who do so for a name, one is the leader.

        `on_elected(lease)` is called when it is this one, and is to begin the leader's work and return. `on_revoked()`
        is called when it no longer is, because the lease was lost or the leadership stopped, and is to have ended that
        work when it returns. Both may be plain, called on a thread, or async, called on the loop that entered the app,
        else on our own. After a loss it stands again. Ends by `stop()` on what is returned, by leaving that as a block,
        or with the app.
        """
        request = self._request(name, LONGEST_CAMPAIGN, ttl=ttl)
        check_function(on_elected, "on_elected")
        if on_revoked is not None:
            check_function(on_revoked, "on_revoked")
        leadership = Leadership(self._keeper, request, self._hold, on_elected, on_revoked)
        self._leaderships.add(leadership)
        leadership.begin(lambda: self._leaderships.discard(leadership))
        return leadership

    async def _started(self) -> None:
        self._keeper.start()

    async def _stopping(self) -> None:
        seconds = self.context.patience(STOP_SECONDS)
        await gather(*(leadership.give_up(seconds) for leadership in list(self._leaderships)))
        await self._keeper.stop()

    def _request(
        self,
        keys: Keys,
        wait: Duration,
        *,
        owner: str | None = None,
        ttl: Duration | None = None,
        shared: bool = False,
        permits: int | None = None,
        connection: object | None = None,
    ) -> LockRequest:
        if check_flag(shared, "shared"):
            self.require(LockingCapability.SHARED)
        if permits is not None:
            self.require(LockingCapability.SEMAPHORE)
            permits, shared = check_whole(permits, "permits", maximum=MOST_PERMITS), True
        if connection is not None:
            self.require(LockingCapability.TRANSACTION)
        return lock_request(
            keys,
            owner=new_id(self.context.clock) if owner is None else owner,
            ttl=self.settings.ttl if ttl is None and connection is None else ttl,
            wait=wait,
            shared=shared,
            permits=permits,
            connection=connection,
        )

    @operation
    async def _hold(self, request: LockRequest) -> Lease:
        return await self._take(request)

    async def _take(self, request: LockRequest) -> Lease:
        with self.calling("acquire"):
            grant = await self._provider.acquire(request)
        if grant is None:
            raise self._keeper.error(LockNotAcquiredError, refusal(request), "acquire")
        return await self._delivered(grant)

    async def _delivered(self, grant: Grant) -> Lease:
        lease = Lease(self._keeper, grant)
        if lease.held:
            return lease
        await lease.arelease()
        late = f"{', '.join(grant.keys)}: granted, but the ttl of {grant.ttl:g} s was over before it arrived"
        raise self._keeper.error(LockNotAcquiredError, late, "acquire")


def _plain_locked(function: Callable[P, R], held: Callable[..., Hold]) -> Callable[P, R]:
    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with held(args, kwargs):
            return function(*args, **kwargs)

    return call


def _async_locked(function: Callable[P, Any], held: Callable[..., Hold]) -> Callable[P, Any]:
    @functools.wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        async with held(args, kwargs):
            return await function(*args, **kwargs)

    return call
