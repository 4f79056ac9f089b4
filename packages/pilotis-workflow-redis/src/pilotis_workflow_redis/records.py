"""Runs and journals, as they are kept in Redis and as the engine knows them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace
from pilotis.providers import Claimed, Clock, Fault, Letter, RunRecord, StepRecord, answered

HEAD = (
    "status",
    "made",
    "flow",
    "created",
    "epoch",
    "worker",
    "updated",
    "deadline",
    "result",
    "error",
    "cancelled",
    "verdict",
    "crashes",
)
"""The fields of a run that are asked for. The scripts know the same."""

UNREADABLE = (msgspec.MsgspecError, ValueError, TypeError, LookupError)
"""What reading raises where somebody else wrote, or a newer version."""
_JOURNAL = b":"

encode = msgspec.msgpack.Encoder().encode
_read_run = msgspec.msgpack.Decoder(RunRecord).decode
_read_step = msgspec.msgpack.Decoder(StepRecord).decode
_read_fault = msgspec.msgpack.Decoder(Fault).decode
_read_letter = msgspec.msgpack.Decoder(Letter).decode
_read_flow = msgspec.json.Decoder(tuple[str, str]).decode

Fields = dict[bytes, bytes]
T = TypeVar("T")


def given(value: bytes | str | float | None) -> bytes | str:
    """Return an argument of a script that may be missing."""
    if value is None:
        return ""
    return b"=" + value if isinstance(value, bytes) else f"={value}"


def milliseconds(due: float | None, clock: Clock) -> int | None:
    """Return how long it is until a time of the app's clock: it is the server's clock that counts from there on."""
    return None if due is None else max(0, math.ceil(round((due - clock.time()) * 1000, 3)))


def written(records: Iterable[StepRecord]) -> list[bytes | str]:
    """Return journal records as scripts take them: key, record, key, record."""
    return [part for record in records for part in (record.key, encode(record))]


def letter_of(letter: Letter) -> bytes:
    """Return a letter as scripts take it: they must know whether it brings a fault."""
    return (b"0" if letter.error is None else b"1") + encode(letter)


def this_wait(record: StepRecord) -> str:
    """Return what tells a wait from others of the same key; empty for a record that does not wait."""
    if record.status != "waiting":
        return ""
    return msgspec.json.encode((record.attempts, record.due, record.signal)).decode()


def read_head(id: str, values: Sequence[bytes | None]) -> RunRecord | None:
    """Return a run from the values of `HEAD`, or None where there is none."""
    if values[0] is None:
        return None
    return read_run(id, {name.encode(): value for name, value in zip(HEAD, values, strict=True) if value is not None})


def read_run(id: str, fields: Fields) -> RunRecord:
    """Return a run from the fields of its hash; one that cannot be read says so, and holds up no others."""
    try:
        return _whole_run(fields)
    except UNREADABLE as error:
        return _what_is_known(id, fields, error)


def unreadable(error: Exception) -> Fault:
    """Return why a run is stuck that cannot be read."""
    return Fault(type="UnreadableRunError", message=f"what Redis has of it cannot be read: {error}")


def _what_is_known(id: str, fields: Fields, error: Exception) -> RunRecord:
    name, version = _or(("", ""), _read_flow, fields.get(b"flow"))
    status: Any = fields[b"status"].decode(errors="replace")
    created, epoch = _or(0.0, float, fields.get(b"created")), _or(0, int, fields.get(b"epoch"))
    return RunRecord(
        id=id, name=name, version=version, input=b"", status=status, created=created, updated=created, epoch=epoch,
        error=unreadable(error), cancelled=b"cancelled" in fields,
    )  # fmt: skip


def _or(otherwise: T, read: Callable[[Any], T], text: bytes | None) -> T:
    """Return what a field says, if it can be read."""
    try:
        return read(text)
    except UNREADABLE:
        return otherwise


def _whole_run(fields: Fields) -> RunRecord:
    error, deadline, verdict = fields.get(b"error"), fields.get(b"deadline"), fields.get(b"verdict")
    changes: dict[str, Any] = {
        "status": fields[b"status"].decode(),
        "epoch": int(fields[b"epoch"]),
        "worker": fields[b"worker"].decode(),
        "updated": int(fields[b"updated"]) / 1000,
        "deadline": None if deadline is None else float(deadline),
        "result": fields.get(b"result"),
        "error": None if error is None else _read_fault(error),
        "cancelled": b"cancelled" in fields,
        "verdict": None if verdict is None else verdict.decode(),
        "crashes": int(fields.get(b"crashes", 0)),
    }
    return replace(_read_run(fields[b"made"]), **changes)


def read_claimed(run: Iterable[bytes], waits: Iterable[bytes]) -> Claimed:
    """Return a run that was handed out, from what its two hashes hold. Raises one of `UNREADABLE`."""
    run = list(run)
    return Claimed(_whole_run(dict(_pairs(run))), read_journal(run, waits))


def read_journal(run: Iterable[bytes], waits: Iterable[bytes]) -> list[StepRecord]:
    """Return a journal by order, each wait as it stands. Raises one of `UNREADABLE`."""
    ways = dict(_pairs(waits))
    records = [_read_step(value) for field, value in _pairs(run) if field.startswith(_JOURNAL)]
    journal = [_as_it_stands(record, ways) for record in records]
    return sorted(journal, key=lambda record: record.order)


def read_over(record: bytes, answer: bytes | None) -> StepRecord:
    """Return a record whose wait is over: by a letter, or because it was due."""
    return _ended(_read_step(record), answer)


def _as_it_stands(record: StepRecord, waits: Fields) -> StepRecord:
    key = record.key.encode()
    if record.status != "waiting" or waits.get(b"s" + key) in (None, b"waiting"):
        return record
    return _ended(record, waits.get(b"a" + key))


def _ended(record: StepRecord, answer: bytes | None) -> StepRecord:
    if answer is None:
        return replace(record, status="due")
    ended, _, letter = answer.partition(b" ")
    return answered(record, _read_letter(letter), int(ended) / 1000)


def _pairs(flat: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    each = iter(flat)
    return zip(each, each, strict=True)
