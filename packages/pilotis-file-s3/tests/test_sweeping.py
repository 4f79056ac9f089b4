"""What killed writers leave, and that it goes; how much memory a large file takes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pilotis import FileStore
from pilotis.bridge import run_blocking
from pilotis_file_s3 import copying
from pilotis_testing.chaos import PATIENCE, eventually, size
from pilotis_testing.clock import until
from pilotis_testing.colours import Colour
from pilotis_testing.s3 import S3Space, Trouble

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
LARGE = b"x" * (6 * MIB)
HERE = Path(__file__).parent


async def test_uploads_that_were_left_are_swept(files: Any, raw: Any) -> None:
    """With and without parts; those of others under the same prefix too, as nobody can tell them apart."""
    upload = raw.ask("create_multipart_upload", Key="b/c")["UploadId"]
    raw.ask("upload_part", Key="b/c", UploadId=upload, PartNumber=1, Body=LARGE)
    assert 0 == await files.sweep(older_than=3600)
    raw.ask("create_multipart_upload", Key="a")
    assert 2 == await files.sweep(older_than=0)
    assert [] == raw.uploads
    assert 0 == await files.sweep(older_than=0)


async def test_uploads_outside_of_the_prefix_are_left(store: Any, raw: Any) -> None:
    """They are none of ours."""
    raw.ask("create_multipart_upload", Key="shopping/a")
    raw.ask("create_multipart_upload", Key="shop/a")
    assert 1 == await store(prefix="shop").sweep(older_than=0)
    assert ["shopping/a"] == raw.uploads


async def test_a_writer_at_work_is_left_alone(files: Any, raw: Any) -> None:
    """One of this process, however old its last part is."""
    async with files.writer("a.bin") as out:
        await out.write(LARGE)
        await out.write(LARGE)
        assert ["a.bin"] == raw.uploads
        assert 0 == await files.sweep(older_than=0)
        await out.write(LARGE)
    assert LARGE * 3 == await files.read("a.bin")


async def test_digests_go_after_their_files(files: Any, raw: Any) -> None:
    """A digest is swept when its file was deleted or replaced, and not before."""
    for key in ("kept", "replaced", "deleted"):
        await files.put(key, LARGE)
    await files.put("replaced", LARGE)
    await files.delete("deleted")
    assert 2 == await files.sweep(older_than=0)
    assert 2 == sum(name.startswith(".pilotis/") for name in raw.names)
    for key in ("kept", "replaced"):
        assert (await files.stat(key)).sha256 is not None


async def test_the_digest_of_a_write_that_ends_is_left_alone(files: Any, s3: S3Space) -> None:
    """Though its file has not appeared yet."""
    gate = threading.Event()
    s3.proxy.trouble("CompleteMultipartUpload", Trouble(hold=gate))
    swept: list[int] = []

    def sweep() -> None:
        until(lambda: s3.proxy.arrived("CompleteMultipartUpload") == 1)
        swept.append(asyncio.run(files._thing.asweep(older_than=0)))
        gate.set()

    sweeping = threading.Thread(target=sweep)
    sweeping.start()
    info = await files.put("a.bin", LARGE)
    await run_blocking(sweeping.join)
    assert [0] == swept
    assert info == await files.stat("a.bin")


@pytest.mark.parametrize("content", [b"", b"no JSON", b'{"key": "../up", "sha256": "1"}'])
async def test_what_is_no_digest_of_ours_is_left(files: Any, raw: Any, content: bytes) -> None:
    """Whoever stored it among ours; the rest is swept all the same."""
    raw.ask("put_object", Key=".pilotis/sha256/x", Body=content)
    await files.put("z", LARGE)
    await files.delete("z")
    assert 1 == await files.sweep(older_than=0)
    assert [".pilotis/sha256/x"] == raw.names


async def test_somebody_else_sweeps_too(files: Any, s3: S3Space, raw: Any) -> None:
    """What is gone when its turn comes is not counted, and no error."""
    raw.ask("create_multipart_upload", Key="a")
    s3.proxy.trouble("AbortMultipartUpload", Trouble(404, "NoSuchUpload"))
    assert 0 == await files.sweep(older_than=0)
    s3.proxy.trouble("ListParts", Trouble(404, "NoSuchUpload"))
    assert 1 == await files.sweep(older_than=0)


async def test_a_file_that_is_being_copied_is_left_alone(
    files: Any, s3: S3Space, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before anybody knows the id of its upload."""
    monkeypatch.setattr(copying, "LARGEST_AT_ONCE", MIB)
    await files.put("a.bin", LARGE)
    info = await files.stat("a.bin")
    for operation in ("CreateMultipartUpload", "UploadPartCopy", "CompleteMultipartUpload"):
        gate = threading.Event()
        s3.proxy.trouble(operation, Trouble(hold=gate))
        sweeping = threading.Thread(target=_sweep_when_more, args=(files._thing, s3, operation, gate))
        sweeping.start()
        copied = await files.copy("a.bin", f"{operation}.bin")
        await run_blocking(sweeping.join)
        assert info.sha256 == copied.sha256
    assert [] == raw.uploads


