"""Whether verbs and figures are told to anybody, and what OpenTelemetry makes of them."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pilotis.modules.cache.figures import FIGURES
from pilotis.modules.cache.stats import CacheStats
from pilotis.telemetry import Figure, OpenTelemetry, default_telemetry

OWN = Figure(name="pilotis.test.own", description="", kind="own")
TOLD = Figure(name="pilotis.test.told", description="", kind="told")
GAUGE = Figure(name="pilotis.test.gauge", description="", kind="gauge")
ONE: list[tuple[float, dict[str, str]]] = [(1, {})]


def figures(meters: InMemoryMetricReader) -> dict[str, dict[str, float]]:
    """Return the values of each instrument, by the attribute `of`."""
    data: Any = meters.get_metrics_data()
    metrics: list[Any] = [] if data is None else data.resource_metrics[0].scope_metrics[0].metrics
    points: dict[str, Any] = {metric.name: metric.data.data_points for metric in metrics}
    return {name: {point.attributes.get("of"): point.value for point in of} for name, of in points.items()}


# Whether there is anybody


def test_an_api_that_nobody_set_up_is_not_asked() -> None:
    """Verbs then cost what they cost without it."""
    assert default_telemetry() is None


@pytest.mark.parametrize("part", ["spans", "meters"])
def test_a_provider_of_tracers_or_meters_is_enough(part: str, request: pytest.FixtureRequest) -> None:
    """Each alone has somebody who wants to know."""
    request.getfixturevalue(part)
    assert isinstance(default_telemetry(), OpenTelemetry)


@pytest.mark.usefixtures("spans")
def test_without_the_api_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert default_telemetry() is None


# Verbs


def test_a_verb_is_a_span_and_counts(spans: InMemorySpanExporter, meters: InMemoryMetricReader) -> None:
    """Whether it succeeds or not; what it raised is on the span, and passes."""
    telemetry = OpenTelemetry()
    facts = {"pilotis.module": "cache", "pilotis.operation": "get", "pilotis.provider": "memory"}
    with telemetry.operation("cache", "get", "memory"):
        pass
    with pytest.raises(KeyError), telemetry.operation("cache", "get", "memory"):
        raise KeyError("price")
    found = spans.get_finished_spans()
    assert [("pilotis.cache.get", facts)] * 2 == [(span.name, dict(span.attributes or {})) for span in found]
    assert [[], ["exception"]] == [[event.name for event in span.events] for span in found]
    data: Any = meters.get_metrics_data()
    [metric] = data.resource_metrics[0].scope_metrics[0].metrics
    assert "pilotis.operations" == metric.name
    assert [(1, {**facts, "pilotis.outcome": "error"}), (1, {**facts, "pilotis.outcome": "ok"})] == sorted(
        ((point.value, dict(point.attributes)) for point in metric.data.data_points),
        key=lambda it: it[1]["pilotis.outcome"],
    )


# Figures


def test_equal_figures_are_joined(meters: InMemoryMetricReader) -> None:
    """What sources of this process count is added up; of what a backend tells each of them, the greatest holds."""
    for telemetry in (OpenTelemetry(), OpenTelemetry()):  # of two apps
        for figure in (OWN, TOLD, GAUGE):
            telemetry.observe(figure, lambda: [(3, {"of": "a"}), (1, {"of": "b"})])
            telemetry.observe(figure, lambda: [(2, {"of": "a"})])
    greatest = {"a": 3, "b": 1}
    assert {OWN.name: {"a": 10, "b": 2}, TOLD.name: greatest, GAUGE.name: greatest} == figures(meters)


def test_an_instrument_is_made_once(meters: InMemoryMetricReader, caplog: pytest.LogCaptureFixture) -> None:
    """However many apps there are: the SDK warns of others of its name."""
    for _ in range(2):
        OpenTelemetry().observe(OWN, lambda: ONE)
    data: Any = meters.get_metrics_data()
    assert [OWN.name] == [it.name for it in data.resource_metrics[0].scope_metrics[0].metrics]
    assert "" == caplog.text


def test_a_source_that_ends_is_no_longer_read(meters: InMemoryMetricReader) -> None:
    """What it counted itself stays, and is taken over once; the rest is gone. A figure outlives its sources."""
    telemetry = OpenTelemetry()
    ends = [telemetry.observe(figure, lambda: [(5, {"of": "a"})]) for figure in (OWN, TOLD, GAUGE)]
    for end in ends * 2:
        end()
    assert {OWN.name: {"a": 5}} == figures(meters)
    telemetry.observe(OWN, lambda: [(2, {"of": "a"})])
    telemetry.observe(GAUGE, lambda: [(2, {"of": "a"})])
    assert {OWN.name: {"a": 7}, GAUGE.name: {"a": 2}} == figures(meters)


def test_figures_can_be_added_while_others_are_collected(meters: InMemoryMetricReader) -> None:
    """Whoever collects holds a lock that making an instrument waits for: neither waits for the other for ever."""
    telemetry = OpenTelemetry()
    adding = threading.Thread(target=telemetry.observe, args=(GAUGE, lambda: ONE), daemon=True)

    def read() -> list[tuple[float, dict[str, str]]]:
        if adding.ident is None:
            adding.start()
            adding.join(0.2)  # it waits by now, with the lock of its own; if not, the test shows less
        return ONE

    telemetry.observe(OWN, read)
    telemetry.observe(TOLD, read)
    collecting = threading.Thread(target=figures, args=(meters,), daemon=True)
    collecting.start()
    for thread in (collecting, adding):
        thread.join(10)
        assert not thread.is_alive()
    assert [OWN.name, TOLD.name, GAUGE.name] == list(figures(meters))


def test_each_number_of_a_cache_is_a_figure() -> None:
    """Under its own name."""
    assert {name: f"pilotis.cache.{name}" for name in CacheStats.__struct_fields__} == {
        name: figure.name for name, figure in FIGURES.items()
    }
