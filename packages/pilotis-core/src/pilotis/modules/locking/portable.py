"""Locking: mutual exclusion by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable
from datetime import timedelta
from typing import Any, ClassVar, ParamSpec, TypeVar, cast, final

from pilotis.bridge import blocking
from pilotis.context import Context
from pilotis.durations import seconds
from pilotis.errors import ConfigurationError, InvalidInputError, LockNotAcquiredError
from pilotis.ids import new_id
from pilotis.keys import KeyTemplate, check_flag, check_text
from pilotis.modules.base import Portable, diverted, operation
from pilotis.modules.locking.hold import Hold
from pilotis.modules.locking.keeper import Keeper
from pilotis.modules.locking.lease import SHORTEST_TTL, Lease
from pilotis.modules.locking.provider import Grant, LockingCapability, LockingProvider, LockRequest, LockState
from pilotis.runtime import check_function, is_async
from pilotis.settings.model import LockingSettings

P = ParamSpec("P")
R = TypeVar("R")
Keys = str | Iterable[str]
Duration = float | timedelta


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

    @diverted
    def hold(
        self,
        *keys: str,
        ttl: Duration | None = None,
        wait: Duration | None = None,
        owner: str | None = None,
        shared: bool = False,
    ) -> Hold:
        """Hold the keys around a block, `with` or `async with`, and renew the lease until the block ends.

        Entering waits up to `wait` (from the settings, 10 s), first come, first served, and raises
        `LockNotAcquiredError` when that is over. A block inside which one of the keys is held already raises
        `ReentrantCallError`. Leaving raises `LockLostError` if the lease was lost meanwhile, even though the block
        succeeded; if the block raised, its error goes on with a note.
        """
        wait = self.settings.wait if wait is None else wait
        return Hold(self._keeper, self._request(keys, owner, ttl, wait, shared=shared), self._hold)

    @operation
    async def aacquire(
        self,
        keys: Keys,
        *,
        owner: str | None = None,
        ttl: Duration | None = None,
        wait: Duration = 0,
        shared: bool = False,
    ) -> Lease:
        """Take the keys, one or several, and return the lease, which is not renewed.

        It ends after `ttl`, unless it is extended, or released by the lease or by its owner's name. The same owner
        may acquire again: the ttl begins anew, nothing is counted, and one release frees. Raises
        `LockNotAcquiredError` when somebody else holds a key and still does after `wait`.
        """
        return await self._take(self._request(keys, owner, ttl, wait, shared=shared))

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
        async with Hold(self._keeper, self._request(keys, owner, ttl, wait, shared=shared), self._take):
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

    async def _stopping(self) -> None:
        await self._keeper.stop()

    def _request(
        self, keys: Keys, owner: str | None, ttl: Duration | None, wait: Duration, *, shared: bool
    ) -> LockRequest:
        if check_flag(shared, "shared"):
            self.require(LockingCapability.SHARED)
        return LockRequest(
            keys=check_keys(keys),
            owner=new_id(self.context.clock) if owner is None else check_text(owner, "owner"),
            ttl=seconds(self.settings.ttl if ttl is None else ttl, "ttl", minimum=SHORTEST_TTL),
            wait=seconds(wait, "wait"),
            shared=shared,
        )

    @operation
    async def _hold(self, request: LockRequest) -> Lease:
        return await self._take(request)

    async def _take(self, request: LockRequest) -> Lease:
        with self.calling("acquire"):
            grant = await self._provider.acquire(request)
        if grant is None:
            raise self._keeper.error(LockNotAcquiredError, _refusal(request), "acquire")
        return await self._delivered(grant)

    async def _delivered(self, grant: Grant) -> Lease:
        lease = Lease(self._keeper, grant)
        if lease.held:
            return lease
        await lease.arelease()
        late = f"{', '.join(grant.keys)}: granted, but the ttl of {grant.ttl:g} s was over before it arrived"
        raise self._keeper.error(LockNotAcquiredError, late, "acquire")


def check_keys(keys: object) -> tuple[str, ...]:
    """Return the keys sorted, each once. Raises `InvalidInputError` naming the place of an unfit one."""
    if isinstance(keys, str):
        return (check_text(keys, "key"),)
    if not isinstance(keys, Iterable):
        raise InvalidInputError(f"keys: expected a key or several, got {type(keys).__name__}")
    checked = {check_text(key, f"keys[{index}]") for index, key in enumerate(cast("Iterable[object]", keys))}
    if not checked:
        raise InvalidInputError("keys: expected at least one key, got none")
    return tuple(sorted(checked))


def _refusal(request: LockRequest) -> str:
    after = f"still after {request.wait:g} s" if request.wait else "and no wait was asked for"
    what = "one of its keys is" if len(request.keys) > 1 else "it is"
    return f"{', '.join(request.keys)}: not locked, {what} held by somebody else, {after}"


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
