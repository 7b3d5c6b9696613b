"""What find_faults says of values that do not fit, and that it agrees with msgspec on which do."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import uuid
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.words.errors import Fault
from mizzen.words.faults import DEPTH_MAX, FAULTS_MAX, find_faults
from mizzen.words.json import validate

T = TypeVar("T")
BOTTOMLESS = 20_000
"""Levels that are too many for C code as well, which since Python 3.12 has a limit of its own beside Python's."""


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Item(msgspec.Struct):
    name: str
    price: Annotated[int, msgspec.Meta(ge=0)]
    colour: Colour = Colour.RED


class Cart(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    owner_name: str
    items: list[Item]
    notes: dict[str, int] = {}
    coupon: str | None = None


class Cat(msgspec.Struct, tag="cat"):
    lives: int


class Dog(msgspec.Struct, tag="dog"):
    legs: int


class Tree(msgspec.Struct):
    value: int
    colour: Colour = Colour.RED
    below: list[Tree] = []


class Page(msgspec.Struct, Generic[T]):
    items: list[T]


class Row(msgspec.Struct, array_like=True):
    id: int
    name: str


class TaggedRow(msgspec.Struct, array_like=True, tag="row"):
    id: int


class Pair(NamedTuple):
    left: int
    right: int


class Options(TypedDict):
    size: int
    depth: NotRequired[int]


@dataclasses.dataclass
class Span:
    start: int
    end: int = 9

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ValueError("End before start")


class Address(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    street: str
    number: int


class Person(msgspec.Struct):
    name: str
    homes: list[Address]
    second: Address | None = None


def reasons(value: object, into: Any, *, strict: bool = True) -> dict[str, str]:
    """The reasons by path."""
    return {fault.path: fault.reason for fault in find_faults(value, into, path="body", strict=strict)}


def test_a_value_that_fits_has_no_faults() -> None:
    """A value that fits has no faults."""
    assert find_faults({"ownerName": "ann", "items": []}, Cart, path="body") == []


def test_every_fault_of_a_nested_value_is_named_at_once() -> None:
    """Every fault of a nested value is named at once, each by its path."""
    value = {
        "items": [{"name": "a", "price": 1}, {"name": 2, "price": -1, "colour": "green"}, {"price": "x"}],
        "notes": {"a": 1, "b": "c"},
        "coupon": 5,
    }
    assert reasons(value, Cart) == {
        "body.ownerName": "missing",
        "body.items[1].name": "expected str, got int",
        "body.items[1].price": "expected int >= 0",
        "body.items[1].colour": "expected one of 'red', 'blue'",
        "body.items[2].name": "missing",
        "body.items[2].price": "expected int, got str",
        "body.notes.b": "expected int, got str",
        "body.coupon": "expected str, got int",
    }


def test_an_unknown_field_comes_with_the_nearest_spelling() -> None:
    """A field that a type forbids comes with the nearest spelling, or with what is allowed when nothing is near."""
    found = reasons({"ownerName": "ann", "items": [], "cuopon": "x", "zzz": 1}, Cart)
    assert found == {
        "body.cuopon": "unknown, did you mean 'coupon'?",
        "body.zzz": "unknown, expected one of 'ownerName', 'items', 'notes', 'coupon'",
    }


@pytest.mark.parametrize(
    ("value", "into", "reason"),
    [
        ("x", int, "expected int, got str"),
        (None, int, "expected int, got null"),
        (1, str, "expected str, got int"),
        ("green", Colour, "expected one of 'red', 'blue'"),
        (7, Level, "expected one of 1, 2"),
        ("c", Literal["a", "b"], "expected one of 'a', 'b'"),
        ("c", Literal["a"], "expected 'a'"),
        ("x", uuid.UUID, "expected a UUID"),
        ("x", dt.date, "expected a date such as 2026-11-23"),
        ("x", dt.datetime, "expected a date and time such as 2026-11-23T14:02:41Z"),
        ("x", dt.time, "expected a time such as 14:02:41"),
        ("x", dt.timedelta, "expected a duration such as PT1H30M"),
        ("x", decimal.Decimal, "expected a decimal number"),
        ("x", bytes, "expected base64"),
        ("ab", Annotated[str, msgspec.Meta(min_length=3)], "expected str of length >= 3"),
        ("b", Annotated[str, msgspec.Meta(pattern="^a")], "expected str matching regex '^a'"),
        ([1, 2], Annotated[list[int], msgspec.Meta(max_length=1)], "expected array of length <= 1"),
        ([1], tuple[int, int], "expected array of length 2, got 1"),
        ([], Span, "expected object, got array"),
        ({"start": 5, "end": 1}, Span, "End before start"),
    ],
)
def test_a_reason_says_what_was_expected(value: object, into: Any, reason: str) -> None:
    """A reason says in people's words what was expected."""
    assert find_faults(value, into, path="body") == [Fault("body", reason)]


def test_text_stands_for_numbers_when_not_strict() -> None:
    """Without strictness text stands for numbers and booleans, and that it is text is not held against it."""
    assert find_faults("5", int, path="query.limit", strict=False) == []
    assert find_faults("true", bool, path="query.all", strict=False) == []
    assert find_faults("x", int, path="query.limit", strict=False) == [Fault("query.limit", "expected int")]
    assert reasons(["1", "x"], list[int], strict=False) == {"body[1]": "expected int"}


@pytest.mark.parametrize(
    ("value", "into", "paths"),
    [
        ({"size": "x", "depth": "y"}, Options, ["body.size", "body.depth"]),
        ({"end": "x"}, Span, ["body.start", "body.end"]),
        (["x", "y"], tuple[int, int], ["body[0]", "body[1]"]),
        (["x", 1, "y"], tuple[int, ...], ["body[0]", "body[2]"]),
        (["x", 1], set[int], ["body[0]"]),
        (["x", "y"], Pair, ["body[0]", "body[1]"]),
        (["x", 5], Row, ["body[0]", "body[1]"]),
        (["row", "x"], TaggedRow, ["body[1]"]),
        ({"items": [1, "x"]}, Page[int], ["body.items[1]"]),
        ({"value": 1, "below": [{"value": 2}, {"value": "x", "below": [{}]}]}, Tree,
         ["body.below[1].value", "body.below[1].below[0].value"]),
        ({"x": "y"}, dict[int, int], ["body.x", "body.x"]),
        ({"a b": "y"}, dict[str, int], ["body['a b']"]),
        ({"a": {"start": "x"}}, dict[str, Span | None], ["body.a.start"]),
    ],
)  # fmt: skip
def test_every_kind_of_container_is_searched(value: object, into: Any, paths: list[str]) -> None:
    """Every kind of container is searched down to the parts that do not fit."""
    assert [fault.path for fault in find_faults(value, into, path="body")] == paths


def test_a_key_that_does_not_fit_is_told_from_its_value() -> None:
    """A key that does not fit is told from its value."""
    assert reasons({"x": 1}, dict[int, int]) == {"body.x": "as a key: expected int, got str"}


def test_the_tag_says_which_member_of_a_union_is_meant() -> None:
    """The tag of a union says which member is meant; without a good one the tag is the fault."""
    assert reasons({"type": "cat", "lives": "x"}, Cat | Dog) == {"body.lives": "expected int, got str"}
    assert reasons({"lives": 9}, Cat | Dog) == {"body.type": "missing"}
    assert reasons({"type": "cow"}, Cat | Dog) == {"body.type": "expected one of 'cat', 'dog'"}
    assert reasons({"type": "dog", "lives": 9}, Cat) == {"body.type": "expected 'cat'"}


def test_the_shape_says_which_member_of_an_untagged_union_is_meant() -> None:
    """An object or array is held against the one member of a union that is one."""
    assert reasons({"start": "x"}, Span | int | list[int]) == {"body.start": "expected int, got str"}
    assert reasons([1, "x"], Span | int | list[int]) == {"body[1]": "expected int, got str"}
    assert reasons("x", Span | int | list[int]) == {"body": "expected int | object | array, got str"}


def test_models_that_validate_themselves_name_their_own_faults() -> None:
    """A pydantic model names its own faults, at the top and inside of other types."""
    assert reasons({"number": "x", "zip": 1}, Address) == {
        "body.street": "missing",
        "body.number": "input should be a valid integer, unable to parse string as an integer",
        "body.zip": "unknown",
    }
    found = reasons({"name": 1, "homes": [{"street": "a", "number": 1}, {"number": 2}], "second": {}}, Person)
    assert sorted(found) == ["body.homes[1].street", "body.name", "body.second.number", "body.second.street"]
    assert find_faults({"street": "a", "number": 1}, Address, path="body") == []


def test_a_type_without_means_cannot_validate() -> None:
    """A type that neither msgspec nor the type itself can make is refused with the reason."""
    with pytest.raises(NotImplementedError, match="says no way"):
        validate(Faultless, {})


class Faultless:
    """A class that nothing can make from JSON."""


def test_the_number_of_faults_is_bounded() -> None:
    """A value with countless mistakes is answered with the first hundred."""
    found = find_faults(["x"] * 5000, list[int], path="body")
    assert [fault.path for fault in found] == [f"body[{index}]" for index in range(FAULTS_MAX)]
    unknown = {"ownerName": "ann", "items": [], **{f"k{index}": 1 for index in range(500)}}
    assert len(find_faults(unknown, Cart, path="body")) == FAULTS_MAX


def test_a_late_fault_of_a_long_list_is_found() -> None:
    """The one mistake at the end of a long list is found."""
    assert reasons([*range(20_000), "x"], list[int]) == {"body[20000]": "expected int, got str"}


@pytest.mark.parametrize("depth", [DEPTH_MAX, 200])
def test_far_below_the_first_fault_is_named_with_its_place(depth: int) -> None:
    """Below the depth that is searched each part names its first fault, with its exact place and without its value."""
    value: dict[str, Any] = {"value": 1, "colour": "secret", "below": [{"value": "x"}]}
    for _ in range(depth - 1):
        value = {"value": 1, "below": [value]}
    value["value"] = "x"
    assert reasons(value, Tree) == {
        "body.value": "expected int, got str",
        f"body{'.below[0]' * (depth - 1)}.colour": "invalid enum value",
    }


def test_nesting_without_end_is_answered() -> None:
    """A value nested deeper than Python can follow has a fault like any other."""
    value: dict[str, Any] = {"value": "x"}
    for _ in range(BOTTOMLESS):
        value = {"value": 1, "below": [value]}
    with pytest.raises(RecursionError):
        msgspec.convert(value, Tree)
    assert find_faults(value, Tree, path="body") == [Fault("body", "nested too deeply")]


def test_a_senders_key_cannot_make_a_path_endless() -> None:
    """A key of a sender's is cut in a path."""
    (fault,) = find_faults({"k" * 10_000: "x"}, dict[str, int], path="body")
    assert len(fault.path) < 100


def test_an_empty_path_is_that_of_the_root() -> None:
    """With an empty path the parts stand by themselves."""
    assert [fault.path for fault in find_faults({}, Span, path="")] == ["start"]


def test_secrets_are_not_repeated() -> None:
    """No reason repeats the value that does not fit."""
    secret = "hunter2"
    value = {
        "ownerName": 1,
        "items": [{"name": secret, "price": secret, "colour": secret}],
        "coupon": [secret],
        "notes": secret,
    }
    assert not [fault for fault in find_faults(value, Cart, path="body") if secret in fault.reason]


leaves = st.none() | st.booleans() | st.integers(-3, 300) | st.floats(allow_nan=False) | st.sampled_from(
    ["", "x", "5", "1.5", "true", "red", "cat", "2026-11-23", "null", "a"]
)  # fmt: skip
keys = st.sampled_from(["name", "price", "colour", "items", "ownerName", "start", "end", "type", "lives", "legs", "value",
                        "below", "size", "depth", "street", "number", "homes", "1", "zz"])  # fmt: skip
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)
types = st.sampled_from(
    [
        int, str, float, bool, None, Colour, Level, Literal["a", 5], int | None, bool | int | None, str | list[int], uuid.UUID,
        dt.date, decimal.Decimal, bytes, Item, Cart, Cat | Dog, Cat, Tree, Page[Item], Row, TaggedRow, Pair, Options, Span,
        Person, list[Item], dict[str, Span], dict[int, int | None], set[str], tuple[int, str], tuple[Item, ...],
        Annotated[int, msgspec.Meta(gt=2, multiple_of=5)], Annotated[list[str], msgspec.Meta(min_length=2)], Any,
        Annotated[str, msgspec.Meta(min_length=1, description="a name")], Span | list[Item] | None, list[Address],
    ]
)  # fmt: skip


@settings(deadline=None)  # a busy machine is no fault
@given(values, types, st.booleans())
def test_there_are_faults_exactly_when_msgspec_refuses(value: object, into: Any, strict: bool) -> None:
    """There are faults exactly when msgspec refuses the value, each under the given path and with a reason."""
    try:
        msgspec.convert(value, into, strict=strict, str_keys=True, dec_hook=validate)
    except msgspec.ValidationError:
        fits = False
    else:
        fits = True
    faults = find_faults(value, into, path="body", strict=strict)
    assert (faults == []) == fits
    assert all(fault.path.startswith("body") and fault.reason and "`" not in fault.reason for fault in faults)


@settings(deadline=None)  # a busy machine is no fault
@given(st.lists(st.integers() | st.just("x")))
def test_exactly_the_wrong_items_of_a_list_are_named(items: list[object]) -> None:
    """Of a list exactly the items that do not fit are named, in their order."""
    wrong = [f"body[{index}]" for index, item in enumerate(items) if item == "x"]
    assert [fault.path for fault in find_faults(items, list[int], path="body")] == wrong[:FAULTS_MAX]
