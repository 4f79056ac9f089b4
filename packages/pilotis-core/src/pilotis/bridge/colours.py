"""One coroutine, two colours: `get = blocking(aget)`.

In blocking use a coroutine is driven to its end on the calling thread by a single `send`: nothing in it
suspends, because everything it awaits sees that no loop is running and blocks instead.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import logging
import types
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from typing import Any, NoReturn, ParamSpec, TypeVar, cast

from pilotis.bridge.mode import blocked_loops, running_loop
from pilotis.bridge.threads import THREADS
from pilotis.errors import BlockingCallInEventLoopError, SuspendedError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

logger = logging.getLogger("pilotis.bridge")


def blocking(verb: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, R]:
    """Make the blocking twin of an `async def` method, with the same signature.

    On a thread whose event loop runs, the twin raises `BlockingCallInEventLoopError`; an object whose
    `blocking_in_loop` is "thread" has it run on a helper thread instead, for notebooks.
    """
    name = _blocking_name(verb)
    begin: Callable[..., Coroutine[Any, Any, Any]] = verb
    at_once: Callable[..., Coroutine[Any, Any, Any]] | None = getattr(verb, "at_once", None)

    def call(*args: Any, **kwargs: Any) -> Any:  # with self: to take it apart, and put it back, takes time
        if running_loop() is not None:
            return _called_in_loop(verb, name, args, kwargs)
        coroutine = begin(*args, **kwargs) if at_once is None or not args[0].hot else at_once(*args, **kwargs)
        try:
            yielded = coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        except RuntimeError as error:
            _explain(error)
            raise
        return _suspended(coroutine, yielded, type(args[0]).__name__, name)

    return _dress(call, verb, name)


def blocking_iterator(verb: Callable[P, AsyncIterator[T]]) -> Callable[P, Iterator[T]]:
    """Make the blocking twin of a method that is an asynchronous generator."""
    name = _blocking_name(verb)
    begin: Callable[..., AsyncIterator[Any]] = verb

    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if running_loop() is not None and not _may_block(self):
            refuse(name, f"async for ... in x.{verb.__name__}(...)")
        return _iterate(self, begin(self, *args, **kwargs), name)

    return _dress(call, verb, name)


def drive(coroutine: Coroutine[Any, Any, R], name: str = "run") -> R:
    """Run a coroutine to its end on this thread, without an event loop."""
    if running_loop() is not None:
        coroutine.close()
        refuse(name, "await")
    try:
        yielded = coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    except RuntimeError as error:
        _explain(error)
        raise
    return _suspended(coroutine, yielded, coroutine.__qualname__, name)


def refuse(name: str, instead: str) -> NoReturn:
    """Raise the error of a blocking call on a thread whose event loop runs."""
    raise BlockingCallInEventLoopError(
        f"{name} was called on a thread whose event loop is running, and would stop it. "
        f'Use `{instead}`. (In a notebook: blocking_in_loop = "thread" in the settings.)'
    )


def _blocking_name(verb: Callable[..., Any]) -> str:
    name = verb.__name__
    return name.replace("__a", "__", 1) if name.startswith("__a") else name.removeprefix("a")


def _dress(call: Callable[..., Any], verb: Callable[..., Any], name: str) -> Any:
    """Give the twin the face of its original, and a frame that reads `in get` in tracebacks."""
    functools.update_wrapper(call, verb)
    assert isinstance(call, types.FunctionType)
    call.__name__ = name
    call.__qualname__ = f"{verb.__qualname__.rpartition('.')[0]}.{name}".lstrip(".")
    call.__code__ = call.__code__.replace(co_name=name, co_qualname=call.__qualname__)
    return call


def _called_in_loop(verb: Callable[..., Coroutine[Any, Any, R]], name: str, args: Any, kwargs: Any) -> R:
    if not _may_block(args[0]):
        refuse(f"{name}()", "async with" if name == "__enter__" else f"await x.{verb.__name__}(...)")
    return _drive_on_thread(verb(*args, **kwargs), name)


def _may_block(owner: object) -> bool:
    return getattr(owner, "blocking_in_loop", "error") == "thread"


def _drive_on_thread(coroutine: Coroutine[Any, Any, R], name: str) -> R:
    answer: concurrent.futures.Future[R] = concurrent.futures.Future()
    context = contextvars.copy_context()
    THREADS.submit(lambda: context.run(_fill, answer, lambda: drive(coroutine, name)))
    return _wait_in_loop(answer)


def _wait_in_loop(answer: concurrent.futures.Future[R]) -> R:
    loop = running_loop()
    assert loop is not None
    blocked_loops.add(loop)
    try:
        return answer.result()
    finally:
        blocked_loops.discard(loop)


def _fill(answer: concurrent.futures.Future[R], call: Callable[[], R]) -> None:
    try:
        answer.set_result(call())
    except BaseException as error:
        answer.set_exception(error)


def _suspended(coroutine: Coroutine[Any, Any, Any], yielded: object, provider: str, verb: str) -> NoReturn:
    """Throw at the very await that suspended, so that the traceback points there, then close."""
    if isinstance(yielded, asyncio.Future):
        yielded.cancel()  # nobody will ever wait for it
    error = SuspendedError(provider, verb)
    try:
        coroutine.throw(error)
    except StopIteration:
        raise error from None  # it was swallowed on the way
    finally:
        _close(coroutine)
    raise error


def _close(coroutine: Coroutine[Any, Any, Any]) -> None:
    try:
        coroutine.close()
    except RuntimeError:  # it awaits in its clean-up too: nothing more can be done for it
        logger.warning("%s went on waiting while it was closed", coroutine.__qualname__)


def _explain(error: RuntimeError) -> None:
    if "no running event loop" in str(error):
        error.add_note(
            "pilotis: an asyncio primitive was awaited in blocking use. Use what pilotis.providers offers "
            "(run_blocking, pause, Latch, ...), or set asyncio_only = True on the provider."
        )


def _iterate(owner: object, source: AsyncIterator[T], name: str) -> Generator[T, None, None]:
    try:
        while True:
            try:
                in_loop = running_loop() is not None and _may_block(owner)
                yield (_drive_on_thread if in_loop else drive)(_next(source), name)
            except StopAsyncIteration:
                return
    finally:
        _close_source(source)


async def _next(source: AsyncIterator[T]) -> T:
    return await anext(source)


def _close_source(source: AsyncIterator[Any]) -> None:
    """Run the clean-up of an abandoned source: here, or on a thread where a loop runs here."""
    if not isinstance(source, AsyncGenerator):
        return
    closing = _aclose(cast("AsyncGenerator[Any, Any]", source))
    if running_loop() is None:
        drive(closing, "close")
    else:  # the garbage collector came by on a loop's thread
        THREADS.submit(functools.partial(drive, closing, "close"))


async def _aclose(source: AsyncGenerator[Any, Any]) -> None:
    await source.aclose()
