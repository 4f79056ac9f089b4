"""How keys reach the provider: `<app>:<namespace>:<key>`, so that no two namespaces ever meet."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pilotis.keys import check_text

MOST_KNOWN = 1024
"""Keys that are remembered with ours, so that those in use are not checked anew each time."""

_SPECIAL = re.compile(r"[%:/#*]")


class Names:
    """The keys of one namespace: a path of names, joined by `/`, in which special characters are escaped."""

    def __init__(self, app: str, path: tuple[str, ...]) -> None:
        self.path = path
        space = f"{_escaped(app)}:{'/'.join(map(_escaped, path))}"
        self.prefix = space
        """What all keys begin with, those of namespaces within this one too."""
        self._keys = f"{space}:"
        self._tags = f"{space}#:"
        self._known: dict[str, str] = {}

    def key(self, key: str) -> str:
        """Return ours for one of the user's. Raises `InvalidInputError` for what cannot be one."""
        try:
            return self._known.get(key) or self._learnt(key)
        except TypeError:  # it has no hash, and is refused
            return self._keys + check_text(key, "key")

    def _learnt(self, key: str) -> str:
        mapped = self._keys + check_text(key, "key")
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[key] = mapped
        return mapped

    def keys(self, keys: Iterable[str]) -> list[str]:
        """Return ours for several of the user's, which have been checked."""
        space = self._keys
        return [space + key for key in keys]

    def tag(self, tag: str) -> str:
        """Return the key of a tag's epoch."""
        return self._tags + check_text(tag, "tag")

    def patterns(self) -> tuple[str, str]:
        """Return what matches everything of this namespace, and nothing of those within it."""
        return f"{self._keys}*", f"{self._tags}*"


def refresh_name(key: str) -> str:
    """Return where the refresh of a key, as the provider has it, is claimed: beside it, in no namespace of users."""
    app, space, name = key.split(":", 2)
    return f"{app}:{space}#refresh:{name}"


def _escaped(name: str) -> str:
    return _SPECIAL.sub(lambda found: f"%{ord(found[0]):02X}", name)
