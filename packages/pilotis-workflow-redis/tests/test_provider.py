"""What only the Redis provider has: lost answers, deaths, rings, options."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from pilotis import Pilotis
from pilotis.bridge import drive, run_blocking
from pilotis.errors import ConnectionFailedError, InvalidInputError
from pilotis.providers import Ending, Letter, RunQuery
from pilotis_testing import Colour
from pilotis_testing.chaos import eventually
from pilotis_testing.redis import tell
from pilotis_testing.workflow_words import FLOWS, a_run, claim, fence, waiting
from pilotis_workflow_redis import RedisWorkflows, RedisWorkflowsOptions

BASE = "{pilotis:workflows:pilotis}"
Make = Callable[..., RedisWorkflows]


# Options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"namespace": "a b"}, "namespace: expected 1 to 200 characters without spaces and braces"),
        ({"namespace": "{shop}"}, "namespace: expected"),
        ({"liveness": 0.1}, "liveness: expected"),
        ({"stall": 0}, "stall: expected"),
        ({"max_crashes": 0}, "max_crashes: expected 1 or more, got 0"),
        ({"url": "http://localhost"}, "url: expected one that begins with"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], said: str) -> None:
    """Before anything is connected, naming the option."""
    with pytest.raises(InvalidInputError, match=re.escape(said)):
        RedisWorkflowsOptions(**options)


def test_an_address_without_a_server_is_told_at_the_start() -> None:
    """With the module, the provider and the address, and without the password."""
    settings = {
        "name": "shop",
        "workflow": {"url": "redis://:hush@127.0.0.1:1/0", "connect_timeout": 0.2, "reconnects": 0},
    }
    with pytest.raises(
        ConnectionFailedError, match=r"workflow provider 'redis' \(redis://127\.0\.0\.1:1/0\)"
    ) as caught:
        Pilotis(settings).open()
    assert "hush" not in str(caught.value)


def test_services_do_not_see_one_another(make: Make) -> None:
    """Not even where their names contain what ends a hash tag."""
    stores = [make() for _ in range(3)]
    for store, name in zip(stores, ("shop", "sh{op", "sh%7Bop"), strict=True):
        store.context = replace(store.context, name=name)
        drive(store.start(a_run("r", name=name)))
    assert [["shop"], ["sh{op"], ["sh%7Bop"]] == [
        [run.name for run in drive(store.find(RunQuery()))] for store in stores
    ]


# What is kept


async def test_nothing_is_left_of_a_run_whose_retention_is_over(
    store: RedisWorkflows, redis_url: str, colour: Colour
) -> None:
    """Neither of its journal, nor its mailbox, nor its waits."""
    before = set(tell(redis_url, "KEYS", "*"))
    await store.start(a_run("r1", retention=0.001))
    mine = fence(await claim(store))
    await store.park(mine, [waiting("s", signal="go"), waiting("t", 1, due=store.context.clock.time() + 60)], None)
    for name in ("go", "early"):
        await store.signal("r1", name, Letter(b"1"), f"id of {name}")
    await store.finish(fence(await claim(store)), Ending(status="completed", result=b"1"))
    await run_blocking(eventually, lambda: drive(store.fire()) is None)
    left = {key.decode().removeprefix(f"{BASE}:").partition(":")[0] for key in tell(redis_url, "KEYS", "*")}
    assert not before
    assert {"names", "seq", "hands", "w", "wi", "o", "b", "news", "i"} >= left
    assert 0 == tell(redis_url, "HLEN", f"{BASE}:o:w")


async def test_notices_cost_nothing_where_nobody_listens(store: RedisWorkflows, redis_url: str, colour: Colour) -> None:
    """They are kept from the first question on."""
    await store.start(a_run("before"))
    assert 0 == tell(redis_url, "EXISTS", f"{BASE}:notices")
    _, cursor = await store.notices(None, 0)
    await store.start(a_run("after"))
    notices, _ = await store.notices(cursor, 0)
    assert [("run.started", "after")] == [(it.event, it.run.id) for it in notices]


async def test_notices_go_when_nobody_asks_any_more(store: RedisWorkflows, redis_url: str, colour: Colour) -> None:
    """They tell of runs whose retention may be over. Each question keeps them on, and so does what it was about."""
    _, cursor = await store.notices(None, 0)
    await store.start(a_run("r1"))
    first = tell(redis_url, "PTTL", f"{BASE}:notices")
    tell(redis_url, "PEXPIRE", f"{BASE}:notices", 300_000)
    _, cursor = await store.notices(cursor, 0)
    second = tell(redis_url, "PTTL", f"{BASE}:notices")
    assert [True, True] == [300_000 < left <= 600_000 for left in (first, second)]


async def test_find_looks_only_at_what_fits(store: RedisWorkflows, colour: Colour) -> None:
    """Page by page, the newest of all names and states first, however many there are."""
    for number in range(240):
        await store.start(a_run(f"r{number}", name=f"flow-{number % 3}", created=float(number // 2)))
    found = [run.id for run in await store.find(RunQuery(limit=200))]
    assert [f"r{number}" for number in range(239, 39, -1)] == found
    names = [run.id for run in await store.find(RunQuery(name="flow-1", limit=70, until=100.0))]
    assert [f"r{number}" for number in range(201, -1, -1) if number % 3 == 1][:70] == names


async def test_a_letter_with_any_bytes_arrives_whole(store: RedisWorkflows, colour: Colour) -> None:
    """Names, keys and ids with spaces, colons and characters of any script, too."""
    id, signal, result = "ordre: é/1 2", "@child:a b:c", bytes(range(256))
    await store.start(a_run(id))
    one = await claim(store)
    await store.park(fence(one), [waiting("clé: 1", signal=signal, due=store.context.clock.time() + 99)], None)
    await store.signal(id, signal, Letter(result))
    again = await claim(store)
    [record] = again.journal
    assert ("clé: 1", "done", result) == (record.key, record.status, record.result)
    await store.park(fence(again), [waiting("12:é", 1, due=store.context.clock.time())], None)
    await store.fire()
    assert ["done", "due"] == [record.status for record in await store.journal(id)]


def test_threads_share_a_provider(store: RedisWorkflows) -> None:
    """Many threads start, claim and end runs at once: each run is ended once."""
    ended: list[str] = []

    def work(worker: str) -> None:
        for number in range(20):
            drive(store.start(a_run(f"{worker}-{number}")))
        while claimed := drive(store.claim(worker, FLOWS, 3, 0)):
            for one in claimed:
                drive(store.finish(fence(one), Ending(status="completed", result=b"1")))
                ended.append(one.run.id)

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(f"w{number}-{at}" for number in range(4) for at in range(20)) == sorted(ended)
