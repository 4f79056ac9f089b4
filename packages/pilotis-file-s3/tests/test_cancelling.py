"""Callers who are cancelled, or interrupted, at every point of every verb: nothing is left half-done or open."""

from __future__ import annotations

import asyncio
import gc
import threading
import types
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any

import pytest
from botocore.client import BaseClient  # pyright: ignore[reportMissingTypeStubs]
from pilotis.bridge import THREADS
from pilotis.providers import run_blocking
from pilotis_file_s3 import copying
from pilotis_testing.chaos import PATIENCE
from pilotis_testing.clock import until
from pilotis_testing.colours import Colour, soon
from pilotis_testing.s3 import S3Space, Trouble

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
LARGE = bytes(range(256)) * (20 * 1024) + b"end"
"""Five MiB, and a little more: two parts."""
KEPT = 5
"""How many connections a store keeps open at most that sends a few parts at once."""

Verb = Callable[[Any, str], Coroutine[Any, Any, object]]


async def put(files: Any, key: str) -> None:
    await files.put(key, iter([LARGE]), if_absent=True)


async def put_at_once(files: Any, key: str) -> None:
    await files.put(key, LARGE[:1000])


async def read(files: Any, key: str) -> None:
    await files.read("large.bin")


async def look(files: Any, key: str) -> None:
    await files.stat("large.bin")


async def copy(files: Any, key: str) -> None:
    await files.copy("large.bin", key)


async def delete(files: Any, key: str) -> None:
    await files.delete(key, "nothing.txt")


async def walk(files: Any, key: str) -> None:
    assert [info async for info in files.list()]


async def sweep(files: Any, key: str) -> None:
    await files.sweep(older_than=3600)


def verbs(*several: Verb) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("verb", several, ids=lambda verb: verb.__name__)


@pytest.fixture(autouse=True)
def small_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have copies be made in parts."""
    monkeypatch.setattr(copying, "LARGEST_AT_ONCE", MIB)
    monkeypatch.setattr(copying, "PART", 5 * MIB)


async def prepare(files: Any) -> None:
    await files.put("large.bin", LARGE)
    await files.put("first.bin", b"", if_absent=True)


def check(s3: S3Space, raw: Any, key: str) -> None:
    """Fail unless a file is there whole or not at all, and nothing is under way."""
    until(lambda: THREADS.busy <= 1 and s3.proxy.is_idle, PATIENCE)  # one is this
    assert [] == raw.uploads
    found = raw.ask("list_objects_v2", Prefix=key).get("Contents", ())
    assert all(entry["Size"] in (1000, len(LARGE)) for entry in found), found


@verbs(put, put_at_once, read, look, copy, delete, walk, sweep)
@pytest.mark.parametrize("colour", [Colour.ASYNC])
async def test_cancelling_at_every_wait(store: Any, s3: S3Space, raw: Any, verb: Verb) -> None:
    """Wherever it happens: a file is there whole or not at all, no parts are left, and no connection stays open."""
    assert [] == raw.uploads  # who looks on has a connection too
    before = s3.proxy.connections
    files = store()
    await prepare(files)
    at = 0
    while await _is_cancelled(verb(files, f"new-{at}.bin"), at):
        await run_blocking(check, s3, raw, f"new-{at}.bin")
        at += 1
    assert at > 0
    assert 0 == await files.sweep(older_than=0)
    await run_blocking(until, lambda: s3.proxy.connections - before <= KEPT, PATIENCE)
    await files.close()
    gc.collect()  # a pool of urllib3 closes its connections when nobody refers to it
    await run_blocking(until, lambda: s3.proxy.connections <= before, PATIENCE)


@pytest.mark.parametrize(("verb", "operation"), [(put, "UploadPart"), (copy, "UploadPartCopy")])
@pytest.mark.parametrize("colour", [Colour.ASYNC])
async def test_nothing_is_given_up_while_parts_are_under_way(
    store: Any, s3: S3Space, verb: Verb, operation: str
) -> None:
    """A part that comes after its upload was aborted stays at S3."""
    files = store()
    await prepare(files)
    gate = threading.Event()
    s3.proxy.trouble(operation, *[Trouble(hold=gate)] * 10)
    before = s3.proxy.arrived(operation)
    task = asyncio.ensure_future(verb(files, "new.bin"))
    await soon(lambda: s3.proxy.arrived(operation) > before)
    task.cancel()
    await asyncio.sleep(0.1)
    assert 0 == s3.proxy.arrived("AbortMultipartUpload")
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert 1 == s3.proxy.count("AbortMultipartUpload")


async def _is_cancelled(coroutine: Coroutine[Any, Any, object], at: int) -> bool:
    """Run a coroutine in a task that is cancelled at its wait number `at`; tell whether it has so many."""
    try:
        await asyncio.ensure_future(_run(coroutine, at))
    except asyncio.CancelledError:
        return True
    return False


async def _run(coroutine: Coroutine[Any, Any, object], at: int) -> None:
    await _cancelling(coroutine, at)


@types.coroutine
def _cancelling(coroutine: Coroutine[Any, Any, object], at: int) -> Generator[Any, Any, None]:
    step = partial(coroutine.send, None)
    waits = 0
    while True:
        try:
            future = step()
        except StopIteration:
            assert waits <= at, "it went on although it was cancelled"
            return
        if waits == at:
            _cancel()
        waits += 1
        try:
            yield future
            step = partial(coroutine.send, None)
        except BaseException as error:
            step = partial(coroutine.throw, error)


def _cancel() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


@verbs(put, put_at_once, copy, delete)
@pytest.mark.parametrize("moment", ["before-send", "after-call"])
@pytest.mark.parametrize("colour", [Colour.BLOCKING])
async def test_interrupting_at_every_request(store: Any, s3: S3Space, raw: Any, verb: Verb, moment: str) -> None:
    """Before it is sent, and once it is answered. Only an upload whose id has just come is left, for `sweep`."""
    files = store()
    await prepare(files)
    interrupt = Interrupt(files, moment)
    count = 0
    while await interrupt.at(count, verb(files, f"new-{count}.bin")):
        is_unknown = interrupt.last.endswith("after-call.s3.CreateMultipartUpload")
        if is_unknown:
            assert 1 == await files.sweep(older_than=0)
        check(s3, raw, f"new-{count}.bin")
        count += 1
    assert count > 0
    assert 0 == await files.sweep(older_than=0)


class Interrupt:
    """Interrupts one request of many, as Ctrl-C does."""

    def __init__(self, files: Any, moment: str) -> None:
        self._left = -1
        self.last = ""
        files.native(BaseClient).meta.events.register(f"{moment}.s3", self._count)

    async def at(self, count: int, verb: Coroutine[Any, Any, object]) -> bool:
        """Run a verb, and interrupt its request of that number. Return whether it has so many."""
        self._left = count
        try:
            await verb
        except KeyboardInterrupt:
            return True
        finally:
            self._left = -1
        return False

    def _count(self, event_name: str, **_: object) -> None:
        self._left -= 1
        if self._left == -1:
            self.last = event_name
            raise KeyboardInterrupt
