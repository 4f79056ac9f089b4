"""How keys reach the provider: `<app>:<namespace>:<key>`, so that no two namespaces ever meet."""

from __future__ import annotations

import re

from pilotis.keys import check_text

_SPECIAL = re.compile(r"[%:/#*]")


class Names:
    """The keys of one namespace: a path of names, joined by `/`, in which special characters are escaped."""

    def __init__(self, app: str, path: tuple[str, ...]) -> None:
        self.path = path
        space = f"{_escaped(app)}:{'/'.join(map(_escaped, path))}"
        self._keys = f"{space}:"
        self._tags = f"{space}#:"

    def key(self, key: str) -> str:
        return self._keys + check_text(key, "key")

    def tag(self, tag: str) -> str:
        """Return the key of a tag's epoch."""
        return self._tags + check_text(tag, "tag")

    def patterns(self) -> tuple[str, str]:
        """Return what matches everything of this namespace, and nothing of those within it."""
        return f"{self._keys}*", f"{self._tags}*"


def _escaped(name: str) -> str:
    return _SPECIAL.sub(lambda found: f"%{ord(found[0]):02X}", name)
