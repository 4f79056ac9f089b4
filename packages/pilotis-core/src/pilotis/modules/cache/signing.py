"""Signatures of stored entries, so that nobody else who can write to the backend can put values there."""

from __future__ import annotations

import hmac

from pilotis.modules.cache.envelope import SIGNED, is_number

_MARK = bytes([SIGNED])
_LENGTH = 32


class Signer:
    """Signs an entry together with its key: an entry that was copied to another key is no good there.

    The signature is HMAC-SHA256 (RFC 2104). Whole numbers are not signed, because the backend counts with them.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def signed(self, key: str, data: bytes) -> bytes:
        """Return what to store."""
        return data if is_number(data) else b"".join((_MARK, self._signature(key, data), data))

    def opened(self, key: str, stored: bytes) -> bytes | None:
        """Return what was signed; None where it was not, or not with this secret."""
        if stored[:1] != _MARK:
            return stored if is_number(stored) else None
        signature, data = stored[1 : 1 + _LENGTH], stored[1 + _LENGTH :]
        return data if hmac.compare_digest(signature, self._signature(key, data)) else None

    def _signature(self, key: str, data: bytes) -> bytes:
        name = key.encode()
        return hmac.digest(self._secret, b"".join((len(name).to_bytes(4), name, data)), "sha256")
