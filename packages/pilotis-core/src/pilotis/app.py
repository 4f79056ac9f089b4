"""Pilotis: settings in, six modules out."""

from __future__ import annotations

import threading
import warnings
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, cast, get_args

from pilotis.bridge import Flights, Latch, blocking, finish, gather, run_blocking, running_loop
from pilotis.checks import Check, check, error_of
from pilotis.clock import SYSTEM_CLOCK, Clock
from pilotis.context import Context, Role
from pilotis.declarations import Declaration, parts
from pilotis.discovery import plugins
from pilotis.errors import ClosedError, ConfigurationError
from pilotis.modules.base import Portable, diverted
from pilotis.modules.event.declaring import Declarations
from pilotis.override import Override
from pilotis.runtime import Runtime
from pilotis.settings.reader import SettingsReader, Source
from pilotis.status import status
from pilotis.telemetry import default_telemetry
from pilotis.worker import relay, work

if TYPE_CHECKING:
    from pilotis.findings import Finding
    from pilotis.modules.cache import Cache
    from pilotis.modules.event import EventBus
    from pilotis.modules.file import FileStore
    from pilotis.modules.locking import Locking
    from pilotis.modules.notification import Notifier
    from pilotis.modules.workflow import WorkflowEngine
    from pilotis.settings import ModuleSettings, Settings

_CLOSING_ORDER = ("workflow", "event", "notification", "file", "cache", "locking")


