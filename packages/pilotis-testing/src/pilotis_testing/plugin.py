"""The pytest plugin: runs `async def` tests, in both colours where they ask for `colour`."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Iterator

import pytest

from pilotis_testing.clock import ManualClock, until
from pilotis_testing.colours import Colour

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
