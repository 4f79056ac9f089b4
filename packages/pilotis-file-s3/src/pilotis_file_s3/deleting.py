"""Deleting: a thousand keys with one request, and an error for each that may still be there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilotis_file_s3 import errors
from pilotis_file_s3.bucket import FAILURES, Bucket

_MOST = 1000


async def remove(bucket: Bucket, keys: Sequence[str]) -> dict[str, Exception]:
    """Remove files, and return the errors of those that are still there, or may be. Every key is tried."""
    names = [*dict.fromkeys(bucket.name_of(key) for key in keys)]
    failures: dict[str, Exception] = {}
    for start in range(0, len(names), _MOST):
        failures |= await _remove(bucket, names[start : start + _MOST])
    return {name.removeprefix(bucket.folder): failure for name, failure in failures.items()}


async def _remove(bucket: Bucket, names: Sequence[str]) -> dict[str, Exception]:
    what = {"Objects": [{"Key": name} for name in names], "Quiet": True}
    try:
        answer = await bucket.connection.ask("delete_objects", Delete=what)
    except FAILURES as error:
        return dict.fromkeys(names, error)
    told = answer.get("Errors", ())
    strays = [error for error in told if error.get("Key") not in names]
    # Whose an error is that has no key, or one that nobody asked for, is not known: it may be that of any.
    doubted = dict.fromkeys(names, _failure(strays[0])) if strays else {}
    return doubted | {error["Key"]: _failure(error) for error in told if error not in strays}


def _failure(error: Mapping[str, Any]) -> Exception:
    about = f"told of {error['Key']!r}" if "Key" in error else "told without a key"
    return errors.refused(error.get("Code", ""), f"{error.get('Message', '')} ({about})")
