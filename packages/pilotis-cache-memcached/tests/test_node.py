"""Threads that take turns with the connections to one server."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from pilotis_cache_memcached.node import Node
from pilotis_cache_memcached.options import MemcachedCacheOptions
from pilotis_testing.clock import until


def node_at(address: str, connections: int) -> Node:
    """Return a pool of some connections to a server."""
    host, _, port = address.partition(":")
    options = MemcachedCacheOptions(url=f"memcached://{address}", max_connections=connections, timeout=30)
    return Node((host, int(port)), options, lambda: None)


def test_who_has_had_his_turn_comes_last(memcached_address: str) -> None:
    """A thread that asks again and again holds up nobody who waits for the same connection."""
    node = node_at(memcached_address, connections=1)
    order: list[str] = []
    waiting = threading.Thread(target=lambda: node.call(lambda _: order.append("waiting")), daemon=True)

    def begin(_: Any) -> None:
        waiting.start()
        until(lambda: node.waiting == 1)
        time.sleep(0.01)  # so that it is asleep, and not about to look

    node.call(begin)
    node.call(lambda _: order.append("again"))
    waiting.join(10)
    assert order == ["waiting", "again"]
    node.close()


def test_a_lost_connection_leaves_the_others_in_use(memcached_address: str) -> None:
    """There is room for another one then, and those that are in order are used first."""
    node = node_at(memcached_address, connections=2)
    seen: list[Any] = []

    def fail(client: Any) -> None:
        node.call(seen.append)
        raise ValueError("whatever")

    with pytest.raises(ValueError, match="whatever"):
        node.call(fail)
    node.call(seen.append)
    first, second = seen
    assert first is second
    node.close()