def _sweep_when_more(files: FileStore, s3: S3Space, operation: str, gate: threading.Event) -> None:
    before = s3.proxy.count(operation)
    until(lambda: s3.proxy.arrived(operation) > before, PATIENCE)
    asyncio.run(files.asweep(older_than=0))
    gate.set()


async def test_a_writer_that_begins_is_left_alone(files: Any, s3: S3Space, raw: Any) -> None:
    """Its upload is there before its id is known here: it is told by its name."""
    gate = threading.Event()
    s3.proxy.trouble("CreateMultipartUpload", Trouble(drip=1))
    s3.proxy.trouble("UploadPart", *[Trouble(hold=gate)] * 2)  # so that it is there, however late it is looked for
    swept: list[int] = []

    def sweep() -> None:
        eventually(lambda: raw.uploads == ["a.bin"])
        swept.append(asyncio.run(files._thing.asweep(older_than=0)))
        gate.set()

    sweeping = threading.Thread(target=sweep)
    sweeping.start()
    await files.put("a.bin", LARGE)
    await run_blocking(sweeping.join)
    assert [0] == swept
    assert LARGE == await files.read("a.bin")


@contextmanager
def writing(s3: S3Space, colour: Colour, key: str) -> Generator[None]:
    """Have a process of its own write to a file for the length of a block, and be killed as `kill -9` does."""
    options = json.dumps({**s3.options, "part_size": 5 * MIB})
    script = [sys.executable, str(HERE / "s3_worker.py"), "endless", options, colour.value, key]
    with subprocess.Popen(script) as writer:
        try:
            yield
        finally:
            writer.kill()


def sends_on(s3: S3Space) -> None:
    """Wait until more parts have come than were under way."""
    before = s3.proxy.count("UploadPart")
    eventually(lambda: s3.proxy.count("UploadPart") > before + 4)


def last_part(raw: Any, key: str) -> float:
    """Return when the last part of a file came that is being written."""
    (upload,) = raw.ask("list_multipart_uploads", Prefix=key)["Uploads"]
    parts = raw.ask("list_parts", Key=key, UploadId=upload["UploadId"])["Parts"]
    return max(part["LastModified"].timestamp() for part in parts)


@pytest.mark.timeout(300)
async def test_a_writer_that_is_killed(files: Any, s3: S3Space, raw: Any, colour: Colour) -> None:
    """No file appears, the old one stays, and `sweep` removes what was sent, once it is old enough.

    That of another process, which has sent something since, is left alone.
    """
    await files.put("a.bin", b"old")
    with writing(s3, colour, "a.bin"):
        eventually(lambda: s3.proxy.count("UploadPart") > 1)
    eventually(lambda: s3.proxy.is_idle)
    end = last_part(raw, "a.bin")
    with writing(s3, colour, "b.bin"):
        eventually(lambda: time.time() > end + 2)
        sends_on(s3)
        assert 0 == await files.sweep(older_than=3600)
        assert 1 == await files.sweep(older_than=time.time() - (end + 1))
        assert ["b.bin"] == raw.uploads
        sends_on(s3)
    eventually(lambda: s3.proxy.is_idle)
    assert ["a.bin"] == raw.names
    assert b"old" == await files.read("a.bin")
    assert 1 == await files.sweep(older_than=0)
    assert [] == raw.uploads


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_memory_does_not_grow_with_the_file(s3: S3Space, colour: Any) -> None:
    """Neither on the way in nor on the way out does a process take 64 MiB more for it."""
    script = [sys.executable, str(HERE / "s3_worker.py"), "memory", json.dumps(s3.options), colour.value]
    told = subprocess.run([*script, str(size(72, 512))], capture_output=True, text=True, check=True)
    grown = json.loads(told.stdout)
    assert 64 > grown["put"], grown
    assert 64 > grown["get"], grown
