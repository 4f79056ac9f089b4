"""The app: life cycle, lazy opening, checks, override, leaks and forks."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
import types
from collections.abc import Generator
from typing import Any

import pytest
from pilotis import (
    ClosedError,
    ConfigurationError,
    ConnectionFailedError,
    Event,
    Handlers,
    Pilotis,
    UnsupportedError,
    workflow,
)
from pilotis.bridge import Latch, drive, on_loop
from pilotis.discovery import plugins
from pilotis.providers import hookimpl
from pilotis_cache_memory import MemoryCache
from pilotis_testing import Colour, ManualClock
from pilotis_testing.clock import until
from pilotis_testing.colours import together


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in an empty folder, so that no settings file is found and nothing is left behind."""
    monkeypatch.chdir(tmp_path)


class Unreachable(MemoryCache):
    """A cache whose server is down."""

    opened = closed = 0

    @property
    def address(self) -> str:
        return "redis.example:6379"

    async def open(self) -> None:
        type(self).opened += 1

    async def ping(self) -> None:
        raise ConnectionRefusedError("connection refused")

    async def close(self) -> None:
        type(self).closed += 1


class Needy(MemoryCache):
    """A cache that other processes share."""

    shared = True


# Opening and closing


async def test_modules_open_at_first_use_and_close_with_the_block(colour: Colour) -> None:
    """Nothing needs to be opened by hand, and afterwards everything is closed."""
    app = colour.voice(Pilotis())
    async with app as opened:
        cache = colour.voice(opened.cache)
        assert not opened.cache.is_open
        await cache.set("k", 1)
        assert 1 == await cache.get("k")
        assert opened.cache.is_open
    with pytest.raises(ClosedError, match="was closed"):
        await cache.get("k")
    with pytest.raises(ClosedError, match="make a new one"):
        _ = app.locking


def test_an_app_without_a_block_works_and_closes() -> None:
    """Scripts may do without `with`; close is idempotent."""
    app = Pilotis()
    app.cache.set("k", 1)
    app.close()
    app.close()
    assert not app.cache.is_open


async def test_an_unreachable_backend_fails_at_once_and_names_itself(colour: Colour) -> None:
    """Module, provider and address are in the message, and what was open is closed again."""
    Unreachable.opened = Unreachable.closed = 0
    app = colour.voice(Pilotis({"cache": Unreachable(), "locking": "memory"}))

    with pytest.raises(ConnectionFailedError, match=r"cache provider 'Unreachable' \(redis.example:6379\)") as caught:
        await app.open()
    assert ("cache", "Unreachable") == (caught.value.module, caught.value.provider)
    assert 1 == Unreachable.opened <= Unreachable.closed
    with pytest.raises(ConnectionFailedError):
        await app.open()
    await app.close()


async def test_opening_twice_and_nested_blocks(colour: Colour) -> None:
    """Opening an open app does nothing; the outermost block closes it."""
    app = colour.voice(Pilotis())
    async with app as outer:
        async with app:
            await app.open()
        assert 0 == len(await colour.voice(outer.cache).get_many([]))
    with pytest.raises(ClosedError):
        await app.open()


async def test_many_callers_open_a_module_once(colour: Colour) -> None:
    """Threads and tasks that use a module first at the same time share one opening."""

    class Counting(MemoryCache):
        opened = 0

        async def open(self) -> None:
            type(self).opened += 1

    app = Pilotis({"cache": Counting()})
    cache = colour.voice(app.cache)
    await together(*[lambda number=number: cache.set(f"k{number}", number) for number in range(20)])
    assert 1 == Counting.opened
    await colour.voice(app).close()


