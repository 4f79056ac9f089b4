"""What is particular to locks in Redis: namespaces, options, and what goes wrong with locks elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pilotis.bridge import drive
from pilotis.errors import InvalidInputError, LockNotAcquiredError
from pilotis.modules.locking import Locking
from pilotis.providers import Context
from pilotis.settings.secrets import Secret
from pilotis_locking_redis import RedisLocks, RedisLocksOptions
from pilotis_redis import RedisLink
from pilotis_testing import Colour, ManualClock
from pilotis_testing.chaos import eventually, size
from pilotis_testing.redis import tell
from pilotis_testing.servers import RedisServer

LONG = 120.0

Make = Callable[..., Any]


@pytest.fixture
def make(redis_url: str) -> Iterator[Make]:
    """What makes the locking of one more app."""
    with ExitStack() as stack:

        def made(name: str = "shop", **options: Any) -> Locking:
            context = Context(name=name)
            locking = Locking(RedisLocks(RedisLocksOptions(url=redis_url, **options)), context=context)
            stack.callback(context.runtime.stop)
            stack.callback(locking.close)
            return locking

        yield made


# Namespaces


def test_apps_have_locks_of_their_own(make: Make) -> None:
    """Unless they name the same namespace; whatever is in a name."""
    for name in ("shop", "shop2", "sh}op{", "sh%7Dop", "a b"):
        assert make(name).acquire("a", ttl=LONG).token > 0
    make("shop", namespace="common").acquire("a", ttl=LONG)
    with pytest.raises(LockNotAcquiredError):
        make("shop2", namespace="common").acquire("a")


def test_all_keys_of_a_namespace_share_a_hash_tag(make: Make, redis_url: str) -> None:
    """So one lock can be about several keys in a cluster."""
    make("sh}op{").acquire(["a", "b"], ttl=LONG)
    keys: list[bytes] = tell(redis_url, "KEYS", "*")
    assert {b"{pilotis:locks:sh%7Dop%7B}"} == {key.rpartition(b":")[0] for key in keys}


@pytest.mark.parametrize("namespace", ["", "a b", "a{b", "a}b", "x" * 201])
def test_unfit_namespaces_are_refused(namespace: str) -> None:
    """When the options are made, saying what is expected."""
    with pytest.raises(InvalidInputError, match="namespace: expected"):
        RedisLocksOptions(namespace=namespace)


def test_unfit_requests_leave_the_lock_alone(make: Make) -> None:
    """A ttl of zero neither grants nor deletes: elsewhere, extending by it frees the lock and says that it is held."""
    locking = make()
    lease = locking.acquire("a", ttl=LONG)
    for ttl in (0, -1, 0.001):
        with pytest.raises(InvalidInputError, match="ttl"):
            locking.acquire("b", ttl=ttl)
        with pytest.raises(InvalidInputError, match="ttl"):
            lease.extend(ttl)
    unfit: list[dict[str, Any]] = [{"keys": []}, {"keys": "b", "wait": -1}, {"keys": "b", "owner": 7}]
    for terms in unfit:
        with pytest.raises(InvalidInputError):
            locking.acquire(**terms)
    assert locking.inspect("b") is None
    assert lease.release() is True


# What goes wrong elsewhere


def test_names_never_collide(make: Make) -> None:
    """Elsewhere two names of four hundred share a lock, as their hashes do."""
    locking = make()
    leases = [locking.acquire(f"order-{number}", ttl=LONG) for number in range(1_000)]
    assert 1_000 == len({lease.token for lease in leases})


def test_a_renewal_does_not_outlive_the_release(make: Make) -> None:
    """One that was under way changes nothing: it neither revives the lock, nor touches who has it now."""
    locking = make()
    for owner in ("job-7", "job-8"):
        lease = locking.acquire("a", owner="job-7", ttl=LONG)
        lease.release()
        provider: Any = locking._provider
        assert [False] == drive(provider.renew([lease.grant]))
        assert locking.inspect("a") is None
        locking.acquire("a", owner=owner, ttl=LONG)
        assert [False] == drive(provider.renew([lease.grant]))
        locking.release_all(owner)


def test_releasing_all_of_an_owner_touches_nobody_elses(make: Make, hold_shortly: Callable[..., None]) -> None:
    """Not even a key that it held until a moment ago, nor what belongs to one whose name begins alike."""
    locking = make()
    hold_shortly("a", owner="job")
    eventually(lambda: locking.inspect("a") is None)
    locking.acquire("a", owner="job:2", ttl=LONG)
    locking.acquire("b", owner="job", ttl=LONG)
    provider: Any = locking._provider
    assert 0 == drive(provider.release_owner("job", []))
    assert 1 == locking.release_all("job")
    assert 1 == locking.release_all("job:2")


def test_a_release_before_the_waiter_listens_is_not_missed(
    make: Make, monkeypatch: pytest.MonkeyPatch, colour: Colour
) -> None:
    """Whoever has subscribed tries again before it waits."""
    locking = make()
    mine = locking.acquire("a", ttl=LONG)
    listening: Callable[..., Any] = RedisLink.listening

    def too_late(link: RedisLink, channel: str) -> Any:
        if mine.held:
            releasing = threading.Thread(target=mine.release)
            releasing.start()
            releasing.join()
        return listening(link, channel)

    monkeypatch.setattr(RedisLink, "listening", too_late)
    lease = colour.run(colour.voice(make()).acquire("a", ttl=LONG, wait=LONG))
    assert lease.token > mine.token


@pytest.mark.usefixtures("still")
def test_a_clock_that_is_set_back_changes_nothing_for_holders(make: Make, clock: ManualClock) -> None:
    """What is held stays so and is renewed, and tokens go on upwards."""
    locking = make()
    lease = locking.acquire("a", ttl=LONG)
    clock.jump(-3600)
    with pytest.raises(LockNotAcquiredError):
        locking.acquire("a")
    lease.extend()
    assert locking.acquire("b", ttl=LONG).token > lease.token
    assert lease.release() is True
    assert locking.acquire("a", ttl=LONG).token > lease.token


# Many at once


@pytest.mark.campaign
def test_opposite_orders_share_fairly(make: Make) -> None:
    """Ten who want the same keys, named in different orders, never block one another, and each has its share."""
    lockings = [make(max_connections=20) for _ in range(2)]
    counts, inside = [0] * 10, list[int]()
    start = threading.Barrier(10)
    ends = time.monotonic() + size(0, 10)

    def contend(number: int) -> None:
        keys = ["a", "b"] if number % 2 else ["b", "a"]
        start.wait(LONG)
        while sum(counts) < 500 or time.monotonic() < ends:
            with lockings[number % 2].hold(*keys, ttl=LONG, wait=LONG):
                inside.append(number)
                assert ["a", "b"] == [state.key for state in lockings[0].held()]
                assert [number] == inside
                counts[number] += 1
                inside.clear()

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    mean = sum(counts) / 10
    assert mean >= 50
    assert all(mean / 2 <= count <= mean * 2 for count in counts), counts
    assert [] == lockings[0].held()


# Rights


RULES = (
    "+info +ping +eval +evalsha +time +set +get +hget +hmget +hset +hdel +hscan +hrandfield +zadd +zrem +zrangebylex "
    "+zlexcount +pttl +pexpire +publish +pubsub|numsub +subscribe +unsubscribe"
)


@pytest.mark.slow
def test_the_rules_of_the_readme_are_enough(own_redis: RedisServer) -> None:
    """For every verb, and for waiting."""
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert RULES in " ".join(readme.split())
    rights = [*RULES.split(), "~{pilotis:locks:*", "&{pilotis:locks:*", "&pilotis:listening"]
    tell(own_redis.url, "ACL", "SETUSER", "locker", "on", ">secret", *rights)
    context = Context(name="shop")
    options = RedisLocksOptions(url=own_redis.url, username="locker", password=Secret("secret"))
    locking = Locking(RedisLocks(options), context=context)
    mine = locking.acquire(["a", "b"], ttl=2)
    with locking.hold("b", wait=LONG):
        assert not mine.held
        assert locking.inspect("b") is not None
        assert locking.held("b")
        locking.acquire("c", ttl=LONG)
        assert 1 == locking.break_lock("c")
        locking.acquire("c", owner="job-7", ttl=LONG)
        assert 1 == locking.release_all("job-7")
        locking.acquire("c", shared=True).release()
    locking.close()
    context.runtime.stop()
