"""`pilotis status`: what is stuck, and what mends it."""

from __future__ import annotations

import typer

from pilotis.cli.finding import looking_into
from pilotis.cli.options import AppOption, JsonOption
from pilotis.cli.showing import Row, progress, show
from pilotis.findings import Finding

WARNED = 1
"""The exit code where there are warnings only."""

STUCK = 2
"""The exit code where something does not go on by itself."""


def status(app: AppOption = None, as_json: JsonOption = False) -> None:
    """Tell what is stuck or may become so: since when, why, and the command that mends it.

    Exits with 0 if all is well, with 1 if there are warnings, and with 2 if something is stuck.
    """
    with progress("Looking ..."), looking_into(app) as looked_into:
        findings = looked_into.status()
    show(findings, as_json=as_json, row=_row, nothing="All is well.")
    if findings:
        raise typer.Exit(STUCK if any(finding.severity == "stuck" for finding in findings) else WARNED)


def _row(finding: Finding) -> Row:
    return {
        "severity": finding.severity,
        "module": finding.module,
        "what": finding.what,
        "since": finding.since,
        "why": finding.why,
        "mend": finding.mend,
    }
