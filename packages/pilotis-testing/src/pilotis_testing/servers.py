"""Real servers for tests: started from the machine's binaries on free ports, or named by a variable."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import pytest
from mirakuru import TCPExecutor

START_SECONDS = 60.0  # on a machine that does much else
POLL_SECONDS = 0.01
_OWN_PORTS = range(10_000, 32_000)
"""Below those that the system gives to outgoing connections: `net.ipv4.ip_local_port_range`."""
REDIS_VARIABLE = "PILOTIS_TEST_REDIS_URL"
MEMCACHED_VARIABLE = "PILOTIS_TEST_MEMCACHED"


class Server:
    """A process that listens on a port of this machine. It keeps its port over restarts."""

    program: str
    package: str
    variable: str

    def __init__(self, directory: Path, *options: str) -> None:
        """Get ready to run in `directory`, with options for the command line. Fails the test without the program."""
        self.directory = directory
        self.options = options
        self.port = free_port()
        self._executor: TCPExecutor | None = None
        if self.find() is None:
            pytest.fail(
                f"{self.program} is not on this machine, and tests run against the real one. "
                f"Install it (apt-get install {self.package}), or set {self.variable}.",
                pytrace=False,
            )

    def find(self) -> str | None:
        """Return where the program is, or None."""
        return shutil.which(self.program)

    @property
    def address(self) -> str:
        """As `host:port`."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._executor is not None, f"{self.program} is not running"
        return cast("Any", self._executor).process.pid

    def command(self) -> list[str]:
        """Return the command line, without `options`."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [*self.command(), *self.options]
        place = str(self.directory)
        self._executor = TCPExecutor(
            command, "127.0.0.1", self.port, timeout=START_SECONDS, sleep=POLL_SECONDS, cwd=place
        )
        self._executor.start()

    def stop(self) -> None:
        """End it in good order, also where it was paused. Does nothing where it does not run."""
        if self._executor is not None:
            self.resume()
            self._executor.stop()
            self._executor = None

    def restart(self) -> None:
        """Stop and start it: every connection breaks, and what it kept in memory alone is gone."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """End it as a crash does."""
        assert self._executor is not None, f"{self.program} is not running"
        self._executor.kill()
        self._executor = None

    def pause(self) -> None:
        """Stop it from answering; connections stay, and new ones are taken by the system in its name."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)  # on a busy machine some threads answer a little longer

    def resume(self) -> None:
        """Have it go on after `pause`."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)


class RedisServer(Server):
    """A Redis that keeps its data in memory alone, unless the options say otherwise."""

    program = "redis-server"
    package = "redis-server"
    variable = REDIS_VARIABLE

    @property
    def url(self) -> str:
        """Of its first database."""
        return f"redis://{self.address}/0"

    def command(self) -> list[str]:
        return [
            *(self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)),
            *("--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning"),
        ]

    def start(self, *, until_loaded: bool = True) -> None:
        """Start it, and wait until it has read what it kept on the disk: before that it listens, and refuses."""
        super().start()
        while until_loaded and self._answer_to_ping().startswith(b"-LOADING"):
            time.sleep(POLL_SECONDS)

    def _answer_to_ping(self) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), START_SECONDS) as connection:
            connection.sendall(b"PING\r\n")
            with contextlib.suppress(ConnectionError):  # it takes TLS alone
                return connection.recv(100)
            return b""


class MemcachedServer(Server):
    """A Memcached."""

    program = "memcached"
    package = "memcached"
    variable = MEMCACHED_VARIABLE

    def command(self) -> list[str]:
        user = ["-u", "root"] if os.geteuid() == 0 else []
        return [self.program, "-l", "127.0.0.1", "-p", str(self.port), "-U", "0", *user]

    def stop(self) -> None:
        """End it at once: it has nothing to save, and would take seconds about it."""
        if self._executor is not None:
            self.kill()


def free_port() -> int:
    """Return a port that nobody listens on now, and that no connection is given by the system until it is used."""
    while True:
        port = secrets.choice(_OWN_PORTS)  # by a source that no test seeds
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def running(server: Server) -> Generator[None]:
    """Run a server for the length of a block."""
    server.start()
    try:
        yield
    finally:
        server.stop()


def empty_memcached(address: str) -> None:
    """Remove everything that a Memcached has."""
    if (answer := _ask_memcached(address, "flush_all")) != "OK":
        raise AssertionError(f"memcached at {address} answered {answer!r} to flush_all")


def memcached_items(address: str) -> int:
    """Return how many items a Memcached has."""
    stats = dict(line.split()[1:3] for line in _ask_memcached(address, "stats").splitlines() if line.startswith("STAT"))
    return int(stats["curr_items"])


def _ask_memcached(address: str, command: str) -> str:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(f"{command}\r\n".encode())
        answer = b""
        while not answer.endswith((b"OK\r\n", b"END\r\n", b"ERROR\r\n")):
            received = connection.recv(65536)
            assert received, f"memcached at {address} hung up"
            answer += received
    return answer.decode().strip()
