"""The forms in which values are stored, as the settings choose them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pilotis.errors import ConfigurationError
from pilotis.modules.cache import envelope
from pilotis.settings.model import CacheSettings

if TYPE_CHECKING:
    from pilotis.modules.cache.signing import Signer

SHORTEST_SECRET = 16


def signer_of(secret: str | None) -> Signer | None:
    """Return what signs with a secret. Raises `ConfigurationError` for one that is easy to guess."""
    if secret is None:
        return None
    if len(secret) < SHORTEST_SECRET:
        raise ConfigurationError(f"expected at least {SHORTEST_SECRET} characters", path="cache.secret")
    from pilotis.modules.cache.signing import Signer

    return Signer(secret)


def serializer_of(settings: CacheSettings) -> tuple[Callable[..., bytes], Callable[..., Any]]:
    """Return how values are encoded and decoded. Raises `ConfigurationError` for pickles without a secret."""
    if settings.serializer == "messagepack":
        return envelope.seal, envelope.unseal
    if settings.secret is None:
        raise ConfigurationError(
            "pickles must be signed, because whoever can write one can run code here; set cache.secret",
            path="cache.serializer",
        )
    from pilotis.modules.cache import pickling

    return pickling.seal, pickling.unseal
