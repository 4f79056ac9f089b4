"""A second server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pilotis_testing.servers import MemcachedServer, empty_memcached, running


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