class Pilotis:
    """An app: settings in, six modules out.

    `Pilotis()` has embedded defaults and needs no file and no server. A mapping gives settings;
    `Pilotis.load()` reads them from file and environment. Modules open at first use, or all configured ones
    at once by `with app:` or `async with app:`, which also closes them.

    Raises `ConfigurationError` for settings that cannot work.
    """

    def __init__(self, settings: Source | None = None, *, role: Role | None = None, clock: Clock | None = None) -> None:
        self._reader = SettingsReader(settings, files=False)
        self._given = _given(role, clock)
        self._prepare()
        self._reader.read()

    @classmethod
    def load(
        cls,
        settings: Source | None = None,
        *,
        lazy: bool = False,
        role: Role | None = None,
        clock: Clock | None = None,
    ) -> Self:
        """Make an app from `pilotis.toml` or `[tool.pilotis]` of `pyproject.toml`, then `PILOTIS_*` variables.

        `settings` is laid over both. With `lazy=True`, for an app at module level, nothing is read until the
        first use of a module.
        """
        app = cls.__new__(cls)
        app._reader = SettingsReader(settings, files=True)
        app._given = _given(role, clock)
        app._prepare()
        if not lazy:
            app._reader.read()
        return app

    def _prepare(self) -> None:
        self._lock = threading.RLock()
        self._modules: dict[tuple[str, str], Portable[Any]] = {}
        self._declared: list[Declarations] = []
        self._context: Context | None = None
        self.stand_in: Pilotis | None = None
        """The app that answers for this one, inside `override`."""
        self._openings = Flights()
        self._entered = 0
        self._included = self._opened = self._closed = False

    # What it is

    @property
    def settings(self) -> Settings:
        """The settings, read if they were not read yet. Secrets are masked in their repr."""
        return self._reader.read()

    @property
    def name(self) -> str | None:
        """The name of the service."""
        return self.settings.name

    @property
    def role(self) -> Role:
        """`emit` only emits and starts, `work` also handles, `all` does both in one process."""
        return self.context.role

    @property
    def context(self) -> Context:
        """What the modules share: clock, background loop, telemetry."""
        with self._lock:
            if self._context is None:
                self._context = self._make_context()
            return self._context

    @property
    def blocking_in_loop(self) -> str:
        return self.settings.blocking_in_loop

    # The modules

    @property
    def cache(self) -> Cache:
        return cast("Cache", self.module("cache"))

    @property
    def event(self) -> EventBus:
        return cast("EventBus", self.module("event"))

    @property
    def file(self) -> FileStore:
        return cast("FileStore", self.module("file"))

    @property
    def locking(self) -> Locking:
        return cast("Locking", self.module("locking"))

    @property
    def notification(self) -> Notifier:
        return cast("Notifier", self.module("notification"))

    @property
    def workflow(self) -> WorkflowEngine:
        return cast("WorkflowEngine", self.module("workflow"))

    @diverted
    def module(self, module: str, name: str = "default") -> Portable[Any]:
        """Return a module, or a further instance of it from `[<module>.instances.<name>]`. No I/O.

        Raises `ConfigurationError` if it is not configured, and `ClosedError` after `close`.
        """
        found = self._modules.get((module, name))
        return found if found is not None else self._add(module, name)

    def _add(self, module: str, name: str) -> Portable[Any]:
        with self._lock:
            if (module, name) not in self._modules:
                if self._closed:
                    raise ClosedError("the app was closed; make a new one to go on")
                self._modules[module, name] = self._build(module, name)
            return self._modules[module, name]

    def _build(self, module: str, name: str) -> Portable[Any]:
        from pilotis.wiring import build_module  # the portable classes, and with them the providers

        portable = build_module(self._configured(module, name), self.settings, self.context)
        portable.owner, portable.instance = self, name
        if module == "cache":
            cast("Cache", portable).bus = lambda: self.event
        if (module, name) == ("event", "default"):
            for handlers in self._declared:
                cast("EventBus", portable).include(handlers)
        return portable

    def _configured(self, module: str, name: str) -> ModuleSettings:
        instances = self.settings.modules.get(module)
        if instances is None:
            raise ConfigurationError(f"there is no module {module!r} (modules: {', '.join(self.settings.modules)})")
        if name not in instances:
            raise ConfigurationError(
                f"there is no instance {name!r} (configured: {', '.join(instances)})", path=f"{module}.instances"
            )
        return instances[name]

    def divert(self, stand_in: Pilotis | None) -> Pilotis | None:
        """Have another app answer for this one, until None takes it back, and return who did before: for `override`."""
        before, self.stand_in = self.stand_in, stand_in
        for (module, name), portable in self._modules.items():
            portable.substitute(None if stand_in is None else stand_in.module(module, name))
        return before

    # Declarations

    def include(self, *declarations: Declaration) -> None:
        """Take in what was declared apart from the app: `Handlers`, workflows, or modules of them, also by name.

        Including the same again does nothing. Workflows are known once their module is imported.
        """
        for declaration in declarations:
            for handlers in parts(declaration):
                self._include(handlers)
                if self.stand_in is not None:
                    self.stand_in.include(handlers)

    def _include(self, handlers: Declarations) -> None:
        with self._lock:
            if any(handlers is known for known in self._declared):
                return
            self._declared.append(handlers)
            bus = self._modules.get(("event", "default"))
        if bus is not None:
            cast("EventBus", bus).include(handlers)

    def import_included(self) -> None:
        """Import the modules that settings name. Opening does so; not before, because they may import the app."""
        with self._lock:
            was, self._included = self._included, True
        if not was:
            self.include(*self.settings.include)

    # Life cycle

    @diverted
    async def aopen(self) -> None:
        """Open and ping every configured module at once. Opening an open app does nothing.

        Raises the first error, naming module, provider and address, after closing what was open by then.
        """
        if self._closed:
            raise ClosedError("the app was closed; make a new one to go on")
        await self._openings.run("open", self._open)

    open = blocking(aopen)

    async def _open(self) -> None:
        if self._opened:
            return
        self.import_included()
        try:
            await gather(*(portable.aopen() for portable in self._wanted()))
            plugins().hook.pilotis_app_opened(app=self)
        except BaseException:
            await finish(self._close_modules(renew=True))
            raise
        self._opened = self.context.opened = True

    def _wanted(self) -> list[Portable[Any]]:
        """Return what to open: what the settings or declarations name, and what was used already."""
        for module, instances in self.settings.modules.items():
            for name in instances:
                if name != "default" or self._reader.mentions(module) or (module == "event" and self._declared):
                    self.module(module, name)
        return list(self._modules.values())

    @diverted
    async def aclose(self) -> None:
        """Drain what works, then close every module. Idempotent; later verbs raise `ClosedError`.

        Every module is closed, whatever the others raise; then the first error is raised.
        """
        with self._lock:
            was, self._closed = self._closed, True
        if not was:
            await finish(self._close())

    close = blocking(aclose)

    async def _close(self) -> None:
        try:
            plugins().hook.pilotis_app_closing(app=self)
        finally:
            await self._close_all()

    async def _close_all(self) -> None:
        try:
            await self._close_modules()
        finally:
            self._opened = self.context.opened = False
            if self._context is not None:  # what ends there may need the loop that runs here
                await run_blocking(self._context.runtime.stop)

    async def _close_modules(self, *, renew: bool = False) -> None:
        errors: list[BaseException] = []
        for portable in sorted(self._modules.values(), key=lambda portable: _CLOSING_ORDER.index(portable.module)):
            errors.extend(await error_of(portable.aclose))
            if renew and not self._closed:
                portable.renew()
        if errors and not renew:
            raise errors[0]

    @diverted
    async def __aenter__(self) -> Self:
        self.context.runtime.home = running_loop()
        await self.aopen()
        self._entered += 1
        return self

    @diverted
    async def __aexit__(self, *error: object) -> None:
        self._entered -= 1
        if not self._entered:
            await self.aclose()

    __enter__ = blocking(__aenter__)
    __exit__ = blocking(__aexit__)

    def __del__(self) -> None:
        if getattr(self, "_modules", None) and not self._closed and any(m.is_open for m in self._modules.values()):
            warnings.warn(f"{self!r} was not closed; use it in a with block, or call close()", ResourceWarning, 2)

    def __repr__(self) -> str:
        return f"<Pilotis {self.settings.name or 'app'}>" if self._reader.done else "<Pilotis, not read yet>"

    # Operation

    @diverted
    async def acheck(self) -> list[Check]:
        """Ping every configured module, opened or not, and tell what came of it. Never raises for a backend."""
        await run_blocking(self.import_included)
        return await gather(*(check(portable, self.context.clock) for portable in self._wanted()))

    check = blocking(acheck)

    @diverted
    async def astatus(self) -> list[Finding]:
        """Tell what is stuck or may become so, since when, why, and what mends it; what is stuck stands first.

        Asks every configured module for its `findings`. A backend that cannot be reached is a finding, and no error.
        """
        await run_blocking(self.import_included)
        return await status(self._wanted(), self.context.clock)

    status = blocking(astatus)

    async def arun_worker(
        self, *, stop: Latch | None = None, grace: float | timedelta | None = None, concurrency: int | None = None
    ) -> None:
        """Open the app and work until SIGTERM, SIGINT or `stop`; then drain and close. A second signal ends at once.

        Closing takes up to `grace` seconds for all modules together; without it, each takes what its own settings say.
        `concurrency` is how many event handlers run at once, of all subscriptions together, whatever
        `event.worker_concurrency` says. Signals are heard on the main thread only; elsewhere `stop` ends it. The second
        one's exit code is 128 and its number, and nothing is cleaned up.

        Raises `ConfigurationError` for the role `emit`, which has nothing to do; `InvalidInputError` for bad numbers.
        """
        await work(self, stop or Latch(), grace=grace, concurrency=concurrency)

    run_worker = blocking(arun_worker)

    async def arun_relay(self, *, stop: Latch | None = None) -> None:
        """Hand over what is in outboxes until SIGTERM, SIGINT or `stop`, and handle nothing, for it is of role "emit".

        Raises `ConfigurationError` for another role, without an outbox, and for a bus that nobody else would hear.
        """
        await relay(self, stop or Latch())

    run_relay = blocking(arun_relay)

    def override(
        self, settings: Source | None = None, *, clock: Clock | None = None, role: Role | None = None
    ) -> Override:
        """Lay other settings, a clock or a role over this app for a while: for tests.

        Inside `with app.override({"event": "local"}, clock=ManualClock()) as app:` every module is new, and the
        verbs of the modules that were at hand before go to the new ones. What was declared is declared there too.
        An override inside another is laid over that one.
        """
        return Override(self, (self.stand_in or self).copy(settings, clock=clock, role=role))

    def copy(self, settings: Source | None = None, *, clock: Clock | None = None, role: Role | None = None) -> Pilotis:
        """Return another app with the same settings and declarations, and modules of its own, none of them open.

        `settings` is laid over those of this app. Tools copy an app with `role="emit"` to look into it without working.
        """
        clone = Pilotis.__new__(Pilotis)
        clone._reader = self._reader.over(settings)
        mine = self._given
        clone._given = _given(mine[0] if role is None else role, mine[1] if clock is None else clock)
        clone._prepare()
        bus = cast("EventBus | None", self._modules.get(("event", "default")))
        clone._declared = [*self._declared] if bus is None else [*self._declared, bus]
        return clone

    def _make_context(self) -> Context:
        settings = self.settings
        role, clock = self._given
        return Context(
            name=settings.name or "pilotis",
            role=role or settings.role,
            clock=clock or SYSTEM_CLOCK,
            runtime=Runtime(settings.name or "pilotis"),
            telemetry=next(iter(plugins().hook.pilotis_telemetry(app=self)), None) or default_telemetry(),
            blocking_in_loop=settings.blocking_in_loop,
        )


def _given(role: Role | None, clock: Clock | None) -> tuple[Role | None, Clock | None]:
    if role not in (None, *get_args(Role)):
        raise ConfigurationError(f"expected {', '.join(get_args(Role))}, got {role!r}", path="role")
    if not isinstance(clock, Clock | None):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"expected a Clock, got {type(clock).__name__}", path="clock")
    return role, clock
