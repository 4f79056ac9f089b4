"""Values to bytes and back."""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import re
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilotis.codec import CANONICAL, JSON, MESSAGEPACK, Codec, parameter_types, return_type
from pilotis.errors import InvalidInputError, TypeMismatchError

PAGE = Path(__file__).parents[3] / "docs" / "values.md"

both_formats = pytest.mark.parametrize("codec", [JSON, MESSAGEPACK], ids=["json", "messagepack"])


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.StrEnum):
    SMALL = "small"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Line:
    sku: str
    price: Decimal
    count: int = 1


class Order(msgspec.Struct):
    id: UUID
    placed: datetime
    lines: list[Line]
    note: str | None = None
    extra: str | msgspec.UnsetType = msgspec.UNSET


class Customer(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    name: str = pydantic.Field(alias="fullName")
    born: date
    balance: Decimal = Decimal(0)
    points: dict[int, float] = {}


class Pair(NamedTuple):
    left: int
    right: str


class Sku(str):
    __slots__ = ()


class Odd:
    """No rule knows this class."""


# With a type

texts = st.text(st.characters(exclude_categories=["Cs"]))
offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
# A day from the ends of the calendar: MessagePack holds instants in UTC, which has no year 0 and no year 10000.
zoned = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=offsets)  # noqa: DTZ001  hypothesis wants naive bounds
lines = st.builds(Line, texts, st.decimals(allow_nan=False, allow_infinity=False), st.integers(-(2**63), 2**63 - 1))
typed_values: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (bool, st.booleans()),
    (int, st.integers(-(2**63), 2**64 - 1)),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (str, texts),
    (bytes, st.binary()),
    (bytearray, st.binary().map(bytearray)),
    (datetime, st.datetimes()),
    (datetime, zoned),
    (date, st.dates()),
    (time, st.times()),
    (timedelta, st.timedeltas()),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (UUID, st.uuids()),
    (Colour, st.sampled_from(Colour)),
    (Size, st.sampled_from(Size)),
    (Level, st.sampled_from(Level)),
    (Sku, texts.map(Sku)),
    (set[int], st.sets(st.integers(0, 9))),
    (frozenset[str], st.frozensets(texts)),
    (tuple[int, str], st.tuples(st.integers(0, 9), texts)),
    (dict[str, list[float | None]], st.dictionaries(texts, st.lists(st.none() | st.floats(-1e9, 1e9)))),
    (Pair, st.builds(Pair, st.integers(0, 9), texts)),
    (Line, lines),
    (Order, st.builds(Order, st.uuids(), zoned, st.lists(lines, max_size=3), st.none() | texts)),
    (
        Customer,
        st.builds(
            Customer,
            fullName=texts,
            born=st.dates(),
            balance=st.decimals(allow_nan=False, allow_infinity=False),
            points=st.dictionaries(st.integers(0, 9), st.floats(-1e9, 1e9)),
        ),
    ),
]


@both_formats
@pytest.mark.parametrize(("type", "values"), typed_values, ids=lambda part: getattr(part, "__name__", ""))
@given(data=st.data())
def test_everything_round_trips_with_a_type(
    codec: Codec, type: Any, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    """A value comes back equal and of the same type when the reader names its type, alone and inside containers."""
    value = data.draw(values)
    again = codec.decode(codec.encode(value), type)
    assert value == again
    assert value.__class__ is again.__class__
    assert {"deep": [value]} == codec.decode(codec.encode({"deep": [value]}), dict[str, list[type]])


@both_formats
@given(
    value=st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | texts
        | st.sampled_from(["NaN", "Infinity", "x NaN"]),
        lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    )
)
def test_builtins_round_trip_without_a_type(codec: Codec, value: object) -> None:
    """What both formats have of their own needs no type, the order of keys included."""
    again = codec.decode(codec.encode(value))
    assert repr(value) == repr(again)


@given(st.binary())
def test_bytes_that_look_like_nan_are_bytes(value: bytes) -> None:
    """Bytes pass, whatever they look like to the search for NaN."""
    suspicious = b"\xcb\x7f\xf8NaN" + value
    assert suspicious == MESSAGEPACK.decode(MESSAGEPACK.encode(suspicious))


@both_formats
def test_large_floats_and_mixed_sets_are_plain_values(codec: Codec) -> None:
    """What the quick check cannot vouch for, the walk clears."""
    assert codec.decode(codec.encode([sys.float_info.max])) == [sys.float_info.max]
    assert {1, "a", None} == set(codec.decode(codec.encode({1, "a", None})))


@both_formats
def test_a_field_that_is_unset_is_left_out(codec: Codec) -> None:
    """UNSET in a Struct is no value, even where the walk comes by."""
    order = Order(UUID(int=1), datetime(2025, 1, 2, tzinfo=UTC), [], note="NaN")
    assert order == codec.decode(codec.encode(order), Order)


