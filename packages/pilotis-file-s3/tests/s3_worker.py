"""A process that writes to S3 for ever, or tells how much memory a large file takes; started by tests."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pilotis import FileStore
from pilotis_file_s3 import S3Files, S3FilesOptions
from pilotis_testing.colours import Colour

MIB = 1024 * 1024


def endless() -> Iterator[bytes]:
    while True:
        yield bytes(MIB)
        time.sleep(0.02)  # whoever looks on keeps it all


def resident() -> float:
    """Return the most memory that this process has had, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


async def grown(files: Any, size: int) -> dict[str, float]:
    await files.put("small.bin", bytes(MIB))
    await files.read("small.bin")
    before = resident()
    await files.put("a.bin", (bytes([number % 256]) * MIB for number in range(size)))
    put = resident()
    length = 0
    async for chunk in files.stream("a.bin"):
        length += len(chunk)
    assert length == size * MIB
    return {"put": put - before, "get": resident() - before}


def main(what: str, options: str, colour: Colour, of: str) -> None:
    store = FileStore(S3Files(S3FilesOptions(**json.loads(options))))
    files: Any = colour.voice(store)
    if what == "endless":
        colour.run(files.put(of, endless()))
    else:
        print(json.dumps(colour.run(grown(files, int(of)))))
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Colour(sys.argv[3]), sys.argv[4])
