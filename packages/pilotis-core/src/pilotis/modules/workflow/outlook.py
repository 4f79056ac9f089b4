"""What is wrong with runs, and what mends it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from pilotis.bridge import blocking
from pilotis.findings import Finding, Severity
from pilotis.modules.base import Portable, operation
from pilotis.modules.workflow.model import RunQuery, RunRecord, RunStatus, described
from pilotis.modules.workflow.provider import WorkflowProvider

MOST = 1000
"""How many runs of a state are looked at."""

_WRONG: dict[RunStatus, Severity] = {"stuck": "stuck", "failed": "warning"}
_MENDED: dict[RunStatus, str] = {
    "stuck": "deploy code that fits what it recorded, then pilotis workflows retry",
    "failed": "pilotis workflows show, then pilotis workflows retry",
}


class RunOutlook(Portable[WorkflowProvider]):
    """The part of the workflow engine that tells what is wrong with runs."""

    @operation
    async def afindings(self) -> list[Finding]:
        """Tell which workflows have runs that are stuck or failed. Looks at the newest 1,000 of each."""
        found: list[Finding] = []
        for status in _WRONG:
            with self.calling("find"):
                runs = await self._provider.find(RunQuery(statuses=frozenset({status}), limit=MOST))
            found.extend(_findings(status, runs))
        return found

    findings = blocking(afindings)


def _findings(status: RunStatus, runs: Sequence[RunRecord]) -> Iterator[Finding]:
    by_name: dict[str, list[RunRecord]] = {}
    for run in runs:
        by_name.setdefault(run.name, []).append(run)
    for name, mine in by_name.items():
        yield _finding(name, status, min(mine, key=lambda run: run.updated), len(mine))


def _finding(name: str, status: RunStatus, first: RunRecord, count: int) -> Finding:
    return Finding(
        module="workflow",
        severity=_WRONG[status],
        what=f"runs of {name!r} are stuck" if status == "stuck" else f"runs of {name!r} failed",
        why=f"{count}{' or more' if count == MOST else ''}; the first is {first.id}: {described(first.error)}",
        since=datetime.fromtimestamp(first.updated, UTC),
        mend=f"{_MENDED[status]} {first.id}",
    )
