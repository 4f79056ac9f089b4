"""The table against a model: whatever is asked for in whatever order, the rules of locks hold at every step."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from pilotis.providers import Grant, LockRequest
from pilotis_locking_memory.table import Table, Waiter

KEYS = st.sets(st.sampled_from("abcd"), min_size=1).map(lambda keys: tuple(sorted(keys)))
STEPS = st.integers(1, 5).map(float)
"""Whole seconds, so that sums of them are exact."""
SHARING = st.sampled_from([(False, None), (True, None), (True, 1), (True, 2), (True, 3)])
"""Whether a key is shared, and by how many."""


class TableMachine(RuleBasedStateMachine):
    """Requests of many owners, time that passes, releases, renewals and cancellations."""

    waiters = Bundle("waiters")

    def __init__(self) -> None:
        super().__init__()
        self.table = Table()
        self.now = 0.0
        self.asked = 0
        self.entered: list[Waiter] = []
        self.ends: dict[int, float] = {}
        self.tokens: dict[str, int] = {}

    @rule(target=waiters, keys=KEYS, ttl=STEPS, wait=st.sampled_from([0.0, 99.0]), shared=SHARING)
    def ask(self, keys: tuple[str, ...], ttl: float, wait: float, shared: tuple[bool, int | None]) -> Waiter:
        self.asked += 1
        together, permits = shared
        request = LockRequest(
            keys=keys, owner=f"owner {self.asked}", ttl=ttl, wait=wait, shared=together, permits=permits
        )
        waiter = Waiter(request)
        self.table.enter(waiter, self.now)
        if waiter.grant is not None or wait:
            self.entered.append(waiter)
        return waiter

    @rule(seconds=STEPS)
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for waiter in self.entered:
            self.table.look(waiter, self.now)

    @rule(waiter=consumes(waiters))
    def cancel(self, waiter: Waiter) -> None:
        self.table.withdraw(waiter, self.now)
        self._gone(waiter)

    @rule(waiter=waiters)
    def release(self, waiter: Waiter) -> None:
        if waiter.grant is not None:
            assert self.table.release(waiter.grant, self.now) == self._is_held(waiter)
            self._gone(waiter)

    @rule(waiter=waiters)
    def renew(self, waiter: Waiter) -> None:
        if waiter.grant is not None:
            held = self.table.renew(waiter.grant, self.now)
            assert held == self._is_held(waiter)
            if held:
                self.ends[id(waiter)] = max(self.ends[id(waiter)], self.now + waiter.grant.ttl)

    @invariant()
    def tokens_grow(self) -> None:
        """Every grant that is new since the last step has a higher token than all before it on its keys."""
        for waiter in sorted((one for one in self.entered if one.grant), key=lambda one: _grant(one).token):
            if id(waiter) not in self.ends:
                grant = _grant(waiter)
                self.ends[id(waiter)] = grant.since + grant.ttl
                assert all(grant.token > self.tokens.get(key, 0) for key in grant.keys)
                self.tokens.update(dict.fromkeys(grant.keys, grant.token))

    @invariant()
    def holders_exclude_each_other(self) -> None:
        held = [waiter.request for waiter in self.entered if self._is_held(waiter)]
        for key in "abcd":
            holders = [request for request in held if key in request.keys]
            assert len(holders) <= 1 or all(request.shared for request in holders)
            assert {one.owner for one in self.table.inspect(key, self.now)[0]} == {one.owner for one in holders}

    @invariant()
    def permits_are_kept(self) -> None:
        """Those who hold a key are no more than the one of them allows who was the last to find a place."""
        held = [waiter.request for waiter in self.entered if self._is_held(waiter)]
        for key in "abcd":
            allowed = [request.permits or len(held) for request in held if key in request.keys]
            assert len(allowed) <= max(allowed, default=0)

    @invariant()
    def somebody_goes_on(self) -> None:
        """While any wait, something is held: the first of them waits for a holder, not for others who wait."""
        if any(waiter.grant is None for waiter in self.entered):
            assert any(self._is_held(waiter) for waiter in self.entered)

    def teardown(self) -> None:
        """Once all have left, nothing is kept."""
        for waiter in self.entered:
            self.table.withdraw(waiter, self.now)
        self.table.look(Waiter(LockRequest(keys=("a",), owner="last", ttl=1)), self.now)
        assert not [key for name in "abcd" if (key := self.table.inspect(name, self.now)) != ([], 0)]

    def _is_held(self, waiter: Waiter) -> bool:
        return (
            waiter in self.entered and waiter.grant is not None and self.ends.get(id(waiter), self.now + 1) > self.now
        )

    def _gone(self, waiter: Waiter) -> None:
        if waiter in self.entered:
            self.entered.remove(waiter)


def _grant(waiter: Waiter) -> Grant:
    assert waiter.grant is not None
    return waiter.grant


TestTable: Any = TableMachine.TestCase
TestTable.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


def test_what_the_owner_was_granted_meanwhile_stays() -> None:
    """Whoever gives up does not take away what another task of the same owner was told that it holds."""
    table = Table()
    first, second = (Waiter(LockRequest(keys=("a",), owner="job-7", ttl=60.0)) for _ in range(2))
    for waiter in (first, second):
        table.enter(waiter, 0.0)
    table.withdraw(first, 1.0)
    assert table.renew(_grant(second), 2.0) is True
    assert table.release(_grant(second), 3.0) is True
