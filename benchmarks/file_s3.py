"""A file of 64 MiB to S3 and back, by Pilotis and by boto3's own transfer (s3transfer), in turns.

moto's server answers both, in a process of its own and without the proxy of the tests, so that the figures are those of
the clients. boto3 has its own defaults: parts of 8 MiB, ten threads. Pilotis is asked in both colours; beside what
boto3 does it computes the SHA-256 of the whole, and compares it when the file is read.

    python benchmarks/file_s3.py
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from http.client import HTTPConnection
from io import BytesIO
from typing import Any

from harness import in_turns, machine, size, started, table
from pilotis import FileStore
from pilotis_file_s3 import S3Files, S3FilesOptions
from pilotis_testing.s3 import KEY, REGION, SECRET, MotoServer, client_of

MIB = 1024 * 1024
CONTENT = bytes(range(256)) * (4096 * size(64, 16))
ROUNDS = size(9, 3)
GOAL = 1.2


def main() -> None:
    """Measure, and print the medians and their ratios."""
    with started(MotoServer) as server, tempfile.TemporaryFile() as target:
        make_bucket(server.port)
        client = client_of(f"http://{server.address}")
        files = FileStore(S3Files(S3FilesOptions(**options(server.address))))
        with asyncio.Runner() as runner:
            puts: dict[str, Callable[[], Any]] = {
                "boto3": lambda: client.upload_fileobj(BytesIO(CONTENT), "bench", "boto3"),
                "pilotis, blocking": lambda: files.put("blocking", CONTENT),
                "pilotis, async": lambda: runner.run(files.aput("async", CONTENT)),
            }
            gets: dict[str, Callable[[], Any]] = {
                "boto3": lambda: receive(client, target),
                "pilotis, blocking": lambda: write_all(files, target),
                "pilotis, async": lambda: runner.run(awrite_all(files, target)),
            }
            report("put", measure(puts))
            report("get", measure(gets))
            runner.run(files.aclose())
        files.context.runtime.stop()
        client.close()


def options(address: str) -> dict[str, Any]:
    return {
        "bucket": "bench",
        "endpoint_url": f"http://{address}",
        "region": REGION,
        "access_key_id": KEY,
        "secret_access_key": SECRET,
    }


def make_bucket(port: int) -> None:
    connection = HTTPConnection("127.0.0.1", port)
    place = f"<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
    connection.request("PUT", "/bench", place)
    connection.getresponse().read()
    connection.close()


def receive(client: Any, target: Any) -> None:
    target.seek(0)
    client.download_fileobj("bench", "boto3", target)


def write_all(files: FileStore, target: Any) -> None:
    target.seek(0)
    for chunk in files.stream("blocking"):
        target.write(chunk)


async def awrite_all(files: FileStore, target: Any) -> None:
    target.seek(0)
    async for chunk in files.astream("async"):
        target.write(chunk)


def measure(candidates: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Return the seconds of every round, after one that does not count."""
    for call in candidates.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for name in in_turns(candidates, ROUNDS):
        begun = time.perf_counter()
        candidates[name]()
        times[name].append(time.perf_counter() - begun)
    return times


def report(what: str, times: dict[str, list[float]]) -> None:
    medians = {name: statistics.median(rounds) for name, rounds in times.items()}
    print(f"\n### {what} of {len(CONTENT) // MIB} MiB, median of {ROUNDS} rounds\n")
    rows = [
        (name, f"{median:.3f}", f"{len(CONTENT) / MIB / median:.0f}", f"{median / medians['boto3']:.2f}")
        for name, median in medians.items()
    ]
    table(["", "seconds", "MiB/s", f"to boto3 (goal: {GOAL} at most)"], rows)


if __name__ == "__main__":
    main()
    print(f"\n{machine()}")
