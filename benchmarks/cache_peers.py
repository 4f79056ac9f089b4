"""The caches that are measured side by side: ours, the bare clients that are the limit, and the peers as they come.

The bare clients encode as we do, with MessagePack by msgspec, and wait for the server's word as we do; the peers have
their own encodings and manners.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiocache  # pyright: ignore[reportMissingTypeStubs]
import cashews
import dogpile.cache
import msgspec
import pymemcache  # pyright: ignore[reportMissingTypeStubs]
import redis
import redis.asyncio
from pilotis import Cache
from pilotis.providers import CacheProvider, Context
from pilotis_cache_memcached import MemcachedCache, MemcachedCacheOptions
from pilotis_cache_memory import MemoryCache, MemoryCacheOptions
from pilotis_cache_redis import RedisCache, RedisCacheOptions

TTL = 300
VALUE = {"id": 17, "name": "lamp", "price": 12.5, "tags": ["new", "light"]}
DJANGO = {
    "memory": "django.core.cache.backends.locmem.LocMemCache",
    "redis": "django.core.cache.backends.redis.RedisCache",
    "memcached": "django.core.cache.backends.memcached.PyMemcacheCache",
}

encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode
_aiocache: Any = aiocache
_dogpile: Any = dogpile.cache


@dataclass(frozen=True)
class Candidate:
    """The verbs of a cache; awaited under a loop."""

    get: Callable[[str], Any]
    set: Callable[[str, Any], Any]
    get_many: Callable[[list[str]], Any]
    cached: Callable[[int], Any] | None
    """A function of a number whose results it keeps, where it has such a decorator."""


class Addresses(NamedTuple):
    """Where the servers are, as host and port on this machine."""

    redis_port: int
    memcached_port: int

    @property
    def redis(self) -> str:
        return f"redis://127.0.0.1:{self.redis_port}/0"

    @property
    def memcached(self) -> str:
        return f"127.0.0.1:{self.memcached_port}"


def product(number: int) -> Any:
    return VALUE


async def aproduct(number: int) -> Any:
    return VALUE


# Ours


def pilotis_cache(backend: str, at: Addresses, **settings: Any) -> Cache:
    """Return one of ours, with room for all that is put into it in memory."""
    providers: dict[str, Callable[[], CacheProvider]] = {
        "memory": lambda: MemoryCache(MemoryCacheOptions(max_entries=1_000_000)),
        "redis": lambda: RedisCache(RedisCacheOptions(url=at.redis)),
        "memcached": lambda: MemcachedCache(MemcachedCacheOptions(url=f"memcached://{at.memcached}")),
    }
    return Cache(providers[backend](), context=Context(name="bench"), **settings)


def pilotis(cache: Cache) -> Candidate:
    return Candidate(
        cache.get,
        lambda key, value: cache.set(key, value, ttl=TTL),
        cache.get_many,
        cache.cached(ttl=TTL, key="cached:{number}")(product),
    )


def apilotis(cache: Cache) -> Candidate:
    return Candidate(
        cache.aget,
        lambda key, value: cache.aset(key, value, ttl=TTL),
        cache.aget_many,
        cache.cached(ttl=TTL, key="cached:{number}")(aproduct),
    )


# The limit


Read = Callable[[str], Any]
Write = Callable[[str, bytes], Any]
ReadMany = Callable[[list[str]], Any]


def bare(read: Read, write: Write, read_many: ReadMany) -> Candidate:
    """Return a client, with our encoding around it: `read_many(keys)` returns what it has by key."""

    def get(key: str) -> Any:
        return decode(read(key))

    def cached(number: int) -> Any:
        key = f"bare:cached:{number}"
        data = read(key)
        if data is not None:
            return decode(data)
        value = product(number)
        write(key, encode(value))
        return value

    return Candidate(
        get,
        lambda key, value: write(key, encode(value)),
        lambda keys: {key: decode(data) for key, data in read_many(keys).items()},
        cached,
    )


def abare(read: Read, write: Write, read_many: ReadMany) -> Candidate:
    """Return the same of a client that is awaited."""

    async def get(key: str) -> Any:
        return decode(await read(key))

    async def get_many(keys: list[str]) -> Any:
        return {key: decode(data) for key, data in (await read_many(keys)).items()}

    async def cached(number: int) -> Any:
        key = f"bare:cached:{number}"
        data = await read(key)
        if data is not None:
            return decode(data)
        value = await aproduct(number)
        await write(key, encode(value))
        return value

    return Candidate(get, lambda key, value: write(key, encode(value)), get_many, cached)


def plain_dict() -> Candidate:
    kept: dict[str, bytes] = {}
    return bare(kept.get, kept.__setitem__, lambda keys: {key: kept[key] for key in keys})


def redis_py(at: Addresses) -> Candidate:
    client: Any = redis.Redis(port=at.redis_port, protocol=2)
    run = client.execute_command
    return bare(
        lambda key: run("GET", key),
        lambda key, data: run("SET", key, data, "PX", TTL * 1000),
        lambda keys: dict(zip(keys, run("MGET", *keys), strict=True)),
    )


def aredis_py(at: Addresses, stack: AsyncExitStack) -> Candidate:
    client: Any = redis.asyncio.Redis(port=at.redis_port, protocol=2)
    stack.push_async_callback(client.aclose)
    run = client.execute_command

    async def read_many(keys: list[str]) -> Mapping[str, bytes]:
        return dict(zip(keys, await run("MGET", *keys), strict=True))

    return abare(lambda key: run("GET", key), lambda key, data: run("SET", key, data, "PX", TTL * 1000), read_many)


def _pymemcache(at: Addresses) -> Any:
    client: Any = pymemcache.Client
    return client(("127.0.0.1", at.memcached_port), no_delay=True, default_noreply=False)


def bare_pymemcache(at: Addresses) -> Candidate:
    client = _pymemcache(at)
    return bare(client.get, lambda key, data: client.set(key, data, expire=TTL), client.get_many)


def pymemcache_on_a_thread(at: Addresses) -> Candidate:
    client = _pymemcache(at)
    return abare(
        lambda key: asyncio.to_thread(client.get, key),
        lambda key, data: asyncio.to_thread(client.set, key, data, expire=TTL),
        lambda keys: asyncio.to_thread(client.get_many, keys),
    )


# Peers


def dogpile_region(backend: str, **arguments: Any) -> Candidate:
    region = _dogpile.make_region().configure(f"dogpile.cache.{backend}", arguments=arguments, expiration_time=TTL)
    return Candidate(region.get, region.set, region.get_multi, region.cache_on_arguments()(product))


def set_up_django(at: Addresses) -> None:
    """Do it once in a process. Django has its settings in a place of the process's own."""
    from django.conf import settings as _settings  # pyright: ignore[reportMissingTypeStubs]

    settings: Any = _settings
    locations = {"memory": "", "redis": at.redis, "memcached": at.memcached}
    caches = {name: {"BACKEND": kind, "LOCATION": locations[name]} for name, kind in DJANGO.items()}
    settings.configure(CACHES=caches | {"default": caches["memory"]})


