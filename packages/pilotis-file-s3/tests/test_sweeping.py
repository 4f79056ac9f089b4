"""What killed writers leave, and that it goes; how much memory a large file takes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from pilotis.bridge import run_blocking
from pilotis_testing.chaos import eventually, size
from pilotis_testing.clock import until
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


async def test_a_writer_that_is_killed(files: Any, s3: S3Space, raw: Any, colour: Any) -> None:
    """No file appears, the old one stays, and `sweep` removes what was sent."""
    await files.put("a.bin", b"old")
    script = [sys.executable, str(HERE / "s3_worker.py"), "endless", json.dumps(s3.options), colour.value]
    with subprocess.Popen(script) as writer:
        eventually(lambda: s3.proxy.count("UploadPart") > 2)
        writer.kill()
    eventually(lambda: s3.proxy.is_idle)
    assert ["a.bin"] == raw.names
    assert ["a.bin"] == raw.uploads
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
