"""What the parts of the file suite share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pilotis.modules.file import FileStore
from pilotis.providers import Context, FileCapability, FileProvider

from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import Colour
from pilotis_testing.conformance import Conformance

MIB = 1024 * 1024
LARGE = bytes(range(256)) * (10 * 1024) + b"end"
"""Two and a half MiB, and a little more: several chunks, the last one short."""


class BrokenSourceError(Exception):
    """What a user's own iterator raises in these tests."""


class FileTests(Conformance):
    """The fixtures."""

    @pytest.fixture
    def files(self, provider: FileProvider, clock: ManualClock, colour: Colour) -> Iterator[Any]:
        """The portable class before the provider, speaking in the colour of the test."""
        context = Context(clock=clock)
        store = FileStore(provider, context=context)
        yield colour.voice(store)
        store.close()
        context.runtime.stop()


def has(provider: FileProvider, capability: FileCapability) -> bool:
    """Tell whether the provider declares the capability."""
    return capability in provider.capabilities


def breaking(*chunks: bytes) -> Iterator[bytes]:
    """Yield chunks, and then fail."""
    yield from chunks
    raise BrokenSourceError


async def slowly(*chunks: bytes) -> AsyncIterator[bytes]:
    """Yield chunks from an asynchronous generator."""
    for chunk in chunks:
        yield chunk


async def keys(files: Any, prefix: str = "", delimiter: str | None = None) -> list[str]:
    """Return the keys that are listed."""
    return [info.key async for info in files.list(prefix, delimiter=delimiter)]
