"""What the fields of a method may be, said in one sentence where they are not."""

import math
from collections.abc import Callable
from typing import Any

CONDITIONS: dict[str, Callable[[float], bool]] = {
    "at least 1": lambda value: value >= 1,
    "at least 2": lambda value: value >= 2,
    "0 or more": lambda value: value >= 0,
    "above 0": lambda value: value > 0,
    "above 1": lambda value: value > 1,
    "from 0 to 1": lambda value: 0 <= value <= 1,
    "from 0 to below 1": lambda value: 0 <= value < 1,
    "above 0 and at most 1": lambda value: 0 < value <= 1,
    "between 0 and 1": lambda value: 0 < value < 1,
}


def require(config: Any, condition: str, *names: str) -> None:
    """A sentence about the first of these fields that is not so; none follows from other sizes."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not (math.isfinite(value) and CONDITIONS[condition](value)):
            raise ValueError(f"method.{name} must be {condition}, not {value}.")
