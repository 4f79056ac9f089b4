"""`pilotis new-provider`: a distribution of one's own to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pilotis.cli.options import JsonOption
from pilotis.cli.showing import tell
from pilotis.cli.skeleton import facts_about, write_project


def new_provider(
    module: Annotated[
        str, typer.Argument(metavar="MODULE", help="cache, event, file, locking, notification or workflow.")
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="As users will write it in settings and URLs.")],
    into: Annotated[
        Path, typer.Option(metavar="DIR", help="Where to make the directory of the project.", file_okay=False)
    ] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Begin a provider: a distribution with an entry point, a conformance test, and the verbs to write.

    For `cache` it works as it is, in a dict; for other modules every verb stands there with what it owes.
    """
    facts = facts_about(module, name)
    project = into / facts["distribution"]
    files = write_project(facts, project)
    done = f"Wrote {len(files)} files to {project}. Begin with {project / files[-1]}, then README.md there."
    tell(done, {"path": str(project), "files": files}, as_json=as_json)
