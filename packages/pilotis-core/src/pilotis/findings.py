"""What is wrong with a service, and what mends it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

Severity = Literal["warning", "stuck"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody should look at: `app.status()` lists them."""

    module: str
    severity: Severity
    """`stuck` is what does not go on by itself; `warning` what may become so, or waits for a decision."""
    what: str
    """Which thing it is, and what is the matter with it. Stays the same for as long as that lasts."""
    why: str
    since: datetime | None = None
    """In UTC; None where that is not known."""
    mend: str
    """The command that mends it, or what to do first."""


def by_severity(findings: list[Finding]) -> list[Finding]:
    """Return findings with what is stuck first, otherwise in their order."""
    return sorted(findings, key=lambda finding: finding.severity != "stuck")
