"""What a search found: its trials by cell, the best of each, trends along a parameter."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysl.analysis.switch import Array
from raysl.analysis.wording import count

SMOOTHING = 1 / 8  # standard deviation of the moving average, as a share of the axis
LOG_RATIO = 8.0  # a parameter that spans less than this factor is never shown on a log axis


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One finished trial of a search; value: its objective on val."""

    digest: str
    params: Mapping[str, Any]
    value: float


@dataclass(frozen=True, kw_only=True)
class SearchedCell:
    """The search in one cell of the study; size: None where the arm does not depend on it.

    num_stopped: trials that a scheduler ended early. Neither they nor failed ones are in `tried`.
    """

    cell: Mapping[str, Any]
    size: float | None
    tried: tuple[Tried, ...]
    num_failed: int
    num_stopped: int

    @property
    def best(self) -> Tried | None:
        return max(self.tried, key=lambda trial: trial.value, default=None)

    @property
    def label(self) -> str:
        """The name under which the search stores the cell's importance."""
        return " ".join(f"{name}={value}" for name, value in self.cell.items())

    def with_param(self, param: str) -> list[Tried]:
        """In a conditional space not every trial has every parameter."""
        return [trial for trial in self.tried if param in trial.params]

    def size_title(self, unit: str) -> str:
        return "any size" if self.size is None else f"{count(self.size)} {unit}"


def searched_cells(
    table: Any, *, objective: str, axes: Sequence[str], size_axis: str
) -> tuple[SearchedCell, ...]:
    """The search phase of a results table, in the table's order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        if row["phase"] == "search":
            found.setdefault(json.dumps([row[axis] for axis in axes]), []).append(row)
    metric = f"val/{objective}"
    return tuple(
        SearchedCell(
            cell={axis: rows[0][axis] for axis in axes},
            size=rows[0].get(size_axis),
            tried=tuple(
                Tried(digest=r["digest"], params=json.loads(r["params"]), value=r[metric])
                for r in rows
                if r["status"] == "ok" and is_finite(r.get(metric))
            ),
            num_failed=sum(row["status"] == "failed" for row in rows),
            num_stopped=sum(row["status"] == "stopped" for row in rows),
        )
        for rows in found.values()
    )


def is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def is_log_scaled(values: Sequence[float]) -> bool:
    """Whether positive values that span decades lie more evenly on a log axis than on a plain one.

    Told from the trials, since a search space is code: the median lies near the geometric middle.
    """
    low, middle, high = min(values), float(np.median(values)), max(values)
    if low <= 0 or high < LOG_RATIO * low:
        return False
    return middle / math.sqrt(low * high) < (low + high) / 2 / middle


def smooth(xs: Sequence[float], ys: Sequence[float], *, is_log: bool) -> tuple[Array, Array]:
    """A moving average with Gaussian weights on 60 places between the ends of xs."""
    x = np.log(xs) if is_log else np.asarray(xs, dtype=float)
    grid = np.linspace(x.min(), x.max(), 60)
    width = SMOOTHING * (x.max() - x.min())
    weights = np.exp(-(((grid[:, None] - x) / width) ** 2) / 2)  # [60, N]
    line = weights @ np.asarray(ys, dtype=float) / weights.sum(axis=1)
    return (np.exp(grid) if is_log else grid), line
