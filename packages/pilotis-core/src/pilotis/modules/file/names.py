"""Keys from the names that people give to files."""

from __future__ import annotations

import re
import unicodedata

from pilotis.errors import InvalidInputError

LONGEST_STEM = 120
LONGEST_ENDING = 16
LONGEST_FILENAME = 255

_UNSAFE = re.compile(r"[^\w.-]+")


def clean_filename(value: object, at: str = "filename") -> str:
    """Return the last part of a file name, without what cannot be shown: what a download may be called.

    Both kinds of slashes part folders. Raises `InvalidInputError` for what is not text, and for text with nothing left.
    """
    if not isinstance(value, str):
        raise InvalidInputError(f"{at}: expected text, got {type(value).__name__}")
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", value))[-1]
    name = cut("".join(character for character in last if character.isprintable()), LONGEST_FILENAME).strip()
    if not name.strip("."):
        raise InvalidInputError(f"{at}: expected a name such as 'report.pdf', got one with nothing to show")
    return name


def key_of(filename: str, identifier: str) -> str:
    """Return a unique key such as `summer-plan-01K....pdf` for a clean file name."""
    safe = _UNSAFE.sub("-", filename).strip(".-_")
    stem, dot, ending = safe.rpartition(".")
    if not dot or not ending.isalnum() or len(ending.encode()) > LONGEST_ENDING:
        stem, ending = safe, ""
    stem = cut(stem, LONGEST_STEM).rstrip(".-") or "file"
    return f"{stem}-{identifier}.{ending}" if ending else f"{stem}-{identifier}"


def cut(text: str, size: int) -> str:
    """Return the beginning of `text` that has `size` bytes at most in UTF-8."""
    return text.encode(errors="ignore")[:size].decode(errors="ignore")
