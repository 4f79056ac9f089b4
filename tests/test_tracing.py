"""Whether a trace goes on where an event is handled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import opentelemetry.trace
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pilotis import Pilotis
from pilotis.modules.event import Event, EventBus, Message
from pilotis_event_local import LocalEvents
from pilotis_testing import Colour
from pilotis_testing.colours import soon
from pilotis_testing.event_base import Seen, drained


@pytest.fixture
def bus(spans: InMemorySpanExporter, colour: Colour) -> Iterator[Any]:
    """A bus that tells OpenTelemetry."""
    with Pilotis({"event": "local"}) as app:
        yield colour.voice(app.event)


def _of(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    """Return the spans of a name that have ended."""
    return [span for span in spans.get_finished_spans() if span.name == name]


def _identity(span: Any) -> tuple[int, int]:
    context = span.get_span_context()
    return context.trace_id, context.span_id


def _links(spans: InMemorySpanExporter) -> list[list[tuple[int, int]]]:
    runs = _of(spans, "pilotis.event.handle")
    return [[(link.context.trace_id, link.context.span_id) for link in run.links] for run in runs]


def _parent(span: ReadableSpan) -> tuple[int, int] | None:
    return None if span.parent is None else (span.parent.trace_id, span.parent.span_id)


def _traceparent(span: Any) -> str:
    trace, number = _identity(span)
    return f"00-{trace:032x}-{number:016x}-{span.get_span_context().trace_flags:02x}"


@pytest.mark.parametrize("timeout", [None, 60])
async def test_the_run_of_a_handler_is_linked_to_the_emit(
    bus: Any, spans: InMemorySpanExporter, colour: Colour, timeout: float | None
) -> None:
    """The message takes the W3C `traceparent` along; the handler runs in a span of its own, which names it."""
    seen: list[tuple[Any, Any]] = []

    def handle(event: Event[Any]) -> None:
        seen.append((event.metadata, _identity(opentelemetry.trace.get_current_span())))

    bus.on("order.placed", id="mail", timeout=timeout)(handle)
    await bus.emit("order.placed", metadata={"by": "ada"})
    assert await drained(bus)
    [emit] = _of(spans, "pilotis.event.emit")
    [run] = _of(spans, "pilotis.event.handle")
    assert [({"traceparent": _traceparent(emit), "by": "ada"}, _identity(run))] == seen
    assert [[_identity(emit)]] == _links(spans)
    assert str((run.attributes or {})["pilotis.handler"]).endswith("handle")
    assert opentelemetry.trace.SpanKind.CONSUMER == run.kind


async def test_a_batch_is_linked_to_each_of_its_events(bus: Any, spans: InMemorySpanExporter, colour: Colour) -> None:
    """Those whose metadata cannot be read as a trace are left out."""

    def handle(events: list[Event[Any]]) -> None: ...

    bus.on("order.placed", id="bulk", batch=3)(handle)
    mine = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    messages = [Message("order.placed", 1), Message("order.placed", 2, metadata={"traceparent": mine})]
    await bus.emit_many([*messages, Message("order.placed", 3, metadata={"traceparent": 7})])
    assert await drained(bus)
    [emit] = _of(spans, "pilotis.event.emit_many")
    assert [[_identity(emit), (0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331)]] == _links(spans)


async def test_a_run_that_fails_is_a_span_that_says_so(bus: Any, spans: InMemorySpanExporter, colour: Colour) -> None:
    """Each attempt is one, linked to the same emit."""
    bus.on("order.placed", id="mail", attempts=2, backoff=0)(Seen(failures=1))
    await bus.emit("order.placed")
    assert await drained(bus)
    [emit] = _of(spans, "pilotis.event.emit")
    statuses = [run.status.status_code.name for run in _of(spans, "pilotis.event.handle")]
    assert (["ERROR", "UNSET"], [[_identity(emit)]] * 2) == (statuses, _links(spans))


async def test_a_trace_goes_on_in_another_app(spans: InMemorySpanExporter, redis_url: str, colour: Colour) -> None:
    """Through Redis: within the trace of whoever calls `emit`, and linked to that emit where it is handled, where the
    handler's own verbs are below its span."""
    seen: list[Any] = []

    async def handle(event: Event[Any]) -> None:
        seen.append(event.metadata)
        await handling.cache.aset("sent", event.data)

    settings = {"name": "shop", "event": {"url": redis_url}}
    handling = Pilotis(settings, role="work")
    handling.event.on("order.placed", id="mail")(handle)
    emitting = Pilotis(settings, role="emit")
    async with colour.voice(handling), colour.voice(emitting):
        with opentelemetry.trace.get_tracer("shop").start_as_current_span("checkout") as checkout:
            await colour.voice(emitting.event).emit("order.placed", 7)
        await soon(lambda: bool(_of(spans, "pilotis.event.handle")))
    [emit] = _of(spans, "pilotis.event.emit")
    [run] = _of(spans, "pilotis.event.handle")
    [kept] = _of(spans, "pilotis.cache.set")
    assert [{"traceparent": _traceparent(emit)}] == seen
    assert [[_identity(emit)]] == _links(spans)
    assert [_identity(checkout), _identity(run)] == [_parent(emit), _parent(kept)]


async def test_nothing_is_added_without_telemetry(colour: Colour) -> None:
    """An event then has the metadata that its emitter gave it, also within a trace."""
    seen = Seen()
    bus = colour.voice(EventBus(LocalEvents()))
    bus.on("order.placed", id="mail")(seen)
    with opentelemetry.trace.use_span(TracerProvider().get_tracer("shop").start_span("checkout")):
        await bus.emit("order.placed")
    assert await drained(bus)
    assert [{}] == [event.metadata for event in seen.events]
    await bus.close()
    bus.context.runtime.stop()
