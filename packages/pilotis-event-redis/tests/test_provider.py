"""What is particular to events on Redis: services, buses, options, and what is remembered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, cast

import pytest
import redis
import redis.asyncio
from pilotis import Pilotis
from pilotis.bridge import pause
from pilotis.errors import ConfigurationError, InvalidInputError, NotFoundError
from pilotis.modules.event import EventBus, Message
from pilotis.providers import ID_TTL, Context, EventCapability
from pilotis.settings.model import EventSettings
from pilotis.settings.secrets import Secret
from pilotis_event_redis import RedisEvents, RedisEventsOptions
from pilotis_testing import Colour
from pilotis_testing.colours import together
from pilotis_testing.event_base import Held, Seen, drained, info
from pilotis_testing.redis import tell

PREFIX = "{pilotis:events}"


@pytest.fixture
def make(redis_url: str, colour: Colour) -> Iterator[Callable[..., Any]]:
    """What makes the bus of one more process."""
    with ExitStack() as stack:

        def make(name: str = "shop", *, role: Any = "all", settings: Any = None, **options: Any) -> Any:
            context = Context(name=name, role=role)
            provider = RedisEvents(RedisEventsOptions(url=redis_url, **options))
            bus = EventBus(provider, settings=settings, context=context)
            stack.callback(context.runtime.stop)
            stack.callback(bus.close)
            return colour.voice(bus)

        yield make


async def test_services_have_lanes_of_their_own(make: Callable[..., Any]) -> None:
    """Each gets every event that it subscribes to; none sees, or touches, the lanes and letters of another."""
    shop, audit, seen = make("shop"), make("audit"), [Seen(), Seen(failures=1)]
    shop.on("order.placed", id="stock")(seen[0])
    audit.on("order.placed", id="stock")(seen[1])
    await audit.open()
    await shop.emit("order.placed", 1)
    assert await drained(shop)
    assert await drained(audit)
    assert [[1], [1]] == [it.data for it in seen]
    assert ([], 1) == ([it async for it in shop.dead_letters()], len([it async for it in audit.dead_letters()]))
    assert (0, 0) == (await shop.replay(), await shop.purge_dead())
    assert await audit.purge_dead() == 1


async def test_services_whose_names_begin_alike_are_told_apart(make: Callable[..., Any]) -> None:
    """A lane belongs to the service whose whole name it bears."""
    buses = {name: make(name, role="emit") for name in ("shop", "shop-eu")}
    for name, bus in buses.items():
        await bus.subscribe("order.placed", Seen(), id=name)
    assert [["shop"], ["shop-eu"]] == [[lane.subscription for lane in await bus.lanes()] for bus in buses.values()]


async def test_buses_do_not_hear_one_another(make: Callable[..., Any], redis_url: str) -> None:
    """Every key begins with that of the bus."""
    here, there, seen = make(bus="here"), make(bus="there"), Seen()
    here.on("order.placed", id="stock")(seen)
    await here.open()
    await there.emit("order.placed", "there")
    await here.emit("order.placed", "here", key="k", dedupe="d", delay=0.001)
    assert await drained(here)
    assert seen.data == ["here"]
    assert {b"{here}"} == {key.split(b":")[0] for key in tell(redis_url, "KEYS", "*")}


async def test_who_only_emits_needs_no_handlers(make: Callable[..., Any], redis_url: str) -> None:
    """A process that knows no subscriber reaches those that there are, and never reads."""
    worker, emitter, seen = make(), make("site", role="emit"), Seen()
    await worker.subscribe("order.placed", seen, id="stock")
    await emitter.emit("order.placed", 1)
    await seen.times(1)
    assert 1 == tell(redis_url, "ZCARD", f"{PREFIX}:w")


async def test_ids_are_remembered_for_as_long_as_they_may_come_again(make: Callable[..., Any], redis_url: str) -> None:
    """Those that were made here for minutes, those that were given for a day, by an interceptor too."""
    bus = make(role="emit", remember_generated=30)
    await bus.subscribe("order.placed", Seen(), id="stock")
    made = await bus.emit("order.placed")
    await bus.emit("order.placed", id="given")
    lasting = {id: tell(redis_url, "PTTL", f"{PREFIX}:i:{id}") / 1000 for id in (made, "given")}
    assert 20 < lasting[made] <= 30
    assert ID_TTL - 10 < lasting["given"] <= ID_TTL


async def test_readers_and_their_handlers_are_known(make: Callable[..., Any]) -> None:
    """How many live processes read a lane, and whether they name different handlers for it."""
    first, second, emitter = make(), make(), make(role="emit")
    first.on("order.placed")(Seen())
    await first.open()
    second.on("order.placed")(Seen())
    second.on("order.placed")(Held())
    await second.open()

    async def read(readers: int) -> Any:
        while (it := await info(emitter, "order.placed")).readers != readers:
            await pause(0.005)
        return it

    assert (await read(2)).unit_disagrees
    await second.close()
    assert not (await read(1)).unit_disagrees


async def test_an_anonymous_unit_that_holds_the_same_does_not_disagree(make: Callable[..., Any]) -> None:
    """Whatever the order in which its handlers were declared."""
    buses = [make(), make()]
    for bus, handlers in zip(buses, ((Seen(), Held()), (Held(), Seen())), strict=True):
        for handler in handlers:
            bus.on("order.placed")(handler)
        await bus.open()
    while (it := await info(buses[0], "order.placed")).readers != 2:
        await pause(0.005)
    assert not it.unit_disagrees


async def test_a_lane_whose_readers_are_gone_has_none(make: Callable[..., Any]) -> None:
    """It goes on taking events, and tells for how long the first has waited."""
    worker, emitter = make(), make(role="emit")
    await worker.subscribe("order.placed", Seen(), id="stock")
    await worker.close()
    await emitter.emit("order.placed", 1)
    await pause(0.01)
    lane = await info(emitter, "order.placed stock")
    assert (0, 1) == (lane.readers, lane.queued)
    assert lane.oldest > 0


async def test_groups_last_longer_than_any_clock_says(make: Callable[..., Any]) -> None:
    """What another process staged can be released, or cleared, by its id."""
    first, second = make(role="emit"), make(role="emit")
    await first.subscribe("order.placed", Seen(), id="stock")
    await first.emit_many([Message("order.placed", 1), Message("order.placed", 2)], group="g")
    assert await second.release_group("g") == 2
    await first.emit("order.placed", 3, group="g")
    assert (1, 0) == (await second.clear_group("g"), await first.release_group("g"))
    assert (await info(first, "order.placed stock")).queued == 2


async def test_what_is_emitted_is_seen_by_whoever_looks_on(make: Callable[..., Any]) -> None:
    """Of every service on the bus, with its data."""
    shop, site = make(), make("site", role="emit")
    seen: list[Any] = []

    async def look() -> None:
        async for event in shop.tail("order.*"):
            seen.append((event.name, event.data))
            break

    async def emit() -> None:
        while not seen:
            await site.emit_many([Message("stock.low", 1), Message("order.placed", 2)])
            await pause(0.005)

    await together(look, emit)
    assert [("order.placed", 2)] == seen


@pytest.mark.parametrize("both", [True, False], ids=["both", "blocking"])
async def test_lent_clients_work_and_are_not_closed(redis_url: str, colour: Colour, both: bool) -> None:
    """Under a loop, a blocking one alone will do."""
    clients: dict[str, Any] = {"client": cast("Any", redis.Redis).from_url(redis_url)}
    if both and colour is Colour.ASYNC:
        clients["async_client"] = cast("Any", redis.asyncio.Redis).from_url(redis_url)
    context = Context(name="shop", role="emit")
    bus = colour.voice(EventBus(RedisEvents(**clients), context=context))
    await bus.subscribe("order.placed", Seen(), id="stock")
    await bus.emit_many([Message("order.placed", number) for number in range(999)])
    assert (await info(bus, "order.placed stock")).queued == 999
    await bus.close()
    assert clients["client"].ping()
    clients["client"].close()
    if "async_client" in clients:
        await clients["async_client"].aclose()
    context.runtime.stop()


@pytest.mark.parametrize(
    "options",
    [{"bus": ""}, {"bus": "a b"}, {"bus": "{a}"}, {"remember_generated": -1}, {"liveness": 0}, {"stall": 0}],
    ids=str,
)
def test_options_that_cannot_be_used_are_refused(options: dict[str, Any], redis_url: str) -> None:
    """Where they stand in the settings."""
    with pytest.raises(ConfigurationError, match=f"^event: {next(iter(options))}: expected"):
        Pilotis({"name": "shop", "event": {"url": redis_url, **options}}).event.open()


def test_a_url_alone_chooses_it(redis_url: str) -> None:
    """And a service on a shared backend must have a name."""
    with pytest.raises(ConfigurationError, match="name"):
        Pilotis({"event": redis_url}).event.emit("order.placed")
    seen = Seen()
    with Pilotis({"name": "shop", "event": redis_url}) as app:
        app.event.on("order.placed", id="stock")(seen)
        app.event.emit("order.placed", 1)
        assert app.event.drain(10)
        assert EventCapability.DURABLE in app.event.capabilities
        assert isinstance(app.event.native(redis.Redis), redis.Redis)
    assert seen.data == [1]


async def test_a_lane_that_is_forgotten_is_gone(make: Callable[..., Any], redis_url: str) -> None:
    """With all its keys, from another process."""
    worker, operator = make(role="emit"), make(role="emit")
    await worker.subscribe("order.placed", Seen(), id="stock")
    await worker.emit_many([Message("order.placed", 1), Message("order.placed", 2, delay=60)])
    assert await operator.forget("stock") == 1
    assert [] == tell(redis_url, "KEYS", f"{PREFIX}:l:*")


async def test_unrouted_events_are_refused_where_that_is_wanted(make: Callable[..., Any]) -> None:
    """By name, from what the registry says now."""
    strict, worker = make(settings=EventSettings(unrouted="error")), make(role="emit")
    with pytest.raises(NotFoundError, match=r"nobody subscribes to order\.placed"):
        await strict.emit("order.placed")
    await worker.subscribe("order.*", Seen(), id="stock")
    assert await strict.emit("order.placed")


async def test_bad_input_never_reaches_redis(make: Callable[..., Any], redis_url: str) -> None:
    """It is refused at once, by its place."""
    bus = make(role="emit")
    await bus.subscribe("order.placed", Seen(), id="stock")
    before = tell(redis_url, "XLEN", f"{PREFIX}:l:shop/order.placed stock:n")
    for name, options in (("order placed", {}), ("order.*", {}), ("order.placed", {"delay": -1})):
        with pytest.raises(InvalidInputError):
            await bus.emit(name, **options)
    assert before == tell(redis_url, "XLEN", f"{PREFIX}:l:shop/order.placed stock:n")


async def test_a_user_with_rules_can_do_all(redis_url: str, colour: Colour) -> None:
    """With the rights that the README names, on the keys of the bus alone."""
    rules = ("on", ">secret", "~{pilotis:events}*", "+@all", "-@dangerous", "+info")
    tell(redis_url, "ACL", "SETUSER", "ruled", *rules)
    context = Context(name="shop")
    options = RedisEventsOptions(url=redis_url, username="ruled", password=Secret("secret"))
    bus = colour.voice(EventBus(RedisEvents(options), context=context))
    seen = Seen(failures=1)
    bus.on("order.placed", id="stock", attempts=2, backoff=0)(seen)
    await bus.open()
    await bus.emit("order.placed", 1, delay=0.01, key="k", dedupe="d")
    await bus.emit("order.placed", 2, group="g")
    await bus.release_group("g")
    await bus.pause("stock")
    await bus.resume("stock")
    assert await drained(bus)
    assert ({1, 2}, 3) == (set(seen.data), len(seen.data))
    assert await bus.replay() == 0
    assert await bus.purge("stock") == 0
    await bus.close()
    context.runtime.stop()
    tell(redis_url, "ACL", "DELUSER", "ruled")
