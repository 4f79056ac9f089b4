"""The figures that caches and lanes tell OpenTelemetry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from pilotis import Message, Pilotis
from pilotis.discovery import plugins
from pilotis.errors import ConnectionFailedError
from pilotis.modules.event import LaneInfo
from pilotis.modules.event.figures import FIGURES, LOOK_SECONDS
from pilotis.providers import hookimpl
from pilotis.telemetry import Figure, Read
from pilotis_event_local import LocalEvents
from pilotis_testing import Colour, ManualClock
from pilotis_testing.colours import soon
from pilotis_testing.event_base import Seen, drained
from pilotis_testing.servers import RedisServer, free_port

Facts = tuple[str, ...]
TelemetryT = TypeVar("TelemetryT")
MAIL, AUDIT = "order.* mail", "order.* audit"
NAMES = [figure.name.removeprefix("pilotis.event.lane.") for figure, _ in FIGURES]


def figures(meters: InMemoryMetricReader, *facts: str) -> dict[str, dict[Facts, float]]:
    """Return the values of each instrument, by some of their attributes."""
    data: Any = meters.get_metrics_data()
    metrics: list[Any] = [] if data is None else data.resource_metrics[0].scope_metrics[0].metrics
    return {
        metric.name.removeprefix("pilotis."): {
            tuple(point.attributes.get(f"pilotis.{fact}") for fact in facts): point.value
            for point in metric.data.data_points
        }
        for metric in metrics
    }


# Caches


async def test_a_cache_tells_what_its_stats_tell(meters: InMemoryMetricReader, colour: Colour) -> None:
    """Whenever it is asked, with all of its namespaces, and also when it is closed: counters do not fall."""
    app = Pilotis({"name": "shop"})
    async with colour.voice(app):
        cache = colour.voice(app.cache)
        await cache.set("price", 7)
        await cache.get("price")
        await colour.voice(app.cache.namespace("tenant")).get("price")
        before = {f"cache.{name}": {(): number} for name, number in _numbers(app).items()}
        assert before == _of_cache(figures(meters))
        await cache.get("price")
        assert {(): 2} == figures(meters)["cache.hits"]
    assert {(): 2} == figures(meters)["cache.hits"]
    assert {("shop", "default", "memory"): 1} == figures(meters, "app", "instance", "provider")["cache.misses"]


def _numbers(app: Pilotis) -> dict[str, int]:
    stats = app.cache.stats()
    return {name: getattr(stats, name) for name in stats.__struct_fields__}


def _of_cache(found: dict[str, dict[Facts, float]]) -> dict[str, dict[Facts, float]]:
    return {name: values for name, values in found.items() if name.startswith("cache.")}


def test_instances_and_apps_are_told_apart(meters: InMemoryMetricReader, caplog: pytest.LogCaptureFixture) -> None:
    """By name; apps of one name are added up, one after the other and side by side."""
    settings = {"name": "shop", "cache": {"instances": {"sessions": {"provider": "memory"}}}}
    with Pilotis(settings) as app:
        app.cache.get("price")
    with Pilotis(settings) as app, Pilotis(settings) as twin, Pilotis({"name": "bank"}) as other:
        for cache in (app.cache, app.module("cache", "sessions"), twin.cache, other.cache):
            cache.get("price")  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]
        misses = {("shop", "default"): 3, ("shop", "sessions"): 1, ("bank", "default"): 1}
        assert misses == figures(meters, "app", "instance")["cache.misses"]
    assert misses == figures(meters, "app", "instance")["cache.misses"]
    assert "" == caplog.text


def test_a_cache_whose_backend_never_came_tells_of_it(meters: InMemoryMetricReader) -> None:
    """That is when somebody looks."""
    app = Pilotis({"name": "shop", "cache": {"url": f"redis://127.0.0.1:{free_port()}", "connect_timeout": 1}})
    assert app.cache.get("price") is None
    assert {(): 1} == figures(meters)["cache.errors"]
    app.close()


def test_what_failed_to_open_counts_once(meters: InMemoryMetricReader) -> None:
    """An app that could not be opened is opened again later: what was told by then is not told twice."""
    nowhere = {"url": f"redis://127.0.0.1:{free_port()}", "connect_timeout": 1}
    app = Pilotis({"name": "shop", "cache": "memory", "event": nowhere})
    app.cache.get("price")
    with pytest.raises(ConnectionFailedError):
        app.open()
    app.cache.get("price")
    assert {(): 2} == figures(meters)["cache.misses"]
    app.close()


# Lanes


async def test_lanes_tell_how_they_are_doing(meters: InMemoryMetricReader, clock: ManualClock, colour: Colour) -> None:
    """As they were when they were looked at last: each lane by itself, while the app works."""
    app = Pilotis({"name": "shop"}, clock=clock)
    app.event.on("order.*", id="mail")(Seen(failures=9))
    app.event.on("order.*", id="audit")(Seen())
    async with colour.voice(app):
        bus = colour.voice(app.event)
        await bus.emit_many([Message("order.placed", number) for number in range(3)])
        assert await drained(bus)
        await bus.pause("audit")
        await bus.emit("order.paid")
        assert await drained(bus)
        lanes = {lane.lane: lane for lane in await bus.lanes()}
        assert (4, 1, None) == (lanes[MAIL].died, lanes[AUDIT].queued, lanes[MAIL].readers)
        fixed = [name for name in NAMES if name not in ("lag", "readers")]  # the readers cannot be known here
        expected = {name: {(lane, "local"): getattr(of, name) for lane, of in lanes.items()} for name in fixed}

        def is_told() -> bool:
            found = {name: values for name in NAMES if (values := told(meters, name)) is not None}
            lags = found.pop("lag", {})
            return found == expected and lags[MAIL, "local"] == 0 and lags[AUDIT, "local"] > LOOK_SECONDS

        assert await moved(clock, is_told)
    assert not [name for name in figures(meters) if name.startswith("event.lane.")]


async def test_lanes_in_redis_are_told_of_while_it_can_be_asked(
    meters: InMemoryMetricReader, own_redis: RedisServer, clock: ManualClock, colour: Colour
) -> None:
    """In an outage nothing is told: figures from before would be untrue. What several workers tell is the same."""
    settings = {"name": "shop", "event": {"url": own_redis.url, "connect_timeout": 1, "timeout": 1}}
    app, twin = working(settings, clock), working(settings, clock)
    async with colour.voice(app), colour.voice(twin):
        await colour.voice(app.event).emit("order.placed", 7)
        assert await drained(colour.voice(app.event))
        assert await moved(clock, lambda: told(meters, "succeeded") == {(MAIL, "redis"): 1})
        assert await moved(clock, lambda: told(meters, "readers") == {(MAIL, "redis"): 2})
        own_redis.stop()
        assert await moved(clock, lambda: told(meters, "succeeded") is None)
        own_redis.start()
        assert await moved(clock, lambda: told(meters, "readers"))


def told(meters: InMemoryMetricReader, name: str) -> dict[Facts, float] | None:
    return figures(meters, "lane", "provider").get(f"event.lane.{name}")


def working(settings: dict[str, Any], clock: ManualClock) -> Pilotis:
    """Return an app that handles orders."""
    app = Pilotis(settings, clock=clock)
    app.event.on("order.*", id="mail")(Seen())
    return app


async def moved(clock: ManualClock, condition: Any) -> bool:
    """Move the clock, again and again, until a condition holds."""

    def holds() -> bool:
        clock.advance(LOOK_SECONDS)
        return bool(condition())

    await soon(holds, 30)
    return True


# Telemetry of another kind


class Verbs:
    """A telemetry that knows of nothing but verbs."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def operation(self, module: str, verb: str, provider: str) -> AbstractContextManager[None]:
        self.seen.append(f"{module}.{verb}")
        return nullcontext()

    @hookimpl
    def pilotis_telemetry(self, app: object) -> Verbs:
        return self