# Without a type: the table of the page


def page_names() -> dict[str, Any]:
    names: dict[str, Any] = {}
    blocks: list[str] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(compile(blocks[0], PAGE, "exec", dont_inherit=True), names)
    return names


def page_rows() -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = re.findall(r"^\| `(.*)` \| `(.*)` \| `(.*)` \|$", PAGE.read_text(), re.MULTILINE)
    return rows


def test_the_table_is_read_whole() -> None:
    """Every row of the table is a test."""
    assert PAGE.read_text().count("\n| ") - 2 == len(page_rows()) > 20


@pytest.mark.parametrize("row", page_rows(), ids=lambda row: row[0][:30])
def test_without_a_type_the_documented_table_holds(row: tuple[str, str, str]) -> None:
    """A reader without a type gets exactly what docs/values.md says."""
    names = page_names()
    value, json, messagepack = (eval(cell, names) for cell in row)
    assert repr(json) == repr(JSON.decode(JSON.encode(value)))
    assert repr(messagepack) == repr(MESSAGEPACK.decode(MESSAGEPACK.encode(value)))


# What is refused


cyclic: dict[str, Any] = {"a": [1]}
cyclic["a"].append(cyclic)
deep: list[Any] = functools.reduce(lambda inner, _: [inner], range(100_000), [])

refusals: list[tuple[Any, str, str]] = [
    (math.nan, "", "expected a finite number, got nan"),
    (-math.inf, "", "expected a finite number, got -inf"),
    (Decimal("NaN"), "", "expected a finite number, got NaN"),
    (Decimal("sNaN"), "", "expected a finite number"),
    (Decimal("-Infinity"), "", "expected a finite number, got -Infinity"),
    (2**64, "", "expected an integer from -2**63 to 2**64 - 1, got one of 65 bits"),
    (-(2**63) - 1, "", "expected an integer"),
    (10**5000, "", "expected an integer"),
    ("a\ud800", "", "text with a lone surrogate (\\ud800 at index 1)"),
    ({"\udfff": 1}, "", "a key with a lone surrogate"),
    ({1: 2}, "", "expected keys that are text, got one of type int"),
    ({10**5000: 2}, "", "expected keys that are text, got one of type int"),
    ({None: 2}, "", "expected keys that are text"),
    ({UUID(int=1): 2}, "", "expected keys that are text"),
    ({Colour.RED: 2}, "", "expected keys that are text"),
    ({(1,): 2}, "", "expected keys that are text"),
    (Odd(), "", f"no rule writes a {Odd.__module__}.Odd; what works: None, bool"),
    (1j, "", "no rule writes a complex"),
    ({"lines": [1, 2, 3, {"price": math.nan}]}, ".lines[3].price", "expected a finite number"),
    ({"odd key": ({1: 2},)}, "['odd key'][0]", "expected keys that are text"),
    ([Line("a", Decimal(1)), Line("b\ud800", Decimal(1))], "[1].sku", "text with a lone surrogate"),
    (
        Order(UUID(int=1), datetime(2025, 1, 2, tzinfo=UTC), [Line("a", Decimal(1), 2**70)]),
        ".lines[0].count",
        "expected an integer",
    ),
    ({"who": Customer(fullName="a", born=date(2025, 1, 1), points={1: math.nan})}, ".who.points.1", "finite"),
    ({"a": msgspec.UNSET}, ".a", "no rule writes a msgspec.UnsetType"),
    (cyclic, ".a[1]", "the value contains itself"),
    (deep, "", "nested too deeply"),
]


@both_formats
@pytest.mark.parametrize(("value", "path", "reason"), refusals, ids=range(len(refusals)))
def test_what_cannot_be_written_is_refused_with_its_path(codec: Codec, value: Any, path: str, reason: str) -> None:
    """Encoding refuses what a reader could not get back, and names the place inside the value."""
    with pytest.raises(InvalidInputError) as caught:
        codec.encode(value, "order")
    path = path.replace(".points.1", ".points['1']")
    assert str(caught.value).startswith(f"order{path}: ")
    assert reason in str(caught.value)


@both_formats
def test_the_walk_looks_into_attrs_classes(codec: Codec) -> None:
    """A class of attrs is written by msgspec, so its fields are checked like any others."""

    class Measured:
        __attrs_attrs__ = (SimpleNamespace(name="length"),)

        def __init__(self, length: float) -> None:
            self.length = length

    assert codec.decode(codec.encode(Measured(1.5))) == {"length": 1.5}
    with pytest.raises(InvalidInputError, match=r"^value\.length: expected a finite number"):
        codec.encode(Measured(math.nan))


