"""Whether verbs are told to anybody."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pilotis.telemetry import OpenTelemetry, default_telemetry

API = """
class {idle}: ...
class Real:
    def get_tracer(self, name): return self
    def get_meter(self, name): return self
    def create_counter(self, name, description): return self
provider = {idle}()
get_tracer_provider = get_meter_provider = lambda: provider
get_tracer = lambda name: provider
get_meter = lambda name: Real()
"""


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package with the face of OpenTelemetry's API, as it is before anybody sets it up."""
    package = tmp_path / "opentelemetry"
    package.mkdir()
    (package / "__init__.py").touch()
    propagation = package / "trace" / "propagation"
    propagation.mkdir(parents=True)
    (package / "trace" / "__init__.py").write_text(API.format(idle="ProxyTracerProvider"))
    (propagation / "__init__.py").touch()
    (propagation / "tracecontext.py").write_text("class TraceContextTextMapPropagator: ...")
    (package / "metrics.py").write_text(API.format(idle="_ProxyMeterProvider"))
    names = [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)  # pyright: ignore[reportUnknownMemberType]
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
        sys.modules.pop(name)


@pytest.mark.usefixtures("api")
def test_an_api_that_nobody_set_up_is_not_asked() -> None:
    """Verbs then cost what they cost without it."""
    assert default_telemetry() is None


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize("part", ["trace", "metrics"])
def test_a_provider_of_tracers_or_meters_is_enough(part: str) -> None:
    """Each alone has somebody who wants to know."""
    module: Any = importlib.import_module(f"opentelemetry.{part}")
    module.provider = module.Real()
    assert isinstance(default_telemetry(), OpenTelemetry)
