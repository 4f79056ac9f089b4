"""What is wrong with an app, over all of its modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pilotis.bridge import gather
from pilotis.checks import Check, check
from pilotis.clock import Clock
from pilotis.errors import OperationError
from pilotis.findings import Finding, by_severity
from pilotis.modules.base import Portable


async def status(modules: Sequence[Portable[Any]], clock: Clock) -> list[Finding]:
    """Gather what the modules find. One whose backend cannot be reached is a finding itself."""
    found = await gather(*(_status(portable, clock) for portable in modules))
    return by_severity([finding for findings in found for finding in findings])


async def _status(portable: Portable[Any], clock: Clock) -> list[Finding]:
    reached = await check(portable, clock)
    if not reached.ok:
        return [_unreachable(reached, reached.detail)]
    try:
        return await portable.afindings()
    except OperationError as error:  # its backend was lost since
        return [_unreachable(reached, str(error))]


def _unreachable(reached: Check, why: str) -> Finding:
    return Finding(
        module=reached.module,
        severity="stuck",
        what=f"the backend of {reached.module} cannot be used",
        why=why,
        mend="start the backend, or set its address right; then pilotis check",
    )
