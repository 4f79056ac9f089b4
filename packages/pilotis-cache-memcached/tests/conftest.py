"""A second server, and another client of the first one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pilotis_testing.servers import MemcachedServer, empty_memcached, running
from pymemcache import Client  # pyright: ignore[reportMissingTypeStubs]


@pytest.fixture(scope="session")
def _other_memcached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = MemcachedServer(tmp_path_factory.mktemp("other-memcached"))
    with running(server):
        yield server.address


@pytest.fixture
def other_memcached_address(_other_memcached: str) -> str:
    """The `host:port` of an empty Memcached beside the first one."""
    empty_memcached(_other_memcached)
    return _other_memcached


@pytest.fixture
def server(memcached_address: str) -> Iterator[Any]:
    """Another client of the same server."""
    host, _, port = memcached_address.partition(":")
    client: Any = Client((host, int(port)), default_noreply=False)
    yield client
    client.close()
