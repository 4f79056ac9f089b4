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
    pytester: pytest.Pytester, suite: type, mutant: str, test: str, *, fixtures: str = "", arguments: str = ""
) -> None:
    """Assert that a mutant fails `suite.test` by an assertion or a typed error.

    `mutant` names a class and the module that holds it, which stands beside the calling test:
    `"cache_mutants.ForgetsTtl"`. `fixtures` and `arguments` go into the `provider` fixture:
    `fixtures="tmp_path", arguments="Mutant.Options(root=tmp_path)"`.
    """
    module, _, name = mutant.rpartition(".")
    pytester.syspathinsert(pytester._request.path.parent)  # pyright: ignore[reportPrivateUsage]
    assert hasattr(suite, test), f"{suite.__qualname__} has no test named {test}"
    pytester.makepyfile(
        _MODULE.format(
            suite_module=suite.__module__,
            suite=suite.__qualname__,
            mutant_module=module,
            mutant=name,
            fixtures=f", {fixtures}" if fixtures else "",
            arguments=arguments,
        )
    )
    # Without the plugin that would import all of hypothesis anew, for each mutant.
    plugins = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    result = pytester.runpytest_inprocess("-q", "-k", test, *plugins, "--timeout=20")
    outcomes = result.parseoutcomes()
    assert outcomes.get("failed", 0) >= 1, f"{mutant} passed {test}: {outcomes}"
