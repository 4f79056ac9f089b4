"""redis-py's clients, with everything set that its defaults leave to luck."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.retry
import redis.sentinel
from redis.backoff import NoBackoff

from pilotis_redis.addresses import Address
from pilotis_redis.options import RedisOptions
from pilotis_redis.pools import AsyncPool, AsyncSentinelPool, Pool, SentinelPool
from pilotis_redis.quick import (
    AsyncConnection,
    AsyncTLSConnection,
    AsyncUnixConnection,
    QuickAsyncClient,
    QuickClient,
)

MOST_WAITING = 1_000
"""Blocking reads of a process, or of an event loop, at once: each has a connection of its own."""


class _Kit(NamedTuple):
    """The classes of one colour."""

    client: Any
    pool: Any
    plain: Any
    tls: Any
    unix: Any
    sentinel: Any
    sentinel_pool: Any
    retry: Any


_BLOCKING = _Kit(
    QuickClient,
    Pool,
    redis.Connection,
    redis.SSLConnection,
    redis.UnixDomainSocketConnection,
    redis.sentinel.Sentinel,
    SentinelPool,
    redis.retry.Retry,
)
_ASYNC = _Kit(
    QuickAsyncClient,
    AsyncPool,
    AsyncConnection,
    AsyncTLSConnection,
    AsyncUnixConnection,
    redis.asyncio.sentinel.Sentinel,
    AsyncSentinelPool,
    redis.asyncio.retry.Retry,
)


def blocking_client(options: RedisOptions, *, is_waiting: bool = False) -> Any:
    """Return a client for threads. One for blocking reads has no time-out on answers.

    No I/O, except for a cluster, whose nodes are asked which of them has what.
    """
    if options.address.kind == "cluster":
        return _blocking_cluster(options, is_waiting)
    return _client(_BLOCKING, options, is_waiting)


def async_client(options: RedisOptions, *, is_waiting: bool = False) -> Any:
    """Return a client for the tasks of the running loop. No I/O."""
    if options.address.kind == "cluster":
        return _async_cluster(options, is_waiting)
    return _client(_ASYNC, options, is_waiting)


def _client(kit: _Kit, options: RedisOptions, is_waiting: bool) -> Any:
    address = options.address
    make_pool = functools.partial(kit.pool, connection_class=_connection_class(kit, options))
    settings = _settings(options, is_waiting) | _retries(kit) | {"db": address.database}
    if address.kind == "unix":
        settings["path"] = address.path
    elif address.kind == "server":
        (settings["host"], settings["port"]) = address.nodes[0]
    else:
        make_pool = functools.partial(kit.sentinel_pool, address.service, _sentinels(kit, options), ssl=options.is_tls)
    if address.kind != "unix":
        settings["socket_keepalive"] = True
    size = MOST_WAITING if is_waiting else options.max_connections
    pool = make_pool(max_connections=size, timeout=options.timeout, **settings)
    pool.reconnects = options.reconnects
    return kit.client.from_pool(pool)


def _connection_class(kit: _Kit, options: RedisOptions) -> Any:
    if options.address.kind == "unix":
        return kit.unix
    return kit.tls if options.is_tls else kit.plain


def _settings(options: RedisOptions, is_waiting: bool) -> dict[str, Any]:
    """Return the settings of connections of every kind."""
    address = options.address
    return {
        "username": address.username,
        "password": address.password,
        "socket_timeout": None if is_waiting else options.timeout,
        "socket_connect_timeout": options.connect_timeout,
        "protocol": options.protocol,
        "client_name": options.client_name,
    } | (_tls(options) if options.is_tls else {})


def _retries(kit: _Kit) -> dict[str, Any]:
    """Return the setting that sends no command twice: nobody knows what became of the first."""
    return {"retry": kit.retry(NoBackoff(), 0)}


def _tls(options: RedisOptions) -> dict[str, Any]:
    files = {"ssl_ca_certs": options.tls_ca, "ssl_certfile": options.tls_cert, "ssl_keyfile": options.tls_key}
    return {
        "ssl_cert_reqs": "required" if options.tls_verify else "none",
        "ssl_check_hostname": options.tls_verify,
    } | {name: str(path) for name, path in files.items() if path is not None}


def _sentinels(kit: _Kit, options: RedisOptions) -> Any:
    settings: dict[str, Any] = {
        "username": options.sentinel_username,
        "password": options.sentinel_password,
        "socket_timeout": options.connect_timeout,
        "socket_connect_timeout": options.connect_timeout,
        "protocol": options.protocol,
    } | ({"ssl": True} | _tls(options) if options.is_tls else {})
    return kit.sentinel(options.address.nodes, sentinel_kwargs=settings | _retries(kit))


def _blocking_cluster(options: RedisOptions, is_waiting: bool) -> Any:
    from redis.cluster import ClusterNode, RedisCluster

    address = options.address
    return RedisCluster(
        url=f"{'rediss' if options.is_tls else 'redis'}://{_first(address)}",  # only so does it take a class of pools
        startup_nodes=[ClusterNode(host, port) for host, port in address.nodes],
        connection_pool_class=Pool,
        max_connections=MOST_WAITING if is_waiting else options.max_connections,
        timeout=options.timeout,
        socket_keepalive=True,
        **_settings(options, is_waiting),
        **_retries(_BLOCKING),
    )


def _async_cluster(options: RedisOptions, is_waiting: bool) -> Any:
    from redis.asyncio.cluster import ClusterNode, RedisCluster

    return RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in options.address.nodes],
        ssl=options.is_tls,
        max_connections=2**31,  # its nodes cannot have anybody wait: they fail the one who is too many
        **_settings(options, is_waiting),
        **_retries(_ASYNC),
    )


def _first(address: Address) -> str:
    host, port = address.nodes[0]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
