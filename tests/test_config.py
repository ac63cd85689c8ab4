"""Configuration values: typed from text, round trip through plain dicts, near misses in errors."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from raysl.config import coerce, from_dict, replace_at, to_dict


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    widths: tuple[int, ...] = (8, 4)
    kind: Literal["a", "b"] = "a"
    limit: int | None = None


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    flag: bool = False
    label: str = "x"


def test_a_round_trip_through_plain_values_gives_an_equal_value():
    value = Outer(Inner(0.1, (1, 2, 3), "b", 7), True, "name")
    assert from_dict(Outer, to_dict(value)) == value


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("1e-3", float, 0.001),
        ("12", int, 12),
        ("500,2000", tuple[int, ...], (500, 2000)),
        ("500", tuple[int, ...], (500,)),
        ("true", bool, True),
        ("none", int | None, None),
        ("7", int | None, 7),
        ("pool", int | Literal["pool"], "pool"),
        ("b", Literal["a", "b"], "b"),
    ],
)
def test_text_is_parsed_to_the_annotated_type(text, kind, value):
    assert coerce(text, kind, where="field") == value


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("1.5", int),
        ("x", float),
        ("maybe", bool),
        ("c", Literal["a", "b"]),
        ("1,x", tuple[int, ...]),
    ],
)
def test_text_of_another_type_is_refused_with_the_field_named(text, kind):
    with pytest.raises(ValueError, match="field"):
        coerce(text, kind, where="field")


def test_true_is_not_a_number():
    with pytest.raises(ValueError, match="number"):
        coerce(True, int, where="field")


def test_an_override_reaches_a_nested_field_and_leaves_the_original():
    value = Outer()
    changed = replace_at(value, "inner.rate", "0.25")
    assert (changed.inner.rate, value.inner.rate) == (0.25, 0.5)


@pytest.mark.parametrize(
    ("path", "near"), [("inner.rat", "inner.rate"), ("iner.rate", "inner"), ("flagg", "flag")]
)
def test_an_unknown_field_names_its_near_miss(path, near):
    with pytest.raises(ValueError, match=f"did you mean '{near}'"):
        replace_at(Outer(), path, "1")


def test_an_unknown_key_of_a_dict_names_its_near_miss():
    with pytest.raises(ValueError, match="did you mean 'label'"):
        from_dict(Outer, {"lable": "y"})
