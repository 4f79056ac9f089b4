"""Workers and a Redis that restarts, forgets, hangs up, refuses writes, or loses its answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from pilotis.bridge import Latch, drive, pause, run_blocking
from pilotis_redis import RedisLink
from pilotis_redis.lanes import Ending, Taken
from pilotis_redis.lanes.settling import SETTLE
from pilotis_redis.lanes.taking import TAKE
from pilotis_redis.scripts import Script
from pilotis_testing import Colour
from pilotis_testing.clock import until
from pilotis_testing.colours import soon, together
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import RedisError

pytestmark = pytest.mark.slow

PATIENCE = 40.0
Hands = Callable[..., Any]


def ids(taken: list[Taken]) -> list[str]:
    return [entry.head.id for entry in taken]


async def persist(call: Callable[[], Any]) -> Any:
    """Repeat a call until Redis lets it succeed, as a dispatcher does."""
    deadline = Latch()
    timer = threading.Timer(PATIENCE, deadline.set)
    timer.daemon = True
    timer.start()
    while True:
        try:
            return await call()
        except (RedisError, OSError):
            assert not deadline.is_set()
            await pause(0.02)
        finally:
            timer.cancel()


async def work(hand: Any, lanes: list[str], got: list[str], count: int) -> None:
    """Take and settle until there were so many."""
    while len(got) < count:
        taken = await persist(lambda: hand.take(*lanes))
        settled = await persist(partial(hand.settle, taken))
        got += [entry.head.id for entry, is_mine in zip(taken, settled, strict=True) if is_mine]


async def disturbed(hand: Any, other: Any, disturb: Callable[[], Any]) -> list[str]:
    """Return what a worker handled of ten entries that were emitted before something happened, and ten after it."""
    await hand.declare("a", "b")
    got: list[str] = []

    async def act() -> None:
        for number in range(10):
            await other.emit("a", f"a{number}")
        await soon(lambda: len(got) == 10, PATIENCE)
        await run_blocking(disturb)
        for number in range(10):
            await persist(lambda number=number: other.emit("b", f"b{number}"))

    await together(lambda: work(hand, ["a", "b"], got, 20), act)
    return got


EXPECTED = sorted(f"{lane}{number}" for lane in "ab" for number in range(10))


async def test_a_worker_outlives_a_restart(make_hand: Hands, durable_redis: RedisServer, colour: Colour) -> None:
    """What it holds stays its own, and it goes on under the same id."""
    hand, other = make_hand(durable_redis.url, timeout=2), make_hand(durable_redis.url, timeout=2)
    await hand.declare("c")
    await hand.emit("c", "held")
    held = await hand.look("c")
    id = hand.worker.id
    assert EXPECTED == sorted(await disturbed(hand, other, durable_redis.restart))
    assert id == hand.worker.id
    assert [True] == await persist(lambda: hand.settle(held))


async def test_live_workers_do_not_take_one_another_for_dead_after_an_outage(
    make_hand: Hands, durable_redis: RedisServer
) -> None:
    """Their time is over then, of all of them: whoever comes back first does not bury the others."""
    hands = [make_hand(durable_redis.url, timeout=2, liveness=1) for _ in range(4)]
    await hands[0].declare("a")
    for hand in hands:
        await hand.look("a")
    before = [hand.worker.id for hand in hands]
    durable_redis.stop()
    await pause(1.5)
    durable_redis.start()
    keys = hands[0].lanes.keys

    def all_are_alive() -> bool:
        seconds, micros = tell(durable_redis.url, "TIME")
        now = seconds * 1000 + micros / 1000
        return tell(durable_redis.url, "ZCOUNT", keys.workers, now, "+inf") == 4

    await soon(all_are_alive, PATIENCE)
    for hand in hands:
        await persist(lambda hand=hand: hand.look("a"))
    assert before == [hand.worker.id for hand in hands]


@pytest.mark.parametrize("command", ["SCRIPT FLUSH", "CLIENT KILL TYPE normal"])
async def test_a_worker_outlives(make_hand: Hands, own_redis: RedisServer, colour: Colour, command: str) -> None:
    """Scripts that are gone, and connections that are closed, all of them at once."""
    hand, other = make_hand(own_redis.url), make_hand(own_redis.url)
    got = await disturbed(hand, other, lambda: tell(own_redis.url, *command.split()))
    assert EXPECTED == sorted(got)


async def test_a_worker_outlives_the_end_of_each_connection(make_hand: Hands, own_redis: RedisServer) -> None:
    """That for commands, that of the read, and that of the pulse, one after the other."""
    hand, other = make_hand(own_redis.url, liveness=1, client_name="mine"), make_hand(own_redis.url)
    await hand.declare("a")
    got: list[str] = []

    async def act() -> None:
        for number in range(12):
            clients = [
                line for line in tell(own_redis.url, "CLIENT", "LIST").decode().splitlines() if "name=mine" in line
            ]
            if clients:
                id = clients[number % len(clients)].split()[0].removeprefix("id=")
                tell(own_redis.url, "CLIENT", "KILL", "ID", id)
            await other.emit("a", str(number))
            await soon(lambda number=number: len(got) == number + 1, PATIENCE)

    await together(lambda: work(hand, ["a"], got, 12), act)
    assert [str(number) for number in range(12)] == got


async def test_a_worker_outlives_a_database_that_is_emptied(
    make_hand: Hands, own_redis: RedisServer, colour: Colour, caplog: pytest.LogCaptureFixture
) -> None:
    """It declares its lanes again, with a warning, and starts afresh."""
    hand, other = make_hand(own_redis.url, liveness=1), make_hand(own_redis.url)
    await hand.declare("a", "b")
    await hand.emit("a", "held")
    held = await hand.look("a")
    before = hand.worker.id
    got: list[str] = []

    async def act() -> None:
        tell(own_redis.url, "FLUSHALL")
        await soon(lambda: hand.worker.id not in (None, before), PATIENCE)
        await other.emit("b", "after")

    await together(lambda: work(hand, ["a", "b"], got, 1), act)
    assert ["after"] == got
    assert [False] == await hand.settle(held)
    assert "was emptied" in caplog.text


async def test_a_replica_that_was_a_master_is_outlived(make_hand: Hands, own_redis: RedisServer) -> None:
    """It refuses writes for a while; nothing is lost."""
    hand, other = make_hand(own_redis.url, liveness=1), make_hand(own_redis.url)

    def fail_over() -> None:
        tell(own_redis.url, "REPLICAOF", "127.0.0.1", "1")
        threading.Timer(0.3, lambda: tell(own_redis.url, "REPLICAOF", "NO", "ONE")).start()

    assert EXPECTED == sorted(await disturbed(hand, other, fail_over))


class Forgetful(RedisLink):
    """A link that loses the next answer of a script, or of a read, after the server has done what it says."""

    lost: Script | str | None = None

    async def script(self, script: Script, keys: Any, arguments: Any = ()) -> Any:
        return self._lose(script, await super().script(script, keys, arguments))

    async def script_each(self, script: Script, calls: Any) -> Any:
        return self._lose(script, await super().script_each(script, calls))

    async def execute(self, *command: Any) -> Any:
        return self._lose(command[0], await super().execute(*command))

    def patient(self, seconds: float) -> Any:
        link = super().patient(seconds)
        link.__class__ = Forgetful
        return link

    def _lose(self, what: Script | str, reply: Any) -> Any:
        is_empty = reply in ([], {}) or (what is TAKE and not any(answer[3] for answer in reply))
        if what == Forgetful.lost and not is_empty:
            Forgetful.lost = None
            raise LostError("the answer was lost")
        return reply


@pytest.fixture
def forgetful(make_hand: Hands, redis_url: str) -> Iterator[Any]:
    """A worker that can lose answers."""
    hand = make_hand(redis_url, link=Forgetful)
    yield hand
    Forgetful.lost = None


async def test_what_was_handed_out_in_an_answer_that_was_lost_is_found(forgetful: Any, colour: Colour) -> None:
    """By the very worker, who is alive: nobody else would look for it. What it holds already comes no second time."""
    await forgetful.declare("a", "b")
    await forgetful.emit("a", "1", "2")
    held = await forgetful.take("a", most=1)
    await forgetful.emit("b", "3")
    Forgetful.lost = TAKE
    with pytest.raises(LostError):
        await forgetful.look("a", "b")
    assert {"2", "3"} == set(ids(await forgetful.look("a", "b")))
    assert ["1"] == ids(held)
    assert [] == await forgetful.look("a", "b")


async def test_what_a_read_brought_in_an_answer_that_was_lost_is_found(
    forgetful: Any, redis_url: str, colour: Colour
) -> None:
    """The one who waits is given it all the same."""
    await forgetful.declare("a")
    Forgetful.lost = "XREADGROUP"

    async def emit() -> None:
        await soon(lambda: b"cmd=xreadgroup" in tell(redis_url, "CLIENT", "LIST"), PATIENCE)
        await forgetful.emit("a", "1")

    taken, _ = await together(lambda: forgetful.take("a"), emit)
    assert ["1"] == ids(taken)
    assert Forgetful.lost is None
    await forgetful.emit("a", "2")
    assert ["2"] == ids(await forgetful.take("a"))


async def test_settling_again_what_may_have_arrived_counts(forgetful: Any, colour: Colour) -> None:
    """The answer is that of the first time; a third time is refused."""
    await forgetful.declare("a", "b")
    await forgetful.emit("a", "1", "2")
    await forgetful.emit("b", "3")
    taken = await forgetful.look("a", "b")
    Forgetful.lost = SETTLE
    with pytest.raises(LostError):
        await forgetful.settle(taken, "retry", delay=60.0)
    assert [True, True, True] == await forgetful.settle(taken, "retry", delay=60.0)
    assert [False, False, False] == await forgetful.settle(taken)
    states = await forgetful.lanes.states(["a", "b"])
    assert [2, 1] == [state.delayed for state in states]
    assert [2, 1] == [state.counters["retried"] for state in states]


class Mute(RedisLink):
    """Breaks off, once, before what is settled was sent."""

    is_broken = False

    async def script_each(self, script: Script, calls: Any) -> list[Any]:
        if script is SETTLE and not self.is_broken:
            self.is_broken = True
            raise LostError
        return await super().script_each(script, calls)


async def test_what_was_settled_after_all_is_not_remembered(make_hand: Hands, redis_url: str, colour: Colour) -> None:
    """Each outage would else leave something behind for as long as the worker lives."""
    hand = make_hand(redis_url, link=Mute)
    await hand.declare("a")
    await hand.emit("a", "1", "2")
    taken = await hand.look("a")
    with pytest.raises(LostError):
        await hand.settle(taken)
    assert [True, True] == await hand.settle(taken)
    assert set() == hand.worker._life.settling._unsure


async def test_answers_stand_in_the_order_of_what_was_settled(hand: Any, colour: Colour) -> None:
    """Also of many, from several lanes, with some that are settled already, and some that come twice."""
    await hand.declare("a", "b")
    await hand.emit("a", *map(str, range(400)))
    await hand.emit("b", *map(str, range(400)))
    taken = [entry for pair in zip(await hand.look("a", most=400), await hand.look("b", most=400), strict=True)
             for entry in pair]  # fmt: skip
    assert [True] * 4 == await hand.settle(taken[10:14])
    doubled = [*taken, taken[0]]
    expected = [not 10 <= index < 14 for index in range(800)] + [False]
    assert expected == await hand.worker.settle([Ending(entry, "done") for entry in doubled])


async def test_texts_with_half_characters_can_be_told(hand: Any, colour: Colour) -> None:
    """An error may quote anything."""
    await hand.declare("a")
    await hand.emit("a", "1")
    taken = await hand.look("a")
    assert [True] == await hand.settle(taken, "dead", cause="failed", error="half \ud800", traceback="\udfff")


def test_a_worker_says_when_it_cannot_reach_redis(
    make_hand: Hands, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, and once when it can again."""
    caplog.set_level("INFO")
    hand = make_hand(own_redis.url, liveness=0.3, timeout=1, connect_timeout=1)
    drive(hand.declare("a"))
    drive(hand.look("a"))
    own_redis.stop()
    until(lambda: "cannot tell Redis that it is alive" in caplog.text, PATIENCE)
    own_redis.start()
    until(lambda: "reaches Redis again" in caplog.text, PATIENCE)
    assert 1 == caplog.text.count("cannot tell Redis that it is alive")