class Readings(Verbs):
    """A telemetry that asks for figures, too."""

    def __init__(self) -> None:
        super().__init__()
        self.read: dict[str, list[Read]] = {}

    def observe(self, figure: Figure, read: Read) -> Callable[[], None]:
        reads = self.read.setdefault(figure.name, [])
        reads.append(read)
        return lambda: reads.remove(read)


def registered(telemetry: TelemetryT) -> Iterator[TelemetryT]:
    plugins().register(telemetry)
    yield telemetry
    plugins().unregister(telemetry)


@pytest.fixture
def verbs() -> Iterator[Verbs]:
    """Registered for a while."""
    yield from registered(Verbs())


@pytest.fixture
def readings() -> Iterator[Readings]:
    """Registered for a while."""
    yield from registered(Readings())


class Looked(LocalEvents):
    """Counts how often somebody looks at lanes."""

    looks = 0

    async def lanes(self) -> list[LaneInfo]:
        self.looks += 1
        return await super().lanes()


async def test_telemetry_of_another_kind_gets_each_figure_once(
    readings: Readings, clock: ManualClock, colour: Colour
) -> None:
    """While the app is open, with its attributes; nothing is read of one that is closed. One looks for all figures."""
    provider = Looked()
    app = Pilotis({"name": "shop", "event": provider}, clock=clock)
    app.event.on("order.*", id="mail")(Seen())
    async with colour.voice(app):
        app.event.on("order.*", id="audit")(Seen())
        await colour.voice(app.cache).get("price")
        [misses] = readings.read["pilotis.cache.misses"]
        facts = {"pilotis.app": "shop", "pilotis.instance": "default", "pilotis.provider": "memory"}
        assert [(1, facts)] == list(misses())
        [emitted] = readings.read["pilotis.event.lane.emitted"]
        mail = facts | {"pilotis.provider": app.event.provider_name, "pilotis.lane": MAIL}
        await soon(lambda: (0, mail) in emitted())
        assert 1 == provider.looks
    assert not any(readings.read.values())


async def test_telemetry_need_not_ask_for_figures(verbs: Verbs, clock: ManualClock, colour: Colour) -> None:
    """Then lanes are not looked at."""
    seen = Seen()
    app = Pilotis({"name": "shop"}, clock=clock)
    app.event.on("order.*", id="mail")(seen)
    async with colour.voice(app):
        await colour.voice(app.event).emit("order.placed", 7)
        await colour.voice(app.cache).get("price")
        await soon(lambda: seen.data == [7])
        assert 0 == clock.waiting
    assert ["event.emit", "cache.get"] == [verb for verb in verbs.seen if verb in ("event.emit", "cache.get")]
