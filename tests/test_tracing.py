"""Whether a trace goes on where an event is handled."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import opentelemetry.trace
import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TracerProvider
from pilotis.context import Context
from pilotis.modules.event import Event, EventBus, Message
from pilotis.telemetry import OpenTelemetry
from pilotis_event_local import LocalEvents
from pilotis_testing import Colour
from pilotis_testing.event_base import Seen, drained


class Spans(TracerProvider, opentelemetry.trace.Tracer):
    """A provider of tracers that notes which spans were begun, with their attributes and links."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, SpanContext, Any, Any]] = []
        self._numbers = itertools.count(1)

    def get_tracer(self, *_: Any, **__: Any) -> Spans:
        return self

    def start_span(self, name: str, *_: Any, **options: Any) -> NonRecordingSpan:
        number = next(self._numbers)
        identity = SpanContext(number << 64, number, is_remote=False, trace_flags=TraceFlags(1))
        self.begun.append((name, identity, options.get("attributes"), options.get("links") or ()))
        return NonRecordingSpan(identity)

    def start_as_current_span(self, name: str, *_: Any, **options: Any) -> Any:
        return opentelemetry.trace.use_span(self.start_span(name, **options))

    def of(self, name: str) -> list[tuple[SpanContext, Any, Any]]:
        """Return the spans of a name."""
        return [it[1:] for it in self.begun if it[0] == name]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    """What the application has set up."""
    spans = Spans()
    monkeypatch.setattr(opentelemetry.trace, "_TRACER_PROVIDER", spans)
    return spans


@pytest.fixture
def bus(spans: Spans, colour: Colour) -> Iterator[Any]:
    """A bus that tells OpenTelemetry."""
    context = Context(telemetry=OpenTelemetry())
    bus = EventBus(LocalEvents(), context=context)
    yield colour.voice(bus)
    bus.close()
    context.runtime.stop()


def _links(spans: Spans) -> list[list[int]]:
    return [[link.context.span_id for link in links] for _, _, links in spans.of("pilotis.event.handle")]


@pytest.mark.parametrize("timeout", [None, 60])
async def test_the_run_of_a_handler_is_linked_to_the_emit(
    bus: Any, spans: Spans, colour: Colour, timeout: float | None
) -> None:
    """The message takes the W3C `traceparent` along; the handler runs in a span of its own, which names it."""
    seen: list[tuple[Any, int]] = []

    def handle(event: Event[Any]) -> None:
        seen.append((event.metadata, opentelemetry.trace.get_current_span().get_span_context().span_id))

    bus.on("order.placed", id="mail", timeout=timeout)(handle)
    await bus.emit("order.placed", metadata={"by": "ada"})
    assert await drained(bus)
    [(emit, _, _)] = spans.of("pilotis.event.emit")
    [(run, attributes, _)] = spans.of("pilotis.event.handle")
    parent = f"00-{emit.trace_id:032x}-{emit.span_id:016x}-01"
    assert [({"traceparent": parent, "by": "ada"}, run.span_id)] == seen
    assert [[emit.span_id]] == _links(spans)
    assert attributes["pilotis.handler"].endswith("handle")


async def test_a_batch_is_linked_to_each_of_its_events(bus: Any, spans: Spans, colour: Colour) -> None:
    """Those whose metadata cannot be read as a trace are left out."""

    def handle(events: list[Event[Any]]) -> None: ...

    bus.on("order.placed", id="bulk", batch=3)(handle)
    mine = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    messages = [Message("order.placed", 1), Message("order.placed", 2, metadata={"traceparent": mine})]
    await bus.emit_many([*messages, Message("order.placed", 3, metadata={"traceparent": 7})])
    assert await drained(bus)
    [(emit, _, _)] = spans.of("pilotis.event.emit_many")
    assert [[emit.span_id, 0xB7AD6B7169203331]] == _links(spans)


async def test_nothing_is_added_without_telemetry(colour: Colour) -> None:
    """An event then has the metadata that its emitter gave it."""
    seen = Seen()
    bus = colour.voice(EventBus(LocalEvents()))
    bus.on("order.placed", id="mail")(seen)
    with opentelemetry.trace.use_span(Spans().start_span("mine")):
        await bus.emit("order.placed")
    assert await drained(bus)
    assert [{}] == [event.metadata for event in seen.events]
    await bus.close()
    bus.context.runtime.stop()