def django_cache(backend: str) -> Any:
    from django.core.cache import caches as _caches  # pyright: ignore[reportMissingTypeStubs]

    caches: Any = _caches
    return caches[backend]


def django(backend: str) -> Candidate:
    cache = django_cache(backend)
    return Candidate(cache.get, lambda key, value: cache.set(key, value, TTL), cache.get_many, None)


def adjango(backend: str) -> Candidate:
    cache = django_cache(backend)
    return Candidate(cache.aget, lambda key, value: cache.aset(key, value, TTL), cache.aget_many, None)


def cashews_cache(url: str, stack: AsyncExitStack) -> Candidate:
    cache: Any = cashews.Cache()
    cache.setup(url)
    stack.push_async_callback(cache.close)
    return Candidate(
        cache.get,
        lambda key, value: cache.set(key, value, expire=TTL),
        lambda keys: cache.get_many(*keys),
        cache(ttl=TTL, key="cashews:cached:{number}")(aproduct),
    )


def aiocache_cache(kind: str, stack: AsyncExitStack, **arguments: Any) -> Candidate:
    def key_of(_: object, number: int) -> str:
        return f"aiocache:cached:{number}"

    cached: Any = _aiocache.cached(TTL, key_builder=key_of, cache=getattr(_aiocache, kind), **arguments)(aproduct)
    cache = cached.cache
    stack.push_async_callback(cache.close)
    return Candidate(cache.get, lambda key, value: cache.set(key, value, ttl=TTL), cache.multi_get, cached)


# All of them


def candidates(backend: str, at: Addresses, ours: Mapping[str, Cache]) -> dict[str, Candidate]:
    """Return ours, the limit and the peers of a backend, by name, for blocking use."""
    others: dict[str, Callable[[], dict[str, Candidate]]] = {
        "memory": lambda: {
            "dict": plain_dict(),
            "dogpile memory": dogpile_region("memory"),
            "dogpile memory_pickle": dogpile_region("memory_pickle"),
        },
        "redis": lambda: {"redis-py": redis_py(at), "dogpile": dogpile_region("redis", url=at.redis)},
        "memcached": lambda: {
            "pymemcache": bare_pymemcache(at),
            "dogpile": dogpile_region("pymemcache", url=[at.memcached]),
        },
    }
    caches = {name: pilotis(cache) for name, cache in ours.items()}
    return caches | others[backend]() | {"Django": django(backend)}


def async_candidates(
    backend: str, at: Addresses, ours: Mapping[str, Cache], stack: AsyncExitStack
) -> dict[str, Candidate]:
    """Return the same for the running loop; `stack` closes them."""
    place = {"endpoint": "127.0.0.1", "port": at.memcached_port if backend == "memcached" else at.redis_port}
    others: dict[str, Callable[[], dict[str, Candidate]]] = {
        "memory": lambda: {
            "dict": _awaited(plain_dict()),
            "cashews": cashews_cache("mem://", stack),
            "aiocache": aiocache_cache("SimpleMemoryCache", stack),
        },
        "redis": lambda: {
            "redis-py": aredis_py(at, stack),
            "cashews": cashews_cache(at.redis, stack),
            "aiocache": aiocache_cache("RedisCache", stack, **place),
        },
        "memcached": lambda: {
            "pymemcache on a thread": pymemcache_on_a_thread(at),
            "aiocache": aiocache_cache("MemcachedCache", stack, **place),
        },
    }
    caches = {name: apilotis(cache) for name, cache in ours.items()}
    return caches | others[backend]() | {"Django": adjango(backend)}


def _awaited(candidate: Candidate) -> Candidate:
    """Return what does the same in coroutines."""

    def awaited(function: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*arguments: Any) -> Any:
            return function(*arguments)

        return call

    cached = candidate.cached and awaited(candidate.cached)
    return Candidate(awaited(candidate.get), awaited(candidate.set), awaited(candidate.get_many), cached)
