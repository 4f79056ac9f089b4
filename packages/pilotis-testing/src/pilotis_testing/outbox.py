"""The conformance suite of outboxes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
from pilotis.bridge import Latch, pause, run_blocking
from pilotis.modules.event.connections import as_callers
from pilotis.providers import ClaimedRow, Context, Handed, OutboxCapability, OutboxProvider, OutboxRow

from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import Colour, soon, together
from pilotis_testing.conformance import Conformance

BUS = "shop"
KINDS = ("event", "run")
LONG = 3_600.0
MANY = 200
DEADLINE = 30.0

Connect = Callable[[], Any]


class Taker:
    """Answers for the rows that a relay hands it, and remembers them."""

    def __init__(self, judge: Callable[[ClaimedRow], Handed] | None = None) -> None:
        self.rows: list[ClaimedRow] = []
        self.calls = 0
        self._judge = judge or done

    @property
    def ids(self) -> list[str]:
        return [row.id for row in self.rows]

    async def __call__(self, rows: Sequence[ClaimedRow]) -> list[Handed]:
        self.calls += 1
        self.rows += rows
        return [self._judge(row) for row in rows]


def done(row: ClaimedRow) -> Handed:
    return Handed(row=row, verdict="done")


def row(id: str, key: str | None = None, **fields: Any) -> OutboxRow:
    given: dict[str, Any] = {"kind": "event", "name": "order.placed", "body": "{}"}
    return OutboxRow(id=id, key=key, **given | fields)


class OutboxConformance(Conformance):
    """What every outbox keeps. A subclass has a second fixture, `connect`: see there."""

    @pytest.fixture
    def connect(self) -> Connect:
        """Return what makes blocking connections to the database: in a transaction, with `commit` and `rollback`."""
        raise NotImplementedError(f"{type(self).__qualname__} needs a fixture named 'connect'")

    @pytest.fixture(autouse=True)
    def _context(self, provider: OutboxProvider, clock: ManualClock) -> Iterator[None]:
        context = provider.context = Context(clock=clock)
        yield
        context.runtime.stop()

    async def test_what_is_committed_is_handed_over_once(
        self, provider: OutboxProvider, connect: Connect, colour: Colour
    ) -> None:
        """In order, with every field as it was; then it is gone, and nobody is called for nothing."""
        async with opened(provider):
            body = '{"a":"\\u0000 : % \\" \' \\\\ é 漢","b":":name %(name)s ?"}'
            rows = [row("1", "k:%s'", body=body), row("2"), row("3", kind="run", name="sagas")]
            await write(provider, connect, *rows)
            assert rows == [plain(it) for it in await relayed(provider)]
            idle = Taker()
            assert 0 == await provider.relay(BUS, KINDS, 10, idle)
            assert 0 == idle.calls
            assert 0 == (await provider.status(BUS)).waiting

    async def test_what_is_rolled_back_never_was(
        self, provider: OutboxProvider, connect: Connect, colour: Colour
    ) -> None:
        """Neither before nor after, and it is counted nowhere."""
        async with opened(provider):
            with closing(connect()) as connection:
                await provider.write(as_callers(connection), BUS, [row("never", "k")])
                assert [] == await relayed(provider)
                connection.rollback()
            await write(provider, connect, row("kept", "k"))
            assert ["kept"] == [it.id for it in await relayed(provider)]

    async def test_a_claim_is_limited(self, provider: OutboxProvider, connect: Connect, colour: Colour) -> None:
        """The first rows come first; the answer is how many were claimed."""
        async with opened(provider):
            await write(provider, connect, *(row(f"{number}") for number in range(5)))
            takers = [Taker() for _ in range(3)]
            assert [2, 2, 1] == [await provider.relay(BUS, KINDS, 2, taker) for taker in takers]
            assert [["0", "1"], ["2", "3"], ["4"]] == [taker.ids for taker in takers]

    async def test_buses_are_apart(self, provider: OutboxProvider, connect: Connect, colour: Colour) -> None:
        """A relay takes the rows of its own bus, and keys of another one hold up nobody."""
        async with opened(provider):
            await write(provider, connect, row("theirs", "k"), bus="other")
            await write(provider, connect, row("ours", "k"))
            assert ["ours"] == [it.id for it in await relayed(provider)]
            assert (0, 1) == ((await provider.status(BUS)).waiting, (await provider.status("other")).waiting)

    async def test_a_relay_takes_the_kinds_it_names(
        self, provider: OutboxProvider, connect: Connect, colour: Colour
    ) -> None:
        """The others wait for one that takes them."""
        async with opened(provider):
            await write(provider, connect, row("run", kind="run"), row("event"))
            assert ["event"] == [it.id for it in await relayed(provider, kinds=("event",))]
            assert ["run"] == [it.id for it in await relayed(provider)]

    async def test_a_row_of_another_kind_holds_up_its_key(
        self, provider: OutboxProvider, connect: Connect, colour: Colour
    ) -> None:
        """Until somebody takes it who takes its kind."""
        async with opened(provider):
            await write(provider, connect, row("run", "k", kind="run"), row("event", "k"), row("free"))
            assert ["free"] == [it.id for it in await relayed(provider, kinds=("event",))]
            assert ["run", "event"] == [it.id for it in await relayed(provider)]

    async def test_two_relays_never_have_the_same_row(
        self, provider: OutboxProvider, connect: Connect, colour: Colour
    ) -> None:
        """While one has rows in its hands another one takes what is left, and then nothing."""
        async with opened(provider):
            await write(provider, connect, *(row(f"{number}") for number in range(3)))
            second, third = Taker(), Taker()

            async def slow(rows: Sequence[ClaimedRow]) -> list[Handed]:
                assert 1 == await provider.relay(BUS, KINDS, 2, second)
                assert 0 == await provider.relay(BUS, KINDS, 2, third)
                return [done(it) for it in rows]

            assert 2 == await provider.relay(BUS, KINDS, 2, slow)
            assert (["2"], []) == (second.ids, third.ids)
            assert 0 == (await provider.status(BUS)).waiting

    async def test_a_key_is_in_one_relays_hands(
        self, provider: OutboxProvider, connect: Connect, colour: Colour
    ) -> None:
        """What follows a row of its key waits until that one is handed over; other keys do not."""
        async with opened(provider):
            await write(provider, connect, row("a1", "a"), row("a2", "a"), row("b1", "b"), row("free"))
            other = Taker()

            async def slow(rows: Sequence[ClaimedRow]) -> list[Handed]:
                await provider.relay(BUS, KINDS, 10, other)
                return [done(it) for it in rows]

            assert 1 == await provider.relay(BUS, KINDS, 1, slow)
            assert ["b1", "free"] == other.ids
            assert ["a2"] == [it.id for it in await relayed(provider)]

    async def test_a_whole_key_can_be_claimed_at_once(
        self, provider: OutboxProvider, connect: Connect, colour: Colour
    ) -> None:
        """In its order: a key with much in it is not handed over row by row."""
        async with opened(provider):
            await write(provider, connect, *(row(f"{number}", "a") for number in range(5)))
            taker = Taker()
            assert 4 == await provider.relay(BUS, KINDS, 4, taker)
            assert ["0", "1", "2", "3"] == taker.ids

    async def test_a_row_that_is_due_later_holds_up_its_key(
        self, provider: OutboxProvider, connect: Connect, colour: Colour
    ) -> None:
        """And nobody else; it is counted as one to be tried again."""
        async with opened(provider):
            await write(provider, connect, row("a1", "a"), row("a2", "a"), row("b1", "b"))
            judge = judging({"a1": ("retry", LONG), "a2": ("kept", 0)})
            assert ["a1", "a2", "b1"] == [it.id for it in await relayed(provider, judge)]
            assert [] == await relayed(provider)
            status = await provider.status(BUS)
            assert (2, 1, 0) == (status.waiting, status.retrying, status.aside)

    async def test_an_attempt_in_vain_is_counted(
        self, provider: OutboxProvider, connect: Connect, colour: Colour
    ) -> None:
        """One that is kept was not tried, and counts none."""
        async with opened(provider):
            await write(provider, connect, row("tried"), row("kept"))
            judge = judging({"tried": ("retry", 0), "kept": ("kept", 0)})
            for attempts in range(3):
                found = await relayed(provider, judge)
                assert {"tried": attempts, "kept": 0} == {it.id: it.attempts for it in found}

    async def test_what_is_set_aside_holds_up_nobody(
        self, provider: OutboxProvider, connect: Connect, colour: Colour
    ) -> None:
        """It is listed with its error, and comes again, with all its attempts, when it is told to."""
        async with opened(provider):
            rows = [row("bad", "a", body='{"x":1}'), row("good", "a"), row("worse")]
            await write(provider, connect, *rows)
            judge = judging({"bad": ("aside", 0), "good": ("kept", 0), "worse": ("aside", 0)})
            await relayed(provider, judge)
            assert ["good"] == [it.id for it in await relayed(provider)]
            status = await provider.status(BUS)
            assert (0, None, 0, 2) == (status.waiting, status.oldest, status.retrying, status.aside)
            aside = await provider.aside(BUS, 10)
            assert [("bad", "a", '{"x":1}', 1, "no good"), ("worse", None, "{}", 1, "no good")] == [
                (it.id, it.key, it.body, it.attempts, it.error) for it in aside
            ]
            assert all(it.written_at.tzinfo and it.written_at <= it.set_aside_at for it in aside)
            assert [aside[0]] == await provider.aside(BUS, 1)
            assert (0, 1) == (await provider.retry(BUS, ["good", "nobody"]), await provider.retry(BUS, ["bad"]))
            assert [("bad", 0)] == [(it.id, it.attempts) for it in await relayed(provider)]
            assert 1 == await provider.retry(BUS, None)
            assert ["worse"] == [it.id for it in await relayed(provider)]

    async def test_what_is_set_aside_can_be_removed(
        self, provider: OutboxProvider, connect: Connect, colour: Colour
    ) -> None:
        """By its ids, or all of it. What waits stays, and so does what other buses have."""
        async with opened(provider):
            await write(provider, connect, *(row(id) for id in ("a", "b", "c", "waits")))
            await write(provider, connect, row("theirs"), bus="other")
            await relayed(provider, judging({**dict.fromkeys("abc", ("aside", 0)), "waits": ("kept", 0)}))
            await relayed(provider, judging({"theirs": ("aside", 0)}), bus="other")
            assert (1, 2) == (await provider.discard(BUS, ["a", "waits"]), await provider.discard(BUS, None))
            assert [] == await provider.aside(BUS, 10)
            assert ["waits"] == [it.id for it in await relayed(provider)]
            assert ["theirs"] == [it.id for it in await provider.aside("other", 10)]

    async def test_a_failure_leaves_rows_as_they_were(
        self, provider: OutboxProvider, connect: Connect, colour: Colour
    ) -> None:
        """The error comes out, and the rows can be claimed at once, with no attempt counted."""
        async with opened(provider):
            await write(provider, connect, row("1", "a"), row("2"))

            async def fail(rows: Sequence[ClaimedRow]) -> list[Handed]:
                raise ConnectionResetError("the bus is gone")

            for _ in range(2):
                with pytest.raises(ConnectionResetError, match="the bus is gone"):
                    await provider.relay(BUS, KINDS, 10, fail)
            assert [("1", 0), ("2", 0)] == [(it.id, it.attempts) for it in await relayed(provider)]

    async def test_being_cancelled_leaves_rows_as_they_were(self, provider: OutboxProvider, connect: Connect) -> None:
        """Under an event loop, while they are being handed over."""
        async with opened(provider):
            await write(provider, connect, row("1"))
            has_them = asyncio.Event()

            async def hang(rows: Sequence[ClaimedRow]) -> list[Handed]:
                has_them.set()
                await Latch().wait()
                raise AssertionError("nobody sets it")

            task = asyncio.create_task(provider.relay(BUS, KINDS, 10, hang))
            await asyncio.wait_for(has_them.wait(), DEADLINE)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert ["1"] == [it.id for it in await relayed(provider)]

    @pytest.mark.parametrize("held", [0, 40])
    async def test_many_relays_share_the_work(
        self, provider: OutboxProvider, connect: Connect, colour: Colour, held: int
    ) -> None:
        """Each row is handed over once, and those of a key in order, while others are being written.

        Also where none of the first rows can be claimed.
        """
        async with opened(provider):
            await write(provider, connect, *(row(f"held {number}", "held") for number in range(held)))
            await relayed(
                provider, lambda it: Handed(row=it, verdict="retry" if it.id == "held 0" else "kept", delay=LONG)
            )
            takers = [Taker() for _ in range(4)]
            order: list[str] = []

            async def work(taker: Taker) -> None:
                async def take(rows: Sequence[ClaimedRow]) -> list[Handed]:
                    order.extend(it.id for it in rows)
                    await pause(0.001)
                    return await taker(rows)

                while len(order) < MANY:
                    if not await provider.relay(BUS, KINDS, 7, take):
                        await pause(0.002)

            async def fill() -> None:
                for start in range(0, MANY, 20):
                    numbers = range(start, start + 20)
                    rows = [row(f"{number}", None if number % 4 == 0 else f"{number % 4}") for number in numbers]
                    await write(provider, connect, *rows)

            await together(fill, *(lambda taker=taker: work(taker) for taker in takers))
            assert [f"{number}" for number in range(MANY)] == sorted(order, key=int)
            for rest in (1, 2, 3):
                mine = [int(id) for id in order if int(id) % 4 == rest]
                assert sorted(mine) == mine
            assert held == (await provider.status(BUS)).waiting

    async def test_status_tells_how_long_the_first_has_waited(
        self, provider: OutboxProvider, connect: Connect, colour: Colour
    ) -> None:
        """None where nothing waits."""
        async with opened(provider):
            assert (0, None) == counts(await provider.status(BUS))
            await write(provider, connect, row("1"), row("2"))
            waiting, oldest = counts(await provider.status(BUS))
            assert 2 == waiting
            assert oldest is not None
            assert 0 <= oldest < LONG

    async def test_a_commit_wakes(self, provider: OutboxProvider, connect: Connect) -> None:
        """With WAKE: once at the beginning, after a commit, and when something set aside is to be tried again."""
        async with opened(provider):
            if OutboxCapability.WAKE not in provider.capabilities:
                return
            calls: list[int] = []
            job = provider.context.runtime.spawn(provider.watch(BUS, lambda: calls.append(len(calls))), "watch")
            try:
                await soon(lambda: len(calls) >= 1)
                with closing(await run_blocking(connect)) as connection:
                    await provider.write(as_callers(connection), BUS, [row("1")])
                    before = len(calls)
                    connection.commit()
                await soon(lambda: len(calls) > before)
                await relayed(provider, judging({"1": ("aside", 0)}))
                before = len(calls)
                assert 1 == await provider.retry(BUS, None)
                await soon(lambda: len(calls) > before)
            finally:
                job.cancel()
                await job.ended.wait()

    async def test_migrating_again_changes_nothing(self, provider: OutboxProvider, colour: Colour) -> None:
        """Also where several do so at once: one of them at most says that it made something."""
        answers = await together(*[provider.migrate for _ in range(4)])
        assert sum(bool(answer) for answer in answers) <= 1
        assert [] == await provider.migrate()
        await provider.close()

    def test_capabilities_are_outbox_capabilities(self, provider: OutboxProvider) -> None:
        """What is declared is a set of `OutboxCapability`."""
        assert isinstance(provider.capabilities, OutboxCapability)


class opened:  # noqa: N801 - used like a function
    """A provider with its tables, for the length of a block."""

    def __init__(self, provider: OutboxProvider) -> None:
        self._provider = provider

    async def __aenter__(self) -> None:
        await self._provider.migrate()
        await self._provider.open()

    async def __aexit__(self, *error: object) -> None:
        await self._provider.close()


async def write(provider: OutboxProvider, connect: Connect, *rows: OutboxRow, bus: str = BUS) -> None:
    """Write rows in a transaction, and commit it."""
    with closing(connect()) as connection:
        await provider.write(as_callers(connection), bus, rows)
        connection.commit()


async def relayed(
    provider: OutboxProvider,
    judge: Callable[[ClaimedRow], Handed] | None = None,
    *,
    bus: str = BUS,
    kinds: Sequence[Any] = KINDS,
) -> list[ClaimedRow]:
    """Claim what there is, once, and return it."""
    taker = Taker(judge)
    await provider.relay(bus, kinds, 100, taker)
    return taker.rows


def judging(verdicts: dict[str, tuple[Any, float]]) -> Callable[[ClaimedRow], Handed]:
    """Return what judges rows by their ids, those left out as done."""

    def judge(row: ClaimedRow) -> Handed:
        verdict, delay = verdicts.get(row.id, ("done", 0.0))
        return Handed(row=row, verdict=verdict, delay=delay, error="no good")

    return judge


def plain(row: ClaimedRow) -> OutboxRow:
    return OutboxRow(kind=row.kind, id=row.id, name=row.name, key=row.key, body=row.body)


def counts(status: Any) -> tuple[int, float | None]:
    return status.waiting, status.oldest
