"""What is declared apart from an app, and how it reaches the event bus.

A workflow is known once its module is imported, so including one does nothing more.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from pilotis.errors import ConfigurationError
from pilotis.handlers import Handlers
from pilotis.modules.event.declaring import Declarations

if TYPE_CHECKING:
    from pilotis.modules.workflow.flows import Flow

Declaration: TypeAlias = "Declarations | Flow[..., Any] | ModuleType | str"


def parts(declaration: Declaration) -> Iterator[Declarations]:
    """Return the handlers that a declaration stands for; a module is imported by its name."""
    if isinstance(declaration, Declarations):
        yield declaration
        return
    module = _imported(declaration) if isinstance(declaration, str) else declaration
    if isinstance(module, ModuleType):
        yield from (value for value in vars(module).values() if isinstance(value, Handlers))
    elif not _is_workflow(module):
        raise ConfigurationError(
            f"include: expected Handlers, a workflow, a module or its name, got {type(module).__name__}"
        )


def _is_workflow(declaration: object) -> bool:
    from pilotis.modules.workflow.flows import Flow  # not at the top: most apps have none, and it brings the engine

    return isinstance(declaration, Flow)


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ModuleNotFoundError, TypeError, ValueError) as error:
        if isinstance(error, ModuleNotFoundError) and not f"{name}.".startswith(f"{error.name}."):
            raise  # it is there, and what it imports is not
        raise ConfigurationError(
            f"include: expected the name of a module, such as shop.handlers, got {name!r}"
        ) from error
