"""Test the suites themselves: a provider that breaks an obligation must fail a named test."""

from __future__ import annotations

import pytest

_MODULE = """
import pytest
from {suite_module} import {suite} as Suite
from {mutant_module} import {mutant} as Mutant

class TestMutant(Suite):
    @pytest.fixture
    def provider(self{fixtures}):
        return Mutant({arguments})
"""


def assert_caught(
    pytester: pytest.Pytester, suite: type, mutant: type, test: str, *, fixtures: str = "", arguments: str = ""
) -> None:
    """Assert that `mutant` fails `suite.test` by an assertion or a typed error.

    `mutant` is importable by name. `fixtures` and `arguments` go into the `provider` fixture:
    `fixtures="tmp_path", arguments="Mutant.Options(root=tmp_path)"`.
    """
    assert hasattr(suite, test), f"{suite.__qualname__} has no test named {test}"
    pytester.makepyfile(
        _MODULE.format(
            suite_module=suite.__module__,
            suite=suite.__qualname__,
            mutant_module=mutant.__module__,
            mutant=mutant.__qualname__,
            fixtures=f", {fixtures}" if fixtures else "",
            arguments=arguments,
        )
    )
    result = pytester.runpytest_inprocess("-q", "-k", test, "-p", "no:cacheprovider", "--timeout=20")
    outcomes = result.parseoutcomes()
    assert outcomes.get("failed", 0) >= 1, f"{mutant.__qualname__} passed {test}: {outcomes}"