def test_two_loops_and_threads_use_one_app() -> None:
    """`asyncio.run` twice, two loops at once, and threads: one app, one cache."""

    async def use(app: Pilotis, key: str) -> Any:
        await app.cache.aset(key, key)
        async with app.locking.hold("shared", wait=10):
            return await app.cache.aget(key)

    with Pilotis() as app:
        assert ["a", "b"] == [asyncio.run(use(app, key)) for key in "ab"]
        results: list[Any] = []

        def run(key: str) -> None:
            results.append(asyncio.run(use(app, key)))

        threads = [threading.Thread(target=run, args=(key,)) for key in "cdef"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert list("cdef") == sorted(results)
        assert "c" == app.cache.get("c")


def test_no_thread_is_started_when_nothing_needs_one_and_none_is_left() -> None:
    """Cache, files and locks in blocking use run on the caller's thread alone."""
    before = set(threading.enumerate())
    with Pilotis() as app:
        app.cache.set("k", 1)
        app.file.put("a.txt", b"a")
        app.locking.release(app.locking.acquire("k").keys[0], owner="nobody")
        assert before == set(threading.enumerate())
        app.event.subscribe("a", print)
        app.event.emit("a", 1)
    until(lambda: not [t for t in set(threading.enumerate()) - before if t.name != "pilotis-call"])


def test_a_leaked_app_warns() -> None:
    """An app that was opened and never closed says so when it goes."""

    def leak() -> None:
        Pilotis().cache.set("k", 1)
        gc.collect()

    with pytest.warns(ResourceWarning, match="was not closed"):
        leak()


def test_closing_goes_on_when_one_module_fails_to_close() -> None:
    """Every module is closed, and the error is told."""

    class Stuck(MemoryCache):
        async def close(self) -> None:
            raise OSError("will not close")

    app = Pilotis({"cache": Stuck()})
    app.cache.set("k", 1)
    app.locking.acquire("k")
    with pytest.raises(Exception, match="will not close"):
        app.close()
    assert not app.locking.is_open


def test_a_child_process_goes_on_by_itself() -> None:
    """After a fork the child uses the app without waiting for anything of its parent's."""
    with Pilotis() as app:
        app.cache.set("k", 1)
        app.event.subscribe("a", print)
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            code = 1
            try:
                app.cache.set("k", 2)
                with app.locking.hold("x"):
                    code = 0 if app.cache.get("k") == 2 and asyncio.run(app.cache.aget("k")) == 2 else 2
            finally:
                os._exit(code)
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert 1 == app.cache.get("k")


# Settings


def test_a_shared_backend_needs_the_name_of_the_service() -> None:
    """Keys of two services would mix otherwise."""
    with pytest.raises(ConfigurationError, match="name: expected the name of this service"):
        _ = Pilotis({"cache": Needy()}).cache
    assert "shop" == Pilotis({"name": "shop", "cache": Needy()}).cache.context.name


def test_required_capabilities_are_checked_when_the_module_is_made() -> None:
    """A missing one is refused before any I/O, an unknown one named."""
    with pytest.raises(ConfigurationError, match="unknown capability 'teleport'"):
        _ = Pilotis({"cache": {"provider": "memory", "require": ["teleport"]}}).cache
    with pytest.raises(UnsupportedError, match="does not support CROSS_PROCESS"):
        _ = Pilotis({"locking": {"provider": "memory", "require": ["cross_process"]}}).locking


def test_instances_are_separate() -> None:
    """`app.module("cache", "sessions")` is a cache of its own."""
    with Pilotis({"cache": {"instances": {"sessions": "memory"}}}) as app:
        sessions: Any = app.module("cache", "sessions")
        sessions.set("k", "session")
        assert None is app.cache.get("k")
        assert sessions is app.module("cache", "sessions")
        with pytest.raises(ConfigurationError, match="no instance 'nowhere'"):
            app.module("cache", "nowhere")
        with pytest.raises(ConfigurationError, match="no module 'cash'"):
            app.module("cash")


def test_a_lazy_app_reads_nothing_until_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that change after the import of the module that holds the app still count."""
    app = Pilotis.load(lazy=True)
    assert "not read yet" in repr(app)
    monkeypatch.setenv("PILOTIS_CACHE__DEFAULT_TTL", "77")
    monkeypatch.setenv("PILOTIS_NAME", "shop")
    assert 77 == app.settings.modules["cache"]["default"].portable.default_ttl  # type: ignore[attr-defined]
    assert "<Pilotis shop>" == repr(app)


def test_a_typo_in_an_option_is_found_when_the_module_is_made() -> None:
    """The message has the path and the nearest name."""
    with pytest.raises(ConfigurationError, match=r"cache\.max_entrys.*max_entries"):
        _ = Pilotis({"cache": {"provider": "memory", "max_entrys": 3}}).cache


async def test_check_tells_what_is_well_and_what_is_not(colour: Colour) -> None:
    """A readiness probe gets a line for each configured module, and never an exception."""
    app = Pilotis({"cache": Unreachable(), "locking": "memory"})
    checks = {check.module: check for check in await colour.voice(app).check()}
    assert (False, True) == (checks["cache"].ok, checks["locking"].ok)
    assert "redis.example:6379" in checks["cache"].detail
    await colour.voice(app).close()


# Declarations


def test_handlers_declared_apart_are_included(monkeypatch: pytest.MonkeyPatch) -> None:
    """By object, by module, by name of a module in settings: once each."""
    declared = types.ModuleType("shop_handlers")
    declared.handlers = Handlers()  # type: ignore[attr-defined]
    seen: list[Any] = []
    declared.handlers.on("a", id="one")(lambda event: seen.append(event.data))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shop_handlers", declared)

    with Pilotis({"include": ["shop_handlers"]}) as app:
        app.include(declared, "shop_handlers", declared.handlers)  # type: ignore[attr-defined]
        app.event.emit("a", 1)
        app.event.drain(5)
    assert [1] == seen


@workflow("double")
def double(number: int) -> int:
    return 2 * number


def test_workflows_are_included() -> None:
    """A worker knows the workflows of the modules that it includes."""
    with Pilotis() as app:
        app.include(sys.modules[__name__])
        assert 4 == app.workflow.start(double, 2).result(timeout=10)


# Override


async def test_override_lays_settings_and_a_clock_over_an_app(colour: Colour) -> None:
    """Inside the block every module is new and the old ones answer from it; afterwards all is as before."""
    app = Pilotis()
    before, clock = app.cache, ManualClock()
    await colour.voice(before).set("k", "outside", ttl=60)

    async with colour.voice(app.override({"cache": {"default_ttl": 5}}, clock=clock)) as stand_in:
        assert None is await colour.voice(before).get("k")
        await colour.voice(app.cache).set("k", "inside")
        assert "inside" == await colour.voice(before).get("k") == await colour.voice(stand_in.cache).get("k")
        clock.advance(6)
        assert None is await colour.voice(app.cache).get("k")

    assert "outside" == await colour.voice(app.cache).get("k")
    await colour.voice(app).close()


def test_override_carries_declarations_and_decorated_functions_over() -> None:
    """What was declared on the app, or decorated with it, works in the block, on the block's modules."""
    app = Pilotis()
    seen: list[int] = []

    @app.cache.cached(ttl=60)
    def square(number: int) -> int:
        seen.append(number)
        return number * number

    @app.event.on("a", id="one")
    def handle(event: Event[int]) -> None:
        seen.append(event.data)

    with app.override({"event": {"mode": "inline"}}) as stand_in:
        assert [9, 9] == [square(3), square(3)]
        app.event.emit("a", 4)
        assert 1 == stand_in.cache.stats().hits
    assert [3, 4] == seen
    assert 9 == square(3)
    assert [3, 4, 3] == seen
    app.close()


# Worker


async def test_an_override_reaches_the_app_itself(colour: Colour) -> None:
    """A block, a check or an include of the app, as in a web framework's start-up, goes to the stand-in."""
    app = Pilotis({"cache": Unreachable()})
    voiced, handlers = colour.voice(app), Handlers()
    seen: list[int] = []

    @handlers.on("a", id="one")
    def handle(event: Event[int]) -> None:
        seen.append(event.data)

    async with colour.voice(app.override({"cache": "memory", "event": {"mode": "inline"}})) as stand_in:
        async with voiced:
            assert all(check.ok for check in await voiced.check())
        assert stand_in.cache.is_open
        stand_in.include(handlers)
        await colour.voice(app.event).emit("a", 1)
    assert [1] == seen
    async with colour.voice(app.override({"cache": "memory", "event": {"mode": "inline"}})):
        await colour.voice(app.event).emit("a", 2)
    assert [1] == seen, "what is included in a stand-in stays there"


async def test_an_override_inside_another(colour: Colour) -> None:
    """It is laid over the outer one, which goes on answering afterwards."""
    app, clock = Pilotis(), ManualClock()
    held = colour.voice(app.locking)
    async with colour.voice(app.override(clock=clock)):
        await held.acquire("k")
        async with colour.voice(app.override()) as inner:
            assert inner.context.clock is clock
            assert await held.inspect("k") is None
        assert await held.inspect("k") is not None
    assert await held.inspect("k") is None
    await colour.voice(app).close()


@pytest.mark.parametrize(("argument", "value"), [("role", "boss"), ("role", 5), ("clock", 5), ("clock", "")])
def test_unfit_arguments_of_an_app_are_named(argument: str, value: Any) -> None:
    """At once, whichever way the app is made."""
    app = Pilotis()
    for make in (Pilotis, Pilotis.load, app.override, app.copy):
        with pytest.raises(ConfigurationError, match=f"{argument}: expected"):
            make(**{argument: value})


def test_what_cannot_be_included_is_named() -> None:
    """No traceback from the import machinery for a misspelt module."""
    for declaration in (5, "no_such_module", "", "..shop"):
        with pytest.raises(ConfigurationError, match="include: expected"):
            Pilotis().include(declaration)  # pyright: ignore[reportArgumentType]


def test_closing_while_a_module_is_being_opened() -> None:
    """Whoever opens it is told, what was opened is closed again, and stays so."""

    class Slow(MemoryCache):
        opened = closed = 0
        begun, gate = Latch(), Latch()

        async def open(self) -> None:
            self.begun.set()
            await self.gate.wait(10)
            type(self).opened += 1

        async def close(self) -> None:
            type(self).closed = self.opened

    app = Pilotis({"cache": Slow()})
    errors: list[ClosedError] = []

    def open_it() -> None:
        try:
            app.open()
        except ClosedError as error:
            errors.append(error)

    thread = threading.Thread(target=open_it)
    thread.start()
    drive(Slow.begun.wait(10))
    app.close()
    Slow.gate.set()
    thread.join(10)
    assert 1 == len(errors) == Slow.opened == Slow.closed
    with pytest.raises(ClosedError):
        app.cache.get("k")


def test_closing_does_not_stop_the_loop_that_jobs_need_to_end() -> None:
    """A job that cleans up on the user's own loop can do so while the app is being closed there."""
    cleaned: list[bool] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        begun = Latch()

        async def clean() -> None:
            cleaned.append(True)

        async def work() -> None:
            begun.set()
            try:
                await Latch().wait()
            finally:
                await on_loop(loop, clean())

        async with Pilotis() as app:
            app.context.runtime.spawn(work(), "work")
            await begun.wait(10)

    asyncio.run(asyncio.wait_for(main(), 4))
    assert [True] == cleaned


async def test_notebooks_may_use_blocking_blocks_of_the_app() -> None:
    """`blocking_in_loop = "thread"` holds for the app and its overrides too."""
    with Pilotis({"blocking_in_loop": "thread"}) as app:
        with app.override() as stand_in:
            stand_in.cache.set("k", 1)
            assert 1 == app.cache.get("k")
        assert all(check.ok for check in app.check())


def test_a_worker_works_until_it_is_told_to_stop() -> None:
    """SIGTERM drains and closes; a second app could do the same on another thread by a latch."""
    app = Pilotis()
    seen: list[int] = []

    def handle(event: Event[int]) -> None:
        seen.append(event.data)

    app.event.subscribe("a", handle, id="one")
    threading.Timer(0.2, lambda: (app.event.emit("a", 1), os.kill(os.getpid(), signal.SIGTERM))).start()
    app.run_worker()
    assert [1] == seen
    with pytest.raises(ClosedError):
        app.event.emit("a", 2)

    stop, other = Latch(), Pilotis()
    worker = threading.Thread(target=lambda: asyncio.run(other.arun_worker(stop=stop)))
    worker.start()
    stop.set()
    worker.join(10)
    assert not worker.is_alive()


def test_an_app_that_only_emits_is_no_worker() -> None:
    """Role `emit` has nothing to work on."""
    with pytest.raises(ConfigurationError, match="role"):
        Pilotis(role="emit").run_worker()


def test_a_copy_has_the_settings_and_declarations_and_modules_of_its_own() -> None:
    """Closing it leaves the app as it is; a role or settings may be laid over it."""
    with Pilotis({"name": "shop", "cache": "memory"}) as app:
        app.include(Handlers())
        app.cache.set("k", 1)
        copy = app.copy({"cache": {"default_ttl": 5}}, role="emit")
        assert ("shop", "emit", None) == (copy.name, copy.role, copy.cache.get("k"))
        copy.close()
        assert app.cache.get("k") == 1


# Plugins


def test_plugins_see_apps_come_and_go_and_may_bring_telemetry() -> None:
    """Every verb is one span of the telemetry that a plugin brings."""
    seen: list[str] = []

    class Recorder:
        @contextlib.contextmanager
        def operation(self, module: str, verb: str, provider: str) -> Generator[None, None, None]:
            seen.append(f"{module}.{verb} on {provider}")
            yield

    class Plugin:
        @hookimpl
        def pilotis_app_opened(self, app: Pilotis) -> None:
            seen.append(f"opened {app.name}")

        @hookimpl
        def pilotis_app_closing(self, app: Pilotis) -> None:
            seen.append(f"closing {app.name}")

        @hookimpl
        def pilotis_telemetry(self) -> Recorder:
            return Recorder()

    plugin = plugins().register(Plugin())
    try:
        with Pilotis({"name": "shop"}) as app:
            app.cache.get("k")
            asyncio.run(app.cache.aset("k", 1))
    finally:
        plugins().unregister(name=plugin)

    assert ["opened shop", "cache.get on memory", "cache.set on memory", "closing shop"] == seen


def test_a_plugin_that_raises_leaves_nothing_open() -> None:
    """Its error is told, and every module is closed all the same."""

    class Broken:
        def __init__(self, hook: str) -> None:
            self.hook = hook

        @hookimpl
        def pilotis_app_opened(self, app: Pilotis) -> None:
            if self.hook == "opened":
                raise LookupError("opened")

        @hookimpl
        def pilotis_app_closing(self, app: Pilotis) -> None:
            if self.hook == "closing":
                raise LookupError("closing")

    for hook in ("opened", "closing"):
        app = Pilotis({"cache": "memory"})
        name = plugins().register(Broken(hook))
        try:
            with pytest.raises(LookupError, match=hook), app:
                app.cache.set("k", 1)
            assert not app._modules["cache", "default"].is_open  # pyright: ignore[reportPrivateUsage]
        finally:
            plugins().unregister(name=name)
        app.close()


def test_an_outbox_that_nobody_provides_is_told() -> None:
    """It is not passed over in silence."""
    with pytest.raises(ConfigurationError, match="No outbox provider named 'nowhere' is installed"):
        _ = Pilotis({"event": {"outbox": "nowhere:///shop"}}).event


def test_what_is_declared_in_an_open_app_begins_by_itself() -> None:
    """No verb has to follow for a handler, a schedule or a subscriber to be at work."""
    with Pilotis() as app:
        app.event.on("a", id="one")(print)
        until(lambda: app.event.is_open)
        app.workflow.on("run.failed", print)
        until(lambda: app.workflow.is_open)
    with Pilotis() as app:
        app.workflow.schedule("0 3 * * *", double, 2, id="nightly")
        until(lambda: app.workflow.is_open)


def test_declaring_in_an_app_that_is_not_open_starts_nothing(no_leaks: None) -> None:
    """A module that declares may be imported by anybody."""
    before = threading.active_count()
    app = Pilotis()
    app.event.on("a", id="one")(print)
    app.workflow.schedule("0 3 * * *", double, 2, id="nightly")
    assert before == threading.active_count()
    app.close()
