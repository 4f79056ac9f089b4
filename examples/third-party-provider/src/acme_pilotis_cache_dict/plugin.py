"""What the entry point names. It imports nothing heavy: the provider is imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotis.providers import hookimpl

if TYPE_CHECKING:
    from pilotis.providers import CacheProvider


@hookimpl
def pilotis_provider() -> type[CacheProvider]:
    """Return the provider class."""
    from acme_pilotis_cache_dict.provider import DictCache

    return DictCache
