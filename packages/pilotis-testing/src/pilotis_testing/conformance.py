"""The base of the conformance suites."""

from __future__ import annotations

import inspect
from typing import Any

import pytest


class Conformance:
    """A suite of tests that a provider's test class inherits, with one fixture: `provider`.

    Tests are never overridden silently: a subclass that replaces one must say why with
    `@pytest.mark.xfail(reason=...)`, and pytest reports it.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith("pilotis_testing."):
            return
        for name, test in vars(cls).items():
            if name.startswith("test_") and _inherited(cls, name) and not _excused(test):
                raise TypeError(
                    f"{cls.__qualname__}.{name} overrides a conformance test. Declare the missing capability, "
                    f"or mark it with @pytest.mark.xfail(reason=...)"
                )

    @pytest.fixture
    def provider(self) -> Any:
        """Build the provider under test. Every suite needs it overridden."""
        raise NotImplementedError(f"{type(self).__qualname__} needs a fixture named 'provider'")


def _inherited(cls: type, name: str) -> bool:
    return any(
        inspect.isfunction(vars(base).get(name)) and base.__module__.startswith("pilotis_testing.")
        for base in cls.__mro__[1:]
    )


def _excused(test: Any) -> bool:
    marks = getattr(test, "pytestmark", [])
    return any(mark.name == "xfail" and mark.kwargs.get("reason") for mark in marks)
