"""What is declared apart from an app, and how it reaches the event bus.

Workflows need no including: importing their module makes them known.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType

from pilotis.handlers import Handlers
from pilotis.modules.event.declaring import Declarations

Declaration = Declarations | ModuleType | str


def parts(declaration: Declaration) -> Iterator[Declarations]:
    """Return the handlers that a declaration stands for; a module is imported by its name."""
    if isinstance(declaration, Declarations):
        yield declaration
        return
    module = importlib.import_module(declaration) if isinstance(declaration, str) else declaration
    for value in vars(module).values():
        if isinstance(value, Handlers):
            yield value
