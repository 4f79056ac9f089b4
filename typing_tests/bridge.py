"""What pyright infers for a blocking twin: the signature of its original, overloads and type variables included."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar, assert_type, overload

from pilotis.bridge import blocking, blocking_iterator

T = TypeVar("T")
D = TypeVar("D")


class Shelf:
    @overload
    async def aget(self, key: str) -> Any: ...
    @overload
    async def aget(self, key: str, default: D) -> Any | D: ...
    @overload
    async def aget(self, key: str, default: D = ..., *, type: type[T]) -> T | D: ...
    async def aget(self, key: str, default: Any = None, *, type: Any = Any) -> Any:
        return default

    get = blocking(aget)

    async def acompute(self, key: str, factory: Callable[[], Awaitable[T]] | Callable[[], T]) -> T: ...  # type: ignore[empty-body]

    compute = blocking(acompute)

    async def aitems(self, kind: type[T]) -> AsyncIterator[T]:
        yield kind()

    items = blocking_iterator(aitems)

    async def __aenter__(self) -> Shelf:
        return self

    __enter__ = blocking(__aenter__)

    async def __aexit__(self, *error: object) -> None: ...

    __exit__ = blocking(__aexit__)


def check_blocking(shelf: Shelf) -> None:
    assert_type(shelf.get("k", "none", type=int), int | str)
    assert_type(shelf.compute("k", lambda: 3), int)
    assert_type(shelf.items(int), Iterator[int])
    with shelf as entered:
        assert_type(entered, Shelf)
    shelf.get()  # pyright: ignore[reportCallIssue] - the key is required
    shelf.get(3)  # pyright: ignore[reportCallIssue, reportArgumentType] - the key is text


async def check_async(shelf: Shelf) -> None:
    assert_type(await shelf.aget("k", "none", type=int), int | str)
    assert_type(await shelf.acompute("k", lambda: 3), int)
