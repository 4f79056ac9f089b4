"""Listings, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from pilotis.errors import OperationError

from pilotis_file_s3.bucket import Bucket

_TURNS: Mapping[str, Mapping[str, str]] = {
    "list_objects_v2": {"ContinuationToken": "NextContinuationToken"},
    "list_multipart_uploads": {"KeyMarker": "NextKeyMarker", "UploadIdMarker": "NextUploadIdMarker"},
    "list_parts": {"PartNumberMarker": "NextPartNumberMarker"},
}
"""What to say for the next page, and where it stands in the one before."""


async def pages_of(bucket: Bucket, operation: str, **parameters: Any) -> AsyncIterator[Mapping[str, Any]]:
    """Yield the pages of a listing. Raises `OperationError` where there are more, and no way to them."""
    turn: dict[str, Any] = {}
    while True:
        page = await bucket.connection.ask(operation, **parameters, **turn)
        yield page
        if not page.get("IsTruncated"):
            return
        before, turn = turn, {say: page[told] for say, told in _TURNS[operation].items() if page.get(told)}
        if turn in ({}, before):
            raise OperationError(f"the server tells of more in {operation}, and not where it goes on")
