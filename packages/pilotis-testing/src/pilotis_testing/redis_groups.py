"""Redis servers that take over from one another: a master and its replica, behind a sentinel or as a cluster."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from pilotis_testing.clock import until
from pilotis_testing.redis import CLUSTER, SLOTS, RedisNode, tell
from pilotis_testing.servers import START_SECONDS, RedisServer, running

DOWN_MS = 1000
"""After how long a sentinel takes a master for dead."""


class Sentinel(RedisServer):
    """A sentinel, whose file of settings names one master."""

    def command(self) -> list[str]:
        return [self.program, str(self.directory / "sentinel.conf"), "--sentinel", "--port", str(self.port)]


class Group(ABC):
    """A master and a replica in step with it."""

    server: ClassVar[type[RedisServer]] = RedisServer

    def __init__(self, folder: Path) -> None:
        """Get ready in a folder."""
        self.folder = folder
        self.master, self.replica = (self.server(self._place(name)) for name in ("master", "replica"))

    @property
    @abstractmethod
    def url(self) -> str:
        """Where applications find whoever is the master."""

    @abstractmethod
    def join(self) -> None:
        """Have the replica follow the master. Both run."""

    @abstractmethod
    def promote(self) -> None:
        """Have the replica become the master."""

    @contextmanager
    def running(self) -> Generator[None]:
        """Run both for the length of a block."""
        with running(self.master), running(self.replica):
            tell(self.master.url, "CONFIG", "SET", "repl-diskless-sync-delay", 0)
            self.join()
            until(lambda: tell(self.replica.url, "ROLE")[3:4] == [b"connected"], START_SECONDS)
            yield

    def catch_up(self) -> None:
        """Wait until the replica has what the master has now."""
        offset = tell(self.master.url, "INFO", "replication")["master_repl_offset"]
        until(lambda: tell(self.replica.url, "ROLE")[4] >= offset, START_SECONDS)

    def cut_off(self) -> None:
        """Have the replica hear no more, while the master goes on."""
        self.replica.pause()
        tell(self.master.url, "CLIENT", "KILL", "TYPE", "replica")

    def take_over(self) -> None:
        """Have the replica go on with what it has, as the master. The former one is dead."""
        self.replica.resume()
        self.promote()
        until(self._is_promoted, START_SECONDS)

    def _is_promoted(self) -> bool:
        from redis.exceptions import ConnectionError as LostError

        with contextlib.suppress(LostError):  # a sentinel cuts the connections of whom it promotes
            return tell(self.replica.url, "ROLE")[0] == b"master"
        return False

    def _place(self, name: str) -> Path:
        place = self.folder / name
        place.mkdir()
        return place


class SentinelGroup(Group):
    """Behind a sentinel that knows them as `main`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        place = self._place("sentinel")
        watch = f"sentinel monitor main 127.0.0.1 {self.master.port} 1\n"
        (place / "sentinel.conf").write_text(f"{watch}sentinel down-after-milliseconds main {DOWN_MS}\n")
        self.sentinel = Sentinel(place)

    @property
    def url(self) -> str:
        return f"redis+sentinel://{self.sentinel.address}/main"

    @contextmanager
    def running(self) -> Generator[None]:
        """Run all three for the length of a block."""
        with super().running(), running(self.sentinel):
            until(lambda: len(tell(self.sentinel.url, "SENTINEL", "REPLICAS", "main")) == 1, START_SECONDS)
            yield

    def join(self) -> None:
        tell(self.replica.url, "REPLICAOF", "127.0.0.1", self.master.port)

    def promote(self) -> None:
        """Leave it to the sentinel."""


class ClusterGroup(Group):
    """A cluster in which one node has everything."""

    server = RedisNode
    master: RedisNode
    replica: RedisNode

    @property
    def url(self) -> str:
        return f"{CLUSTER}{self.master.address},{self.replica.address}"

    def join(self) -> None:
        tell(self.master.url, "CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        tell(self.replica.url, "CLUSTER", "MEET", "127.0.0.1", self.master.port, self.master.bus_port)
        name = tell(self.master.url, "CLUSTER", "MYID").decode()
        until(lambda: name in str(tell(self.replica.url, "CLUSTER NODES")), START_SECONDS)
        until(lambda: tell(self.replica.url, "CLUSTER INFO")["cluster_state"] == "ok", START_SECONDS)
        tell(self.replica.url, "CLUSTER", "REPLICATE", name)
        tell(self.master.url, "SET", "joined", 1)  # a replica that has nothing is not shown
        until(lambda: str(self.replica.port) in str(tell(self.master.url, "CLUSTER SLOTS")), START_SECONDS)

    def promote(self) -> None:
        tell(self.replica.url, "CLUSTER", "FAILOVER", "TAKEOVER")
