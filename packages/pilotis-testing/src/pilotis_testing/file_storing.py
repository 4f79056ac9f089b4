"""Storing: whole or not at all."""

from __future__ import annotations

import hashlib
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pilotis.errors import AlreadyExistsError, ConflictError, InvalidInputError, UnsupportedError
from pilotis.providers import FileCapability, FileProvider

from pilotis_testing.clock import ManualClock
from pilotis_testing.colours import Colour, together
from pilotis_testing.file_base import LARGE, MIB, BrokenSourceError, FileTests, breaking, has, keys, slowly


class StoringTests(FileTests):
    async def test_what_was_put_is_read(self, files: Any) -> None:
        """`read` returns the bytes that were put, of any size and under nested keys."""
        for key, data in (("empty", b""), ("a/b/c.txt", b"hello"), ("large.bin", LARGE)):
            await files.put(key, data)
            assert data == await files.read(key)

    async def test_put_tells_the_facts(self, files: Any, provider: FileProvider, clock: ManualClock) -> None:
        """`put` returns key, size, type, digest, time, metadata and access, and `stat` the same."""
        info = await files.put("a/data.json", b"{}", metadata={"author": "Zoë", "empty": ""}, access="public")
        assert ("a/data.json", 2, "application/json", "public") == (
            info.key,
            info.size,
            info.content_type,
            info.access,
        )
        assert {"author": "Zoë", "empty": ""} == info.metadata
        assert hashlib.sha256(b"{}").hexdigest() == (info.sha256 or hashlib.sha256(b"{}").hexdigest())
        assert datetime.fromtimestamp(clock.time(), UTC) == info.modified
        assert info == await files.stat("a/data.json")

    async def test_checksums_are_known_where_declared(self, files: Any, provider: FileProvider) -> None:
        """`sha256` is the digest of the content where the provider declares CHECKSUMS, and None where it does not."""
        info = await files.put("large.bin", LARGE)
        expected = hashlib.sha256(LARGE).hexdigest() if has(provider, FileCapability.CHECKSUMS) else None
        assert expected == info.sha256
        assert expected == (await files.stat("large.bin")).sha256

    async def test_every_kind_of_data_can_be_put(self, files: Any, tmp_path: Path) -> None:
        """Bytes, views, paths, open files and iterators, plain and async, are all stored whole."""
        path = tmp_path / "data.bin"
        path.write_bytes(LARGE)
        sources = [bytearray(LARGE), memoryview(LARGE), path, io.BytesIO(LARGE), iter([LARGE[:MIB], b"", LARGE[MIB:]])]
        for source in [*sources, slowly(LARGE[:MIB], b"", LARGE[MIB:])]:
            await files.put("data.bin", source)
            assert LARGE == await files.read("data.bin")

    async def test_an_empty_iterator_is_an_empty_file(self, files: Any) -> None:
        """An iterator without items stores a file without bytes."""
        assert (await files.put("empty", iter(()))).size == 0
        assert await files.read("empty") == b""

    async def test_put_replaces(self, files: Any) -> None:
        """A second `put` replaces content and facts, also by something shorter."""
        first = await files.put("a.txt", LARGE, metadata={"version": "1"}, content_type="text/one")
        second = await files.put("a.txt", b"new", content_type="text/two")
        assert b"new" == await files.read("a.txt")
        assert ("text/two", {}, 3) == (second.content_type, second.metadata, second.size)
        assert first.etag != second.etag
        assert second == await files.stat("a.txt")

    async def test_a_failed_put_leaves_nothing(self, files: Any) -> None:
        """When the source raises, its own error comes out, and there is no file."""
        with pytest.raises(BrokenSourceError):
            await files.put("deep/a.bin", breaking(LARGE, LARGE))
        assert not await files.exists("deep/a.bin")
        assert [] == await keys(files)

    async def test_a_failed_put_keeps_the_old_file(self, files: Any) -> None:
        """When the source raises, the file that was there stays, with its facts."""
        before = await files.put("a.bin", b"old", metadata={"version": "1"})
        with pytest.raises(BrokenSourceError):
            await files.put("a.bin", breaking(LARGE), metadata={"version": "2"})
        assert b"old" == await files.read("a.bin")
        assert before == await files.stat("a.bin")

    async def test_a_wrong_digest_stores_nothing(self, files: Any) -> None:
        """Content whose digest is not the one that was given is refused, and nothing stored."""
        with pytest.raises(InvalidInputError, match="sha256"):
            await files.put("a.bin", b"altered", sha256=hashlib.sha256(b"original").hexdigest())
        assert not await files.exists("a.bin")

    async def test_nobody_sees_a_file_being_written(self, files: Any, colour: Colour) -> None:
        """Until the last chunk has come, the key is free and nothing is listed."""
        seen: list[object] = []

        async def look(*progress: object) -> None:
            seen.append((await files.exists("a.bin"), await keys(files)))

        def look_plainly(*progress: object) -> None:
            colour.run(look())

        watch = look_plainly if colour is Colour.BLOCKING else look
        await files.put("a.bin", iter([LARGE, LARGE]), on_progress=watch)
        assert [(False, [])] * 2 == seen

    async def test_progress_is_told(self, files: Any) -> None:
        """`on_progress` gets the bytes so far and the total, where it is known, and its error ends the put."""
        told: list[tuple[int, int | None]] = []

        def note(done: int, total: int | None) -> None:
            told.append((done, total))

        def fail(done: int, total: int | None) -> None:
            raise BrokenSourceError

        await files.put("a.bin", LARGE, on_progress=note)
        assert [(MIB, len(LARGE)), (2 * MIB, len(LARGE)), (len(LARGE), len(LARGE))] == told
        with pytest.raises(BrokenSourceError):
            await files.put("b.bin", LARGE, on_progress=fail)
        assert not await files.exists("b.bin")

    async def test_if_absent_creates_only(self, files: Any, provider: FileProvider) -> None:
        """With `if_absent` a taken key is `AlreadyExistsError` and keeps its file; undeclared, it is refused."""
        if not has(provider, FileCapability.CREATE_ONLY):
            with pytest.raises(UnsupportedError, match="CREATE_ONLY"):
                await files.put("a.txt", b"one", if_absent=True)
            return
        first = await files.put("a.txt", b"one", if_absent=True, metadata={"n": "1"})
        with pytest.raises(AlreadyExistsError):
            await files.put("a.txt", b"two", if_absent=True, metadata={"n": "2"})
        assert b"one" == await files.read("a.txt")
        assert first == await files.stat("a.txt")

    async def test_one_of_many_creates(self, files: Any, provider: FileProvider) -> None:
        """Of several that create one key at once, one succeeds, and its content is what is read."""
        if not has(provider, FileCapability.CREATE_ONLY):
            return

        async def create(content: bytes) -> bytes | None:
            try:
                await files.put("a.bin", iter([content]), if_absent=True)
            except AlreadyExistsError:
                return None
            return content

        contents = [bytes([number]) * MIB for number in range(6)]
        outcomes = await together(*(lambda content=content: create(content) for content in contents))
        winners = [outcome for outcome in outcomes if outcome is not None]
        assert 1 == len(winners)
        assert winners[0] == await files.read("a.bin")

    async def test_many_replace_at_once(self, files: Any) -> None:
        """Of several that replace one key at once, the content and the facts of one are left, never a mixture."""

        async def replace(number: int) -> None:
            await files.put("a.bin", bytes([number]) * (MIB + number), metadata={"number": str(number)})

        await together(*(lambda number=number: replace(number) for number in range(6)))
        info, content = await files.stat("a.bin"), await files.read("a.bin")
        assert bytes([content[0]]) * (MIB + content[0]) == content
        assert ({"number": str(content[0])}, len(content)) == (info.metadata, info.size)

    async def test_a_key_in_the_way(self, files: Any, provider: FileProvider) -> None:
        """`a` beside `a/b` works where OVERLAPPING_KEYS is declared, and is a `ConflictError` where it is not."""
        await files.put("a", b"1")
        await files.put("b/c", b"2")
        if has(provider, FileCapability.OVERLAPPING_KEYS):
            await files.put("a/b", b"3")
            await files.put("b", b"4")
            assert ["a", "a/b", "b", "b/c"] == await keys(files)
            return
        for key in ("a/b", "a/b/c", "b"):
            with pytest.raises(ConflictError):
                await files.put(key, b"3")
            assert not await files.exists(key)
        if has(provider, FileCapability.CREATE_ONLY):
            with pytest.raises(ConflictError):
                await files.put("b", b"3", if_absent=True)
        assert ["a", "b/c"] == await keys(files)

    # The writer

    async def test_the_writer_stores_on_leaving(self, files: Any) -> None:
        """What was written in the block is stored when it ends, in order and whole."""
        async with files.writer("a.bin", content_type="text/x", metadata={"n": "1"}) as out:
            for start in range(0, len(LARGE), 100_000):
                await out.write(LARGE[start : start + 100_000])
            assert not await files.exists("a.bin")
        assert LARGE == await files.read("a.bin")
        assert out.info == await files.stat("a.bin")
        assert ("text/x", {"n": "1"}) == (out.info.content_type, out.info.metadata)

    async def test_the_writer_stores_nothing_on_an_error(self, files: Any) -> None:
        """When the block raises, its error comes out, nothing is stored, and the old file stays."""
        await files.put("old.bin", b"old")
        for key in ("old.bin", "new/b.bin"):
            with pytest.raises(BrokenSourceError):
                async with files.writer(key) as out:
                    await out.write(LARGE)
                    raise BrokenSourceError
        assert b"old" == await files.read("old.bin")
        assert ["old.bin"] == await keys(files)

    async def test_the_writer_without_a_write(self, files: Any) -> None:
        """A block that writes nothing stores an empty file."""
        async with files.writer("a.bin"):
            pass
        assert await files.read("a.bin") == b""
