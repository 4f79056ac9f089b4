"""`pilotis worker`: the app at work, and a file that shows it is alive."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator
from pathlib import Path
from typing import Annotated

import typer

from pilotis.app import Pilotis
from pilotis.bridge import drive, pause, run_blocking
from pilotis.cli.finding import find_app
from pilotis.cli.options import AppOption
from pilotis.errors import ConfigurationError

BEAT = 5.0
"""Seconds between two touches of the health file."""

_OPENING = 0.05


def worker(
    app: AppOption = None,
    health_file: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help=f"A file to touch every {BEAT:g} s while the worker is alive, and to remove at its end.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Handle events and run workflows until SIGTERM or Ctrl+C; then finish what was begun.

    Logs go to stderr. Where events and workflows are kept in the process itself, as the embedded providers do, the
    worker has only what it is told by the app's own code.
    """
    found = find_app(app)
    # After the app's own code, which may have set up logging as it likes: then this does nothing.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with _alive(found, health_file):
        found.run_worker()


@contextlib.contextmanager
def _alive(app: Pilotis, file: Path | None) -> Generator[None, None, None]:
    """Touch `file` for as long as the app's background loop turns, beginning when the modules are open."""
    if file is None:
        yield
        return
    _remove(file)
    job = app.context.runtime.spawn(_touch_again_and_again(app, file), "health-file")
    try:
        yield
    finally:
        job.cancel()
        drive(job.ended.wait(BEAT))
        _remove(file)


def _remove(file: Path) -> None:
    """Remove what another worker may have left. Raises `ConfigurationError` if the file could not be made, either."""
    if not file.absolute().parent.is_dir():
        raise ConfigurationError(f"there is no directory {str(file.absolute().parent)!r}", path="--health-file")
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot write {str(file)!r}: {error.strerror}", path="--health-file") from error


async def _touch_again_and_again(app: Pilotis, file: Path) -> None:
    while not (app.event.is_open and app.workflow.is_open):
        await pause(_OPENING)
    while True:
        await run_blocking(file.touch)
        await pause(BEAT)
