"""S3Files: files in a bucket of S3, or of a server that speaks like it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from enum import Flag
from typing import Any, ClassVar, Literal

from pilotis.errors import AlreadyExistsError, OperationError
from pilotis.providers import (
    Chunks,
    FileCapability,
    FileInfo,
    FileProvider,
    Link,
    SignedUpload,
    WriteRequest,
    run_blocking,
)
from pilotis.settings.secrets import mask_url

from pilotis_file_s3 import copying, deleting, errors, linking, sweeping, uploading
from pilotis_file_s3.bucket import Bucket
from pilotis_file_s3.conditions import Conditions
from pilotis_file_s3.connection import Connection
from pilotis_file_s3.listing import pages_of
from pilotis_file_s3.multipart import part_size
from pilotis_file_s3.options import S3FilesOptions
from pilotis_file_s3.parts import parts_of
from pilotis_file_s3.reading import Reading
from pilotis_file_s3.records import folder_info, is_key, listed_info, told_info


class S3Files(FileProvider):
    """Files in a bucket, stored whole or not at all."""

    Options = S3FilesOptions
    shared = False
    capabilities: ClassVar[Flag] = (
        FileCapability.CREATE_ONLY
        | FileCapability.CHECKSUMS
        | FileCapability.OVERLAPPING_KEYS
        | FileCapability.SIGNED_LINKS
        | FileCapability.SWEEP
    )

    def __init__(
        self,
        options: S3FilesOptions | None = None,
        *,
        client: object | None = None,
        async_client: object | None = None,
    ) -> None:
        super().__init__(options, client=client, async_client=async_client)
        self._connection = Connection(self.options, client)
        self._bucket = Bucket(self._connection, self.options)
        self._conditions = Conditions(self._bucket)

    @property
    def address(self) -> str:
        place = f"s3://{self.options.bucket}/{self._bucket.folder}"
        return place if self.options.endpoint_url is None else f"{place} at {mask_url(self.options.endpoint_url)}"

    async def open(self) -> None:
        await self.ping()

    async def ping(self) -> None:
        # HEAD of the bucket would need no more rights, and tell no more than a status.
        await self._connection.ask("list_objects_v2", Prefix=self._bucket.folder, MaxKeys=1)

    async def close(self) -> None:
        await run_blocking(self._connection.close)

    def native(self, kind: type) -> object | None:
        from botocore.client import BaseClient  # pyright: ignore[reportMissingTypeStubs]

        wanted: Any = kind
        return self._connection.client if wanted is BaseClient else super().native(wanted)

    def classify(self, error: Exception) -> type[OperationError] | None:
        return errors.classify(error) or super().classify(error)

    def outcome(self, error: Exception) -> Literal["unknown"] | None:
        return "unknown" if errors.is_lost(error) else super().outcome(error)

    # Files

    async def write(self, key: str, chunks: Chunks, request: WriteRequest) -> FileInfo:
        if request.if_absent:
            await self._check_absent(key)
        size = part_size(self.options.part_size, request.size)
        async with aclosing(parts_of(chunks, size)) as parts:
            part, is_last = await anext(parts)
            if is_last:
                return await uploading.put(self._bucket, key, part, request, sha256=chunks.sha256, now=self._now())
            async with uploading.uploading(self._bucket, key, request, self._now()) as upload:
                await upload.send(part)
                while not is_last:
                    part, is_last = await anext(parts)
                    await upload.send(part)
                return await upload.complete(chunks.size, chunks.sha256)

    async def _check_absent(self, key: str) -> None:
        """Before anything is sent; what others create meanwhile is told by S3."""
        if await self._bucket.head(key) is not None:
            raise AlreadyExistsError(f"there is a file {key!r} already")
        await self._conditions.check()

    async def read(self, key: str, start: int, end: int | None) -> AsyncGenerator[bytes]:
        if end is not None and end <= start:
            await self._bucket.existing(key)
            return
        async with aclosing(Reading(self._bucket, key, start, end).chunks()) as chunks:
            async for chunk in chunks:
                yield chunk

    async def stat(self, key: str) -> FileInfo | None:
        answer = await self._bucket.head(key)
        return None if answer is None else told_info(key, answer, await self._bucket.digest(answer))

    async def list(self, prefix: str, delimiter: str | None) -> AsyncGenerator[FileInfo]:
        wanted = {"Prefix": self._bucket.folder + prefix, **({} if delimiter is None else {"Delimiter": delimiter})}
        async for page in pages_of(self._bucket, "list_objects_v2", **wanted):
            for info in sorted(self._listed(page), key=lambda info: info.key):
                yield info

    def _listed(self, page: Any) -> list[FileInfo]:
        start = len(self._bucket.folder)
        files = [listed_info(entry["Key"][start:], entry) for entry in page.get("Contents", ())]
        folders = [folder_info(entry["Prefix"][start:]) for entry in page.get("CommonPrefixes", ())]
        return [info for info in files if is_key(info.key)] + [info for info in folders if is_key(info.key[:-1])]

    async def copy(self, source: str, target: str) -> FileInfo:
        return await copying.copy(self._bucket, source, target, self._now())

    async def remove(self, keys: Sequence[str]) -> dict[str, Exception]:
        return await deleting.remove(self._bucket, keys)

    async def sweep(self, older_than: float) -> int:
        return await sweeping.sweep(self._bucket, self._now() - older_than)

    async def sign(self, link: Link) -> SignedUpload:
        return await run_blocking(linking.sign, self._bucket, link, self._now())

    def _now(self) -> float:
        return self.context.clock.time()
