"""Workflow functions, and where they are found by name and version."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

from msgspec import UnsetType

from pilotis.codec import CANONICAL, JSON, parameter_types, return_type
from pilotis.errors import InvalidInputError
from pilotis.runtime import is_async

P = ParamSpec("P")
R = TypeVar("R")


class Flow(Generic[P, R]):
    """A workflow function. Called as it is, it is the plain function, with its steps as plain functions."""

    def __init__(
        self,
        function: Callable[P, R],
        name: str,
        version: str,
        timeout: float | None,
        retention: float | UnsetType | None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name
        self.version = version
        self.timeout = timeout
        self.retention = retention
        """In seconds; None keeps runs for good, and where it is not set the settings say."""
        self.is_async = is_async(function)
        self.origin = f"{function.__module__}.{function.__qualname__}"
        self._signature = inspect.signature(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the plain function: nothing is recorded."""
        return self.function(*args, **kwargs)

    def encode(self, args: tuple[Any, ...]) -> bytes:
        """Return the input of a run, and check that the function can take it.

        Raises InvalidInputError for arguments that it does not take, and TypeMismatchError for those that do not fit
        their annotation once they have been encoded.
        """
        try:
            self._signature.bind(*args)
        except TypeError as error:
            raise InvalidInputError(f"input of workflow {self.name!r}: {error}; it takes {self._signature}") from None
        data = CANONICAL.encode(list(args), f"input of workflow {self.name!r}")
        self.decode(data)
        return data

    def decode(self, data: bytes) -> list[Any]:
        """Return the arguments of a run, each as its parameter's type."""
        values = JSON.decode(data, list)
        return typed_values(values, self._takes, f"input of workflow {self.name!r}")

    @functools.cached_property
    def returns(self) -> Any:
        """The type of the result, as annotated."""
        return return_type(self.function)

    @functools.cached_property
    def _takes(self) -> list[Any]:
        return list(parameter_types(self.function).values())


def typed_values(values: list[Any], types: list[Any], at: str) -> list[Any]:
    """Return decoded arguments, each as its parameter's type; those beyond the parameters as the last one's."""
    last = types[-1] if types else Any
    wanted = [types[index] if index < len(types) else last for index in range(len(values))]
    pairs = enumerate(zip(values, wanted, strict=True))
    return [value if kind is Any else JSON.convert(value, kind, f"{at}[{index}]") for index, (value, kind) in pairs]


FLOWS: dict[tuple[str, str], dict[str, Flow[..., Any]]] = {}
"""Every workflow function of this process: by name and version, then by where it is defined, the latest last."""


def enlist(flow: Flow[..., Any]) -> None:
    """Make a flow known. The same function defined again takes the place of the old one, as a reload does."""
    same_name = FLOWS.setdefault((flow.name, flow.version), {})
    same_name.pop(flow.origin, None)
    same_name[flow.origin] = flow


def find_flow(name: str, version: str, origin: str) -> Flow[..., Any] | None:
    """Return the flow of a run: the one it was started with, or where its code has moved the latest of that name."""
    same_name = FLOWS.get((name, version), {})
    return same_name.get(origin) or next(reversed(same_name.values()), None)


def check_flow(flow: object) -> Flow[..., Any]:
    """Return a flow that was given as such, or by its name. Raises `InvalidInputError`."""
    if isinstance(flow, Flow):
        enlist(flow)  # pyright: ignore[reportUnknownArgumentType]
        return flow  # pyright: ignore[reportUnknownVariableType]
    for (name, _), same_name in reversed(FLOWS.items()):
        if name == flow:
            return next(reversed(same_name.values()))
    known = ", ".join(sorted({name for name, _ in FLOWS})) or "none"
    raise InvalidInputError(f"workflow: expected a function decorated with @workflow, got {flow!r} (known: {known})")
