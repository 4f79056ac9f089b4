"""Asynchronous iterators: closed with their reader, cut to size."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


@asynccontextmanager
async def closing(items: AsyncIterator[T]) -> AsyncGenerator[AsyncIterator[T]]:
    """Close an iterator that has something to close, however its reader ends."""
    try:
        yield items
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()


async def cut_to(size: int, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Yield the same bytes in chunks of `size`; the last may be shorter."""
    waiting = bytearray()
    async with closing(chunks):
        async for chunk in chunks:
            waiting += chunk
            whole = len(waiting) - len(waiting) % size
            for position in range(0, whole, size):
                yield bytes(waiting[position : position + size])
            del waiting[:whole]
    if waiting:
        yield bytes(waiting)
