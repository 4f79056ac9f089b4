"""The ledger in memory."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from pilotis.modules.notification import MemoryLedger, MemoryLedgerOptions
from pilotis_testing.ledger import LedgerConformance


class TestMemoryLedger(LedgerConformance):
    @pytest.fixture
    def provider(self) -> MemoryLedger:
        return MemoryLedger()

    async def test_the_oldest_settled_entries_are_forgotten(self, make: Any) -> None:
        """Beyond the limit the oldest go, with their keys; those being sent stay."""
        ledger = MemoryLedger(MemoryLedgerOptions(max_entries=2))
        underway = make("first")
        settled = [replace(make(f"key {number}"), leased_until=None) for number in range(3)]
        await ledger.record([underway, *settled])
        assert await ledger.read([underway.id, *(entry.id for entry in settled)]) == [underway, None, None, settled[2]]
        again = make("key 0")
        assert await ledger.record([again]) == [again]

    async def test_a_child_process_forgets_what_its_parent_is_sending(self, make: Any) -> None:
        """Settled entries stay."""
        ledger = MemoryLedger()
        underway, settled = make("key"), replace(make(), leased_until=None)
        await ledger.record([underway, settled])
        ledger.after_fork()
        assert await ledger.read([underway.id, settled.id]) == [None, settled]
        again = make("key")
        assert await ledger.record([again]) == [again]
