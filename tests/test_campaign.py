"""Load and faults, through all six modules at once: small in every run, at full size by `nox -s campaign`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from pilotis import Backoff, Event, Message, Pilotis, step, workflow
from pilotis_workflow_memory import MemoryWorkflow

pytestmark = pytest.mark.campaign

FULL = os.environ.get("PILOTIS_CAMPAIGN") == "full"


def size(small: int, full: int) -> int:
    """Return how much to do: a campaign's number, or one that every run can afford."""
    return full if FULL else small


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Pilotis]:
    with Pilotis({"file": {"root": str(tmp_path)}, "event": {"concurrency": 8}}) as app:
        yield app


def on_threads(count: int, act: Callable[[int], object]) -> None:
    threads = [threading.Thread(target=act, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_events_are_handled_once_by_each_subscription_whatever_the_others_do(app: Pilotis) -> None:
    """Three subscriptions, one of which fails at random; events of one key stay in order through their retries."""
    count, dice = size(2_000, 100_000), random.Random(7)
    handled: defaultdict[str, Counter[int]] = defaultdict(Counter)
    in_order: defaultdict[int, list[int]] = defaultdict(list)
    lock = threading.Lock()

    @app.event.on("load", id="steady")
    async def steady(event: Event[int]) -> None:
        handled["steady"][event.data] += 1

    @app.event.on("load", id="shaky", attempts=50, backoff=Backoff.fixed(0.001))
    def shaky(event: Event[int]) -> None:
        if dice.random() < 0.1:
            raise ConnectionError("the network is down")
        with lock:
            handled["shaky"][event.data] += 1
            in_order[event.data % 100].append(event.data)

    @app.event.on("load", id="hopeless")
    def hopeless(event: Event[int]) -> None:
        if event.data % 100 == 0:
            raise ValueError("never")
        with lock:
            handled["hopeless"][event.data] += 1

    for start in range(0, count, 500):
        app.event.emit_many([Message("load", number, key=str(number % 100)) for number in range(start, start + 500)])
    assert app.event.drain(600 if FULL else 50)

    everything = Counter(range(count))
    assert everything == handled["steady"] == handled["shaky"]
    assert Counter(number for number in range(count) if number % 100) == handled["hopeless"]
    assert all(numbers == sorted(numbers) for numbers in in_order.values())
    assert count // 100 == sum(1 for _ in app.event.dead_letters(subscription="hopeless"))


def test_a_stampede_computes_each_value_once(app: Pilotis) -> None:
    """Threads and tasks of several loops want the same values at once: one computation each."""
    keys, calls = size(20, 500), Counter[int]()

    def compute(key: int) -> int:
        calls[key] += 1
        time.sleep(0.005)
        return key * key

    def blocking(_: int) -> None:
        for key in range(keys):
            assert key * key == app.cache.get_or_set(f"k{key}", lambda key=key: compute(key), ttl=600)

    async def tasks() -> None:
        for key in range(keys):
            wanted = [app.cache.aget_or_set(f"k{key}", lambda key=key: compute(key), ttl=600) for _ in range(20)]
            assert [key * key] * 20 == await asyncio.gather(*wanted)

    on_threads(12, lambda number: blocking(number) if number % 3 else asyncio.run(tasks()))
    assert Counter(range(keys)) == calls


def test_locks_exclude_under_load_and_strand_nothing(app: Pilotis) -> None:
    """Threads and tasks that lock random pairs of keys, some of them cancelled: no two inside at once."""
    rounds, inside = size(40, 2_000), Counter[str]()
    keys = [f"k{number}" for number in range(6)]

    @contextlib.contextmanager
    def alone(pair: list[str]) -> Generator[None, None, None]:
        for key in pair:
            inside[key] += 1
        try:
            assert [1, 1] == [inside[key] for key in pair], f"two hold one of {pair}"
            yield
        finally:
            for key in pair:
                inside[key] -= 1

    def blocking(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(rounds):
            pair = dice.sample(keys, 2)
            with app.locking.hold(*pair, wait=120), alone(pair):
                time.sleep(0)

    async def one(dice: random.Random) -> None:
        pair = dice.sample(keys, 2)
        async with app.locking.hold(*pair, wait=120):
            with alone(pair):
                await asyncio.sleep(0)

    async def tasks(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(rounds):
            under_way = [asyncio.ensure_future(one(dice)) for _ in range(4)]
            await asyncio.sleep(dice.random() / 1000)
            under_way[0].cancel()
            results = await asyncio.gather(*under_way, return_exceptions=True)
            assert not [error for error in results[1:] if error is not None]

    on_threads(6, lambda seed: blocking(seed) if seed % 2 else asyncio.run(tasks(seed)))
    assert [None] * len(keys) == [app.locking.inspect(key) for key in keys]


effects: Counter[str] = Counter()
undone: Counter[str] = Counter()


@step(attempts=5, backoff=Backoff.fixed(0.001))
def begin(order: int) -> int:
    effects[f"begin {workflow.step_id()}"] += 1
    return order


@begin.compensate
def undo_begin(order: int, result: int) -> None:
    undone[f"begin {order}"] += 1


@step
def end(order: int) -> int:
    if order % 7 == 0:
        raise ValueError("cannot end")
    return order + 1


@workflow("campaign")
def campaign(order: int) -> int:
    return end(begin(order))


@pytest.mark.timeout(900)
def test_runs_survive_engines_that_come_and_go() -> None:
    """Apps are opened and closed over one store while runs are under way: each run ends, whole or wholly undone."""
    effects.clear()
    undone.clear()
    store, count, dice = MemoryWorkflow(), size(300, 10_000), random.Random(3)
    for start in range(0, count, 100):
        with Pilotis({"workflow": store}) as app:
            for order in range(start, start + 100):
                app.workflow.start(campaign, order, id=f"order-{order}")
            time.sleep(dice.random() / 20)
    with Pilotis({"workflow": store}) as app:
        ended = [app.workflow.get(f"order-{order}") for order in range(count)]
        statuses = Counter[str]()
        for order, run in enumerate(ended):
            if order % 7:
                assert order + 1 == run.result(timeout=60)
            else:
                with pytest.raises(Exception, match="cannot end"):
                    run.result(timeout=60)
            statuses[run.status()] += 1
    failed = len(range(0, count, 7))
    assert {"completed": count - failed, "compensated": failed} == statuses
    assert {f"begin {order}" for order in range(0, count, 7)} == set(undone)
