"""The pytest plugin: runs `async def` tests, in both colours where they ask for `colour`, and lends real servers."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pilotis.providers import Context

from pilotis_testing import postgres, redis
from pilotis_testing.clock import ManualClock, until
from pilotis_testing.colours import Colour
from pilotis_testing.s3 import S3Proxy, S3Space, space, standing
from pilotis_testing.sendgrid import SendGridServer
from pilotis_testing.servers import (
    MEMCACHED_VARIABLE,
    REDIS_VARIABLE,
    MemcachedServer,
    RedisServer,
    empty_memcached,
    memcached_items,
    running,
)

LEAK_SECONDS = 5.0


@pytest.fixture(params=list(Colour), ids=lambda colour: colour.value)
def colour(request: pytest.FixtureRequest) -> Colour:
    """Both colours, one after the other."""
    return request.param


@pytest.fixture
def clock() -> ManualClock:
    """A clock that moves when told to."""
    return ManualClock()


@pytest.fixture
def context(clock: ManualClock) -> Iterator[Context]:
    """The surroundings of a module, on a clock that is moved by hand; its threads end with the test."""
    context = Context(clock=clock)
    yield context
    context.runtime.stop()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis for the whole run. Tests leave it running; one to be ill-treated is `own_redis`."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    with running(server):
        yield server


@pytest.fixture(scope="session")
def _redis_at(request: pytest.FixtureRequest) -> str:
    """The URL of a Redis, whose database is empty when the run begins."""
    url = os.environ.get(REDIS_VARIABLE)
    if url is None:
        return request.getfixturevalue("redis_server").url
    _refuse_used(REDIS_VARIABLE, redis.keys_in(url))
    return url


@pytest.fixture
def redis_url(_redis_at: str) -> str:
    """The URL of an empty database: of PILOTIS_TEST_REDIS_URL, or of a server that is started for the run."""
    redis.empty(_redis_at)
    return _redis_at


@pytest.fixture(scope="session")
def _redis_cluster_at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a cluster for the whole run."""
    with redis.running_cluster([tmp_path_factory.mktemp("node") for _ in range(3)]) as url:
        yield url


@pytest.fixture
def redis_cluster_url(_redis_cluster_at: str) -> str:
    """The URL of an empty cluster of three nodes, started for the run, whatever the variables say."""
    redis.empty(_redis_cluster_at)
    return _redis_cluster_at


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own: to restart, pause and kill."""
    server = RedisServer(tmp_path)
    with running(server):
        yield server


@pytest.fixture
def durable_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own that has on its disk all that it answered."""
    folder = tmp_path / "durable-redis"
    folder.mkdir()
    server = RedisServer(folder, "--appendonly", "yes", "--appendfsync", "always")
    with running(server):
        yield server


@pytest.fixture(scope="session")
def memcached_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemcachedServer]:
    """A Memcached for the whole run."""
    server = MemcachedServer(tmp_path_factory.mktemp("memcached"))
    with running(server):
        yield server


@pytest.fixture(scope="session")
def _memcached_at(request: pytest.FixtureRequest) -> str:
    """The address of a Memcached that is empty when the run begins."""
    address = os.environ.get(MEMCACHED_VARIABLE)
    if address is None:
        return request.getfixturevalue("memcached_server").address
    _refuse_used(MEMCACHED_VARIABLE, memcached_items(address))
    return address


@pytest.fixture
def memcached_address(_memcached_at: str) -> str:
    """The `host:port` of an empty Memcached: of PILOTIS_TEST_MEMCACHED, or of one that is started for the run."""
    empty_memcached(_memcached_at)
    return _memcached_at


@pytest.fixture
def own_memcached(tmp_path: Path) -> Iterator[MemcachedServer]:
    """A Memcached of the test's own: to restart, pause and kill."""
    server = MemcachedServer(tmp_path)
    with running(server):
        yield server


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[Path]:
    """The files of a new PostgreSQL, to be copied."""
    with postgres.cluster() as place:
        yield place


@pytest.fixture(scope="session")
def postgres_server(postgres_cluster: Path) -> Iterator[postgres.PostgresServer]:
    """A PostgreSQL for the whole run. Tests leave it running; one to be ill-treated is `own_postgres`."""
    with postgres.running_postgres(template=postgres_cluster) as server:
        yield server


@pytest.fixture(scope="session")
def _postgres_database(request: pytest.FixtureRequest) -> Iterator[postgres.Database]:
    """A database of this run's own."""
    lasting = os.environ.get(postgres.VARIABLE)
    database = postgres.Database(lasting or request.getfixturevalue("postgres_server").url)
    database.make()
    yield database
    if lasting:
        database.remove()


@pytest.fixture
def postgres_url(_postgres_database: postgres.Database) -> str:
    """The URL of an empty database: at PILOTIS_TEST_POSTGRES_URL, or on a server that is started for the run."""
    _postgres_database.empty()
    return _postgres_database.url


@pytest.fixture
def own_postgres(postgres_cluster: Path) -> Iterator[postgres.PostgresServer]:
    """A PostgreSQL of the test's own: to restart, pause and kill."""
    with postgres.running_postgres(template=postgres_cluster) as server:
        yield server


@pytest.fixture
def pgbouncer(postgres_url: str) -> Iterator[postgres.PgBouncer]:
    """A pooler before the database of `postgres_url`, which lends its connections for a transaction each."""
    with postgres.running_pgbouncer(postgres_url) as pooler:
        yield pooler


@pytest.fixture(scope="session")
def s3_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Proxy]:
    """moto's server for the whole run, behind a proxy that checks what moto does not."""
    with standing(tmp_path_factory.mktemp("s3")) as proxy:
        yield proxy


@pytest.fixture
def s3(s3_proxy: S3Proxy) -> Iterator[S3Space]:
    """An empty bucket on S3, with what is needed to reach it and to make trouble."""
    with space(s3_proxy) as lent:
        yield lent


@pytest.fixture
def s3_url(s3: S3Space) -> str:
    """The URL of an empty bucket, with its credentials, as settings take it."""
    return s3.url


def _refuse_used(variable: str, entries: int) -> None:
    """Fail rather than empty what somebody uses: tests remove all there is."""
    if entries:
        pytest.fail(f"{variable}: expected an empty database, as tests empty it; this one has {entries} entries")


@pytest.fixture
def sendgrid_server() -> Iterator[SendGridServer]:
    """A server of the test's own that takes mails as SendGrid does, and sends none."""
    with SendGridServer().running() as server:
        yield server


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Fail the test if a thread that it started is still alive some seconds after it.

    Idle helper threads of the bridge are no leak: they are daemons, are reused, and end by themselves.
    """
    before = set(threading.enumerate())
    yield
    with contextlib.suppress(AssertionError):
        until(lambda: not _left(before), LEAK_SECONDS)
    assert [] == _left(before), "threads were left behind"


def _left(before: set[threading.Thread]) -> list[threading.Thread]:
    return [thread for thread in set(threading.enumerate()) - before if thread.name != "pilotis-call"]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def` test: in the colour of its `colour` fixture, else under asyncio."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    colour = pyfuncitem.funcargs.get("colour")
    if isinstance(colour, Colour):
        colour.run(pyfuncitem.obj(**arguments))
    else:
        asyncio.run(pyfuncitem.obj(**arguments))
    return True