unfit = st.sampled_from([math.nan, math.inf, -math.inf, 2**64, "\ud800", {1: 2}, Decimal("NaN"), 1j])
steps = st.lists(st.one_of(st.integers(0, 3), st.from_regex(r"[a-z]{1,5}", fullmatch=True)), max_size=6)


@both_formats
@given(steps=steps, value=unfit)
def test_the_path_leads_to_what_is_wrong(codec: Codec, steps: list[int | str], value: object) -> None:
    """Wherever the unfit part hides, the error names exactly that place."""
    path = ""
    for step in reversed(steps):
        value = [*["good"] * step, value] if isinstance(step, int) else {"good": 1.5, step: value}
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    with pytest.raises(InvalidInputError, match=f"^{re.escape(f'value{path}: ')}"):
        codec.encode(value)


@both_formats
def test_a_socket_is_refused_and_told_what_works(codec: Codec) -> None:
    """A live object is refused by its kind, with the kinds that work."""
    with socket.socket() as open_socket, pytest.raises(InvalidInputError) as caught:
        codec.encode({"connection": open_socket})
    assert str(caught.value).startswith("value.connection: no rule writes a socket.socket; what works: None, bool")


def test_what_one_format_alone_can_hold_is_refused_by_the_other() -> None:
    """The check is made in MessagePack; what only JSON refuses is a typed error all the same."""
    with pytest.raises(InvalidInputError, match=r"^value: cannot be encoded: .*Ext"):
        JSON.encode(msgspec.msgpack.Ext(1, b""))


@both_formats
def test_pydantic_bytes_that_are_not_text_are_refused_with_their_path(codec: Codec) -> None:
    """A model that pydantic itself cannot write as JSON is refused."""

    class Blob(pydantic.BaseModel):
        data: bytes

    with pytest.raises(InvalidInputError, match=r"^value\[0\]: .*Blob cannot be written as JSON"):
        codec.encode([Blob(data=b"\xff")])


# Data that does not fit


misfits: list[tuple[Any, Any, str]] = [
    ({"a": 1}, int, ": expected int, got object"),
    ([1, "x"], list[int], "[1]: expected int, got str"),
    ({"sku": "a", "price": "x"}, Line, ".price: invalid decimal string"),
    ({"sku": "a"}, Line, ": object missing required field price"),
    ({"k": [{"fullName": "a", "born": "x"}]}, dict[str, list[Customer]], "[...][0].born: input should be a valid date"),
    ({"x": 1}, dict[Annotated[str, msgspec.Meta(min_length=2)], int], ": a key: expected str of length >= 2"),
    (5, Sku, ": expected str, got int"),
]


@pytest.mark.parametrize(("value", "type", "message"), misfits, ids=lambda part: repr(part)[:20])
def test_data_that_does_not_fit_is_a_mismatch_with_its_path(value: Any, type: Any, message: str) -> None:
    """Decoding and converting name the place inside the value, and what was expected there."""
    with pytest.raises(TypeMismatchError) as decoded:
        JSON.decode(JSON.encode(value), type, "order")
    with pytest.raises(TypeMismatchError) as converted:
        JSON.convert(value, type, "order")
    assert str(decoded.value).startswith(f"order{message}")
    assert str(converted.value).startswith(f"order{message}")


@both_formats
@given(data=st.binary())
def test_any_bytes_are_a_value_or_a_mismatch(codec: Codec, data: bytes) -> None:
    """Corrupted and foreign bytes never raise anything but TypeMismatchError."""
    messages: list[str] = []
    for type in (Any, Order, Customer, dict[str, int]):
        try:
            codec.decode(data, type)
        except TypeMismatchError as error:
            messages.append(str(error))
    assert all(message.startswith("value") for message in messages)


@pytest.mark.parametrize(
    ("codec", "data"), [(JSON, b"[1"), (JSON, b'"\xff"'), (JSON, b"[" * 100_000), (MESSAGEPACK, b"\xc1")]
)
def test_corrupted_bytes_are_called_corrupted(codec: Codec, data: bytes) -> None:
    """What is not of the format at all is a mismatch that says so."""
    with pytest.raises(TypeMismatchError, match=r"^value: corrupted data: "):
        codec.decode(data)


def test_a_mismatch_does_not_show_the_input_of_a_model() -> None:
    """The message of a pydantic model is told without the data that it refused."""
    data = JSON.encode({"fullName": "a", "born": "hunter2"})
    with pytest.raises(TypeMismatchError) as caught:
        JSON.decode(data, Customer)
    assert "hunter2" not in str(caught.value)


@both_formats
@pytest.mark.parametrize("type", [Odd, int | Odd, 5], ids=str)
def test_a_type_that_nothing_fits_is_the_callers_mistake(codec: Codec, type: Any) -> None:
    """A type without a rule is refused as such, and is no mismatch: the cache would hide it as a miss."""
    for read in (codec.decode, codec.convert):
        with pytest.raises(InvalidInputError, match=r"^value: cannot be read as ") as caught:
            read(b"1", type)
        assert not isinstance(caught.value, TypeMismatchError)


