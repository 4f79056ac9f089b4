"""Links that S3 serves itself: signed ones to read, and signed requests to store."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import quote

from pilotis.errors import InvalidInputError
from pilotis.modules.file.serving.http import disposition
from pilotis.providers import Link, SignedUpload

from pilotis_file_s3.bucket import Bucket

LONGEST = 604_800
"""Seconds; S3 signs for a week at most."""


def sign(bucket: Bucket, link: Link, now: float) -> SignedUpload:
    """Return the request that a link allows. Uploads with a greatest size are forms: S3 limits no other ones."""
    if link.expires is None:
        return SignedUpload(url=lasting(bucket, link.key), method="GET")
    seconds = max(1, math.floor(link.expires - now))  # S3 refuses links for no time at all
    if seconds > LONGEST:
        raise InvalidInputError(
            f"expires: expected {LONGEST} seconds (a week) at most, which S3 signs for; got {seconds}"
        )
    if link.method == "GET":
        return SignedUpload(url=_reading(bucket, link, seconds), method="GET")
    return _putting(bucket, link, seconds) if link.max_size is None else _posting(bucket, link, seconds)


def lasting(bucket: Bucket, key: str) -> str:
    """Return the address of a file: at the CDN where there is one, else in the bucket."""
    name = bucket.name_of(key)
    if bucket.options.public_url is not None:
        return f"{bucket.options.public_url.rstrip('/')}/{quote(name)}"
    return _presigned(bucket, "get_object", {"Key": name}, 1).partition("?")[0]


def _reading(bucket: Bucket, link: Link, seconds: int) -> str:
    wanted = {"Key": bucket.name_of(link.key)}
    if link.download_as is not None:
        wanted["ResponseContentDisposition"] = disposition(link.download_as)
    return _presigned(bucket, "get_object", wanted, seconds)


def _putting(bucket: Bucket, link: Link, seconds: int) -> SignedUpload:
    wanted = {"Key": bucket.name_of(link.key)}
    headers: dict[str, str] = {}
    if link.content_type is not None:
        wanted["ContentType"] = headers["Content-Type"] = link.content_type
    if bucket.options.canned is not None:
        wanted["ACL"] = headers["x-amz-acl"] = bucket.options.canned
    if bucket.options.cache_control is not None:
        wanted["CacheControl"] = headers["Cache-Control"] = bucket.options.cache_control
    return SignedUpload(url=_presigned(bucket, "put_object", wanted, seconds), method="PUT", headers=headers)


def _posting(bucket: Bucket, link: Link, seconds: int) -> SignedUpload:
    name = bucket.name_of(link.key)
    if "${filename}" in name:
        raise InvalidInputError("key: expected one without '${filename}', for which S3 puts whatever a form says")
    fields = {"success_action_status": "201"}
    if link.content_type is not None:
        fields["Content-Type"] = link.content_type
    if bucket.options.canned is not None:
        fields["acl"] = bucket.options.canned
    if bucket.options.cache_control is not None:
        fields["Cache-Control"] = bucket.options.cache_control
    conditions: list[Any] = [["content-length-range", 0, link.max_size], *({name: it} for name, it in fields.items())]
    made = bucket.connection.client.generate_presigned_post(
        bucket.options.bucket, name, Fields=fields, Conditions=conditions, ExpiresIn=seconds
    )
    return SignedUpload(url=made["url"], method="POST", fields=made["fields"])


def _presigned(bucket: Bucket, operation: str, wanted: dict[str, str], seconds: int) -> str:
    parameters = {"Bucket": bucket.options.bucket, **wanted}
    return bucket.connection.client.generate_presigned_url(operation, Params=parameters, ExpiresIn=seconds)
