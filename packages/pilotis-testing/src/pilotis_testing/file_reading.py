"""Reading, listing, copying, moving and deleting."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest
from pilotis.errors import NotFoundError, UnsupportedError
from pilotis.providers import FileCapability, FileProvider

from pilotis_testing.file_base import LARGE, MIB, BrokenSourceError, FileTests, has, keys

TREE = ("a-b", "a/b", "a/c/d", "a/c/e", "ab", "ä/x", "b")
"""Keys in their order: "-" sorts before "/", and "/" before letters."""


class ReadingTests(FileTests):
    async def test_ranges_are_slices(self, files: Any) -> None:
        """A range is what a slice of the content would be, beyond its end too."""
        await files.put("a.bin", LARGE)
        await files.put("empty", b"")
        edges = (0, 1, MIB - 1, MIB, MIB + 1, len(LARGE) - 1, len(LARGE), len(LARGE) + 5)
        for start in edges:
            for end in (*(edge for edge in edges if edge >= start), None):
                assert LARGE[start:end] == await files.read("a.bin", start=start, end=end), (start, end)
        assert b"" == await files.read("empty", start=0, end=1)

    async def test_streams_come_in_chunks_of_the_size_asked_for(self, files: Any) -> None:
        """All chunks have `chunk_size` bytes but the last, and are the content, or the range, together."""
        await files.put("a.bin", LARGE)
        for size in (300_000, MIB, 2 * MIB, 10 * MIB):
            chunks = [chunk async for chunk in files.stream("a.bin", chunk_size=size, start=7)]
            assert LARGE[7:] == b"".join(chunks)
            assert {size} >= {len(chunk) for chunk in chunks[:-1]}
            assert 0 < len(chunks[-1]) <= size

    async def test_a_stream_reads_one_version(self, files: Any) -> None:
        """A file that is replaced, or removed, while it is streamed is read to its end as it was."""
        for change in (lambda: files.put("a.bin", b"new"), lambda: files.delete("a.bin")):
            await files.put("a.bin", LARGE)
            stream = files.stream("a.bin")
            chunks = [await anext(stream)]
            await change()
            chunks.extend([chunk async for chunk in stream])
            assert LARGE == b"".join(chunks)

    async def test_what_is_absent(self, files: Any) -> None:
        """An unknown key is `NotFoundError` for `read`, `stream`, `stat`, `copy` and `move`; `exists` is false."""
        await files.put("a/b", b"1")
        for key in ("nothing", "a", "a/b/c", "x/y"):
            assert not await files.exists(key)
            for verb in (files.read, files.stat):
                with pytest.raises(NotFoundError):
                    await verb(key)
            for verb in (files.copy, files.move):
                for target in ("other", key):
                    with pytest.raises(NotFoundError):
                        await verb(key, target)
            with pytest.raises(NotFoundError):
                await anext(files.stream(key))
        assert ["a/b"] == await keys(files)

    # Listing

    async def test_list_is_sorted_and_filtered(self, files: Any) -> None:
        """Keys come sorted by code point, each once; the prefix is text, not a folder."""
        for key in reversed(TREE):
            await files.put(key, key.encode())
        assert sorted(TREE) == await keys(files)
        for prefix in ("a", "a/", "a/c", "a/c/", "ab", "nothing", "a/b", "ä"):
            assert sorted(key for key in TREE if key.startswith(prefix)) == await keys(files, prefix), prefix

    async def test_list_with_a_delimiter(self, files: Any) -> None:
        """With "/" every folder after the prefix is listed once, in the place of its files."""
        for key in TREE:
            await files.put(key, key.encode())
        expected = {
            "": ["a-b", "a/", "ab", "b", "ä/"],
            "a": ["a-b", "a/", "ab"],
            "a/": ["a/b", "a/c/"],
            "a/c": ["a/c/"],
            "a/c/": ["a/c/d", "a/c/e"],
            "b/": [],
        }
        assert expected == {prefix: await keys(files, prefix, "/") for prefix in expected}
        folders = [info.key async for info in files.list(delimiter="/") if info.is_folder]
        assert ["a/", "ä/"] == folders

    async def test_list_tells_the_facts(self, files: Any, provider: FileProvider) -> None:
        """What is listed of a file is what `stat` says; without LISTED_FACTS, its size and etag are, and no more."""
        await files.put("a/b.txt", b"hello", metadata={"n": "1"}, access="public")
        told = await files.stat("a/b.txt")
        (listed,) = [info async for info in files.list("a/")]
        if has(provider, FileCapability.LISTED_FACTS):
            assert told == listed
            return
        assert (told.key, told.size, told.etag) == (listed.key, listed.size, listed.etag)
        assert ("", None, {}, "private") == (listed.content_type, listed.sha256, listed.metadata, listed.access)
        assert listed.modified.tzinfo is UTC

    async def test_list_many(self, files: Any) -> None:
        """More files than fit on a page are all listed, also when those that were listed are deleted on the way."""
        for number in range(120):
            await files.put(f"many/{number:03}", b"")
        listed: list[str] = []
        async for info in files.list("many/"):
            listed.append(info.key)
            await files.delete(info.key)
        assert [f"many/{number:03}" for number in range(120)] == listed
        assert [] == await keys(files, delimiter="/")

    # Copying, moving, deleting

    async def test_copy(self, files: Any) -> None:
        """A copy has content, type, metadata, access and digest of its source, and replaces what was there."""
        await files.put("a.bin", LARGE, content_type="text/x", metadata={"n": "1"}, access="public")
        await files.put("c/b.bin", b"old")
        copied, source = await files.copy("a.bin", "c/b.bin"), await files.stat("a.bin")
        assert LARGE == await files.read("a.bin") == await files.read("c/b.bin")
        assert copied == await files.stat("c/b.bin")
        assert "c/b.bin" == copied.key
        for name in ("size", "content_type", "metadata", "access", "sha256"):
            assert getattr(source, name) == getattr(copied, name), name

    async def test_move(self, files: Any) -> None:
        """A moved file has its new key only, with all its facts."""
        await files.put("a/b.bin", LARGE, content_type="text/x", metadata={"n": "1"}, access="public")
        await files.put("c.bin", b"old")
        moved = await files.move("a/b.bin", "c.bin")
        assert ["c.bin"] == await keys(files)
        assert LARGE == await files.read("c.bin")
        assert moved == await files.stat("c.bin")
        assert ("text/x", {"n": "1"}, "public") == (moved.content_type, moved.metadata, moved.access)

    async def test_onto_itself(self, files: Any) -> None:
        """Copied or moved onto itself, a file stays as it is."""
        info = await files.put("a.bin", b"1")
        assert info == await files.copy("a.bin", "a.bin") == await files.move("a.bin", "a.bin")
        assert b"1" == await files.read("a.bin")

    async def test_delete(self, files: Any) -> None:
        """Deleted files are gone, all that were named; unknown keys, and no keys, are no error."""
        for key in ("a/b", "a/c", "d"):
            await files.put(key, b"1")
        await files.delete("a/b", "nothing", "a", "d")
        await files.delete("a/b")
        await files.delete()
        assert ["a/c"] == await keys(files)

    async def test_a_deleted_file_can_be_put_again(self, files: Any) -> None:
        """A key that was freed can be used again, as a folder too, and keeps nothing of the old file."""
        await files.put("a", b"1", metadata={"n": "1"})
        await files.delete("a")
        await files.put("a/b", b"2")
        await files.delete("a/b")
        assert {} == (await files.put("a", b"3")).metadata

    # Sweeping

    async def test_sweep_leaves_files_and_writers_alone(self, files: Any, provider: FileProvider) -> None:
        """Nothing of a stored file or of a writer at work is swept; undeclared, `sweep` is refused."""
        if not has(provider, FileCapability.SWEEP):
            with pytest.raises(UnsupportedError, match="SWEEP"):
                await files.sweep()
            return
        await files.put("a/b", b"1", metadata={"n": "1"})
        before = await files.stat("a/b")
        async with files.writer("c.bin") as out:
            await out.write(LARGE)
            await files.sweep(older_than=0)
            await out.write(LARGE)
        assert LARGE + LARGE == await files.read("c.bin")
        with pytest.raises(BrokenSourceError):
            async with files.writer("d.bin") as out:
                await out.write(LARGE)
                raise BrokenSourceError
        assert 0 == await files.sweep(older_than=0)
        assert before == await files.stat("a/b")
