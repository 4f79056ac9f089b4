"""What tests of lanes share."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from pilotis.bridge import Latch, drive
from pilotis.providers import Context
from pilotis_redis import RedisLink, RedisOptions
from pilotis_redis.lanes import Ending, Lanes, LaneSpec, Push, Taken, Worker
from pilotis_testing.clock import until

BUS = "test:bus"


@pytest.fixture
def runtime_context() -> Iterator[Context]:
    """Where lanes keep what is staged alive."""
    context = Context()
    yield context
    context.runtime.stop()


@pytest.fixture
def make_lanes(runtime_context: Context) -> Iterator[Callable[..., Lanes]]:
    """What makes the lanes of one more process, for a URL."""
    with ExitStack() as stack:

        def make(url: str, *, kept: float = 60, link: type[RedisLink] = RedisLink, **options: Any) -> Lanes:
            made = link(RedisOptions(url=url, **options))
            lanes = Lanes(made, BUS, runtime=lambda: runtime_context.runtime, groups_kept=kept)
            stack.callback(lambda: drive(made.close()))
            stack.callback(lambda: drive(lanes.close()))
            return lanes

        yield make


@pytest.fixture
def lanes(make_lanes: Callable[..., Lanes], redis_url: str) -> Lanes:
    """Lanes on an empty database."""
    return make_lanes(redis_url)


class Hand:
    """A worker as a process of its own would have it, and what tests do with it."""

    def __init__(
        self,
        url: str,
        *,
        liveness: float = 60,
        stall: float = 60,
        link: Callable[[RedisOptions], RedisLink] = RedisLink,
        **options: Any,
    ) -> None:
        self.context = Context(name="shop")
        self.link = link(RedisOptions(url=url, **options))
        self.lanes = Lanes(self.link, BUS, runtime=lambda: self.context.runtime)
        self.worker = Worker(
            self.link, self.lanes.keys, self.context, restore=self.lanes.restore, liveness=liveness, stall=stall
        )

    async def declare(self, *lanes: str) -> None:
        """Make lanes that take what is called like them."""
        await self.lanes.declare([LaneSpec(lane, lane) for lane in lanes])

    async def emit(self, lane: str, *ids: str, **options: Any) -> None:
        """Put entries into a lane, with their ids as bodies."""
        await self.lanes.emit([Push(id, lane, id.encode(), **options) for id in ids])

    async def take(self, *lanes: str, most: int = 10) -> list[Taken]:
        """Wait until lanes have something."""
        return await self.worker.receive(dict.fromkeys(lanes, most), Latch())

    async def look(self, *lanes: str, most: int = 10) -> list[Taken]:
        """Take what there is now."""
        wake = Latch()
        wake.set()
        return await self.worker.receive(dict.fromkeys(lanes, most), wake)

    async def settle(self, taken: Sequence[Taken], verdict: Any = "done", **options: Any) -> list[bool]:
        """End all in one way."""
        return await self.worker.settle([Ending(entry, verdict, **options) for entry in taken])

    def close(self) -> None:
        drive(self.worker.stop())
        drive(self.lanes.close())
        drive(self.link.close())
        self.context.runtime.stop()


@pytest.fixture
def make_hand() -> Iterator[Callable[..., Hand]]:
    """What makes a worker for a URL; all are stopped in the end."""
    with ExitStack() as stack:

        def make(url: str, **options: Any) -> Hand:
            hand = Hand(url, **options)
            stack.callback(hand.close)
            return hand

        yield make


@pytest.fixture
def hand(make_hand: Callable[..., Hand], redis_url: str) -> Hand:
    """A worker on an empty database."""
    return make_hand(redis_url)


class WorkerProcess:
    """A run of lane_worker.py."""

    def __init__(self, url: str, *lanes: str, liveness: float = 1, stall: float = 60, most: int = 10) -> None:
        program = Path(__file__).parent / "lane_worker.py"
        arguments = (url, BUS, str(liveness), str(stall), str(most), *lanes)
        self.said: list[dict[str, Any]] = []
        self._process = subprocess.Popen(
            [sys.executable, str(program), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def taken(self, id: str) -> list[dict[str, Any]]:
        """Return what was said of taking an entry."""
        return [line for line in self.said if line.get("taken") == id]

    def settled(self, id: str) -> list[bool]:
        """Return what was said of settling an entry."""
        return [line["settled"][id] for line in self.said if id in line.get("settled", {})]

    def until_taken(self, id: str) -> dict[str, Any]:
        until(lambda: bool(self.taken(id)), 30)
        return self.taken(id)[0]

    def settle(self) -> None:
        """Have it settle what it holds, if it is still there."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(b"settle\n")
            self._process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                self.said.append(json.loads(line))
        except ValueError:  # it was ended, and the pipe closed
            return


@pytest.fixture
def start_worker() -> Iterator[Callable[..., WorkerProcess]]:
    """What starts a worker in a process of its own, for a URL and lanes; all are killed in the end."""
    with ExitStack() as stack:

        def start(url: str, *lanes: str, **options: Any) -> WorkerProcess:
            process = WorkerProcess(url, *lanes, **options)
            stack.callback(process.end)
            return process

        yield start
