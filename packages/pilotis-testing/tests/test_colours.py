"""Tests written once, run in both colours; suites whose tests cannot be switched off in silence."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Self

import pytest
from pilotis.bridge import blocking, blocking_iterator, running_loop
from pilotis_testing import Colour
from pilotis_testing.colours import soon, together
from pilotis_testing.conformance import Conformance


class Shelf:
    """A portable thing: says in which colour it was called."""

    async def aget(self) -> str:
        return "blocking" if running_loop() is None else "async"

    get = blocking(aget)

    async def aitems(self) -> AsyncIterator[str]:
        yield await self.aget()

    items = blocking_iterator(aitems)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None: ...

    __enter__ = blocking(__aenter__)
    __exit__ = blocking(__aexit__)

    def plain(self) -> str:
        return "plain"


async def test_a_voice_calls_in_its_colour(colour: Colour) -> None:
    """Verbs, iterators and blocks; plain methods are passed through."""
    shelf = colour.voice(Shelf())
    assert colour.value == await shelf.get()
    assert [colour.value] == [item async for item in shelf.items()]
    async with shelf as entered:
        assert colour.value == await entered.get()
    assert "plain" == shelf.plain()


async def test_together_runs_side_by_side(colour: Colour) -> None:
    """Threads or tasks: each waits for the other to have begun. An error is the caller's."""
    begun: list[int] = []

    async def meet(number: int) -> int:
        begun.append(number)
        await soon(lambda: len(begun) == 2)
        return number

    async def fail() -> int:
        raise LookupError("no")

    assert [1, 2] == await together(lambda: meet(1), lambda: meet(2))
    with pytest.raises(LookupError, match="no"):
        await together(fail)


def test_a_suites_test_cannot_be_replaced_in_silence() -> None:
    """A provider that leaves an obligation out must say why."""

    def check(self: object) -> None: ...

    suite = type("Suite", (Conformance,), {"__module__": "pilotis_testing.suite", "test_a": check})
    with pytest.raises(TypeError, match=r"Silent\.test_a overrides a conformance test"):
        type("Silent", (suite,), {"test_a": check})

    @pytest.mark.xfail(reason="the backend cannot")
    def excused(self: object) -> None: ...

    type("Excused", (suite,), {"test_a": excused, "test_more": check})


def test_leaked_threads_are_found(pytester: pytest.Pytester) -> None:
    """The fixture `no_leaks` fails a test that leaves a thread behind."""
    pytester.makepyfile(
        """
        import threading
        import pilotis_testing.plugin as plugin

        plugin.LEAK_SECONDS = 0.05
        gate = threading.Event()

        def test_leaks(no_leaks):
            threading.Thread(target=gate.wait, name="left", daemon=True).start()

        def test_tidy(no_leaks):
            threading.Thread(target=int).start()

        def test_end():
            gate.set()
        """
    )
    pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider").assert_outcomes(passed=3, errors=1)
