"""Faces: flat name spaces whose names are imported when they are first used.

`import pilotis` in a process that only emits must not cost the import of six modules and all they stand on.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazily(name_space: dict[str, Any], homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module whose names are at home in other modules.

    `homes` maps a module to the names it gives, separated by spaces. A name is looked up once, and then kept.
    """
    home_of = {name: home for home, names in homes.items() for name in names.split()}

    def find(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {name_space['__name__']!r} has no attribute {name!r}")
        value = name_space[name] = getattr(importlib.import_module(home_of[name]), name)
        return value

    return find