@both_formats
def test_a_reader_refuses_what_is_no_type(codec: Codec) -> None:
    """At once, as there may be nothing to read that could tell."""
    with pytest.raises(InvalidInputError, match=r"^type: cannot be read as "):
        codec.decoder(float("nan"))


def test_a_type_that_cannot_be_hashed_works() -> None:
    """A type that no cache of decoders can hold is read all the same."""
    unhashable = Annotated[int, ["a note"]]
    with pytest.raises(TypeError):
        hash(unhashable)
    assert JSON.decode(b"1", unhashable) == 1


def test_an_error_raised_by_the_type_itself_is_a_mismatch() -> None:
    """A class that refuses its data with any error makes a mismatch, not a crash."""

    class Picky(msgspec.Struct):
        id: int

        def __post_init__(self) -> None:
            raise LookupError("no such id")

    with pytest.raises(TypeMismatchError, match="no such id"):
        JSON.decode(b'{"id": 1}', Picky)


def test_convert_takes_values_that_are_decoded_already() -> None:
    """A value that was read without a type becomes one of the type later, and an instance stays one."""
    order = Order(UUID(int=1), datetime(2025, 1, 2, tzinfo=UTC), [Line("a", Decimal("1.5"))])
    customer = Customer(fullName="Ada", born=date(1815, 12, 10))
    for codec in (JSON, MESSAGEPACK):
        assert order == codec.convert(codec.decode(codec.encode(order)), Order)
        assert customer == codec.convert(codec.decode(codec.encode(customer)), Customer)
    assert order == JSON.convert(order, Order)
    assert customer is JSON.convert(customer, Customer)


@given(st.dictionaries(texts, st.integers(0, 9)))
def test_the_canonical_spelling_does_not_depend_on_order(value: dict[str, int]) -> None:
    """Equal values have equal canonical bytes."""
    backwards = dict(reversed(value.items()))
    assert CANONICAL.encode([value, set(value)]) == CANONICAL.encode([backwards, set(backwards)])


# Types, where they are already written


def plain(order: Order, *, count: int = 1) -> list[Line]: ...
async def asynchronous() -> Line: ...
def awaitable() -> Awaitable[Line]: ...
def coroutine() -> Coroutine[Any, Any, Line]: ...
def nothing() -> None: ...
def unannotated(anything: Any) -> Any: ...
def unresolvable(order: Order, other: Any) -> Any: ...


unannotated.__annotations__.clear()
unresolvable.__annotations__ |= {"other": "Missing", "return": "list[Missing]"}


class Shop:
    def price(self, order: Order) -> Decimal: ...
    def __call__(self, line: Line) -> int: ...


@functools.wraps(plain)
def wrapper(*args: Any, **kwargs: Any) -> Any: ...


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (plain, list[Line]),
        (asynchronous, Line),
        (awaitable, Line),
        (coroutine, Line),
        (nothing, type(None)),
        (unannotated, Any),
        (unresolvable, Any),
        (Shop().price, Decimal),
        (Shop(), int),
        (functools.partial(plain, count=2), list[Line]),
        (wrapper, list[Line]),
        (len, Any),
    ],
)
def test_the_return_type_is_taken_from_the_annotation(function: Callable[..., Any], expected: Any) -> None:
    """The awaited return annotation is the type, and Any where there is none that can be resolved."""
    assert expected == return_type(function)
    assert expected == return_type(function)


def test_annotations_of_nested_functions_see_the_variables_around_them() -> None:
    """A class local to the enclosing function resolves when the nested function uses it."""

    class Local(msgspec.Struct):
        pass

    def make() -> Local:
        return Local()

    assert return_type(make) is Local


def test_a_name_that_is_defined_later_resolves_then() -> None:
    """Asking too early does not settle the answer."""

    def early() -> Any: ...

    early.__annotations__["return"] = "DefinedLater"
    assert return_type(early) is Any
    globals()["DefinedLater"] = Line
    try:
        assert return_type(early) is Line
    finally:
        del globals()["DefinedLater"]


def test_parameters_keep_their_order_and_lose_self() -> None:
    """Every parameter is there, with Any for what says nothing."""
    expected: Mapping[str, Any] = {"order": Order, "count": int}
    assert list(expected.items()) == list(parameter_types(plain).items())
    assert {"order": Order} == parameter_types(Shop().price)
    assert {"line": Line} == parameter_types(Shop())
    assert {"anything": Any} == parameter_types(unannotated)
    assert {"order": Order, "other": Any} == parameter_types(unresolvable)
