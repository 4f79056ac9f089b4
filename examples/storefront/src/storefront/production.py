"""`--on production`: every module on a server, two workers, and one of them killed on request.

A server is what `PILOTIS_*` variables name; where they name none, one is started from the machine's binaries, on a free
port, for the length of the run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from uuid import uuid4

import pytest
from pilotis_testing.postgres import running_postgres
from pilotis_testing.s3 import space, standing
from pilotis_testing.sendgrid import SendGridServer
from pilotis_testing.servers import RedisServer, running

from storefront.app import app
from storefront.database import VARIABLE

WORKERS = 2
PATIENCE = 30.0
"""Seconds that workers have to end."""

HASTE = {
    "PILOTIS_EVENT__LIVENESS": "2",
    "PILOTIS_WORKFLOW__LIVENESS": "2",
    "PILOTIS_LOCKING__TTL": "4",
    "PILOTIS_LOCKING__WAIT": "20",
    "PILOTIS_NOTIFICATION__LEASE": "4",
    "PILOTIS_NOTIFICATION__TIMEOUT": "3",
    "PILOTIS_NOTIFICATION__CALL_TIMEOUT": "1",
}
"""How soon others take over what a killed worker had. A day here is short."""


class NoServer(Exception):
    """A server can neither be found nor started."""


class Staff:
    """Worker processes of the shop."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._processes: list[subprocess.Popen[bytes]] = []

    def hire(self) -> None:
        """Start a worker, with the settings that this process has."""
        command = [sys.executable, "-m", "pilotis", "worker", "--app", "storefront.app:app"]
        with self._log.open("ab") as log:
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def kill(self) -> None:
        """End one as `kill -9` does."""
        victim = self._processes.pop(0)
        victim.kill()
        victim.wait()

    def dismiss(self) -> None:
        """Have all end in good order, or else be killed."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            process.kill()
            process.wait()


@contextlib.contextmanager
def in_production(folder: Path) -> Generator[Staff]:
    """Have every module on a server, and workers at work, for the length of a block. Raises `NoServer`."""
    with ExitStack() as stack:
        stack.enter_context(variables(HASTE | {"PILOTIS_FILE__PREFIX": f"storefront/{uuid4().hex}"}))
        for names, server in SERVERS.items():
            if any(name not in os.environ for name in names):
                stack.enter_context(variables(stack.enter_context(started(server, folder))))
        make_tables()
        staff = Staff(folder / "workers.log")
        stack.callback(staff.dismiss)
        for _ in range(WORKERS):
            staff.hire()
        yield staff


@contextlib.contextmanager
def variables(values: Mapping[str, str]) -> Generator[None]:
    """Set variables for the length of a block, those that are set already left as they are."""
    lacking = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(lacking)
    try:
        yield
    finally:
        for name in lacking:
            del os.environ[name]


def make_tables() -> None:
    """Do what a deployment does: `pilotis outbox migrate`."""
    outbox = app.copy(role="emit").event.outbox
    try:
        outbox.migrate()
    finally:
        outbox.close()


# Servers: what each is for, as settings


@contextlib.contextmanager
def redis(folder: Path) -> Generator[dict[str, str]]:
    server = RedisServer(folder)
    with running(server):
        yield dict.fromkeys(ON_REDIS, server.url)


@contextlib.contextmanager
def postgres(folder: Path) -> Generator[dict[str, str]]:
    with running_postgres() as server:
        yield dict.fromkeys(ON_POSTGRES, server.url)


@contextlib.contextmanager
def s3(folder: Path) -> Generator[dict[str, str]]:
    with standing(folder) as proxy, space(proxy) as bucket:
        options = {f"PILOTIS_FILE__{name.upper()}": value for name, value in bucket.options.items()}
        yield {"PILOTIS_FILE": "s3"} | options


@contextlib.contextmanager
def sendgrid(folder: Path) -> Generator[dict[str, str]]:
    with SendGridServer().running() as server:
        place = {"PILOTIS_NOTIFICATION__API_KEY": server.key, "PILOTIS_NOTIFICATION__BASE_URL": server.url}
        yield {"PILOTIS_NOTIFICATION": "sendgrid"} | place


Server = Callable[[Path], AbstractContextManager[dict[str, str]]]

ON_REDIS = ("PILOTIS_CACHE", "PILOTIS_EVENT", "PILOTIS_LOCKING", "PILOTIS_WORKFLOW")
ON_POSTGRES = (VARIABLE, "PILOTIS_EVENT__OUTBOX", "PILOTIS_NOTIFICATION__LEDGER")

SERVERS: dict[tuple[str, ...], Server] = {
    ON_REDIS: redis,
    ON_POSTGRES: postgres,
    ("PILOTIS_FILE",): s3,
    ("PILOTIS_NOTIFICATION",): sendgrid,
}


@contextlib.contextmanager
def started(server: Server, folder: Path) -> Generator[dict[str, str]]:
    """Run a server for the length of a block. Raises `NoServer` where this machine does not have it."""
    with ExitStack() as stack:
        try:
            values = stack.enter_context(server(folder))
        except pytest.fail.Exception as error:
            raise NoServer(str(error)) from None
        yield values
