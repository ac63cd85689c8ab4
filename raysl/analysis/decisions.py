"""Why each trial of an adaptive search was chosen, and what the search has spent."""

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import nnls

from raysl.analysis.tuning import is_finite
from raysl.analysis.verdict import Kind
from raysl.study.results import stop_reason

COSTS = ("device_seconds", "examples")  # the first that some trial has measured


@dataclass(frozen=True, kw_only=True)
class Belief:
    """What was known of an arm's threshold; inside: the probability that it is in the range."""

    arm: str
    kind: Kind
    point: float
    low: float
    high: float
    inside: float

    @property
    def ratio(self) -> float:
        """How wide the interval was: its upper end over its lower."""
        return self.high / self.low


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A trial that a search chose.

    size: None of an arm that does not depend on it. order: from 0, in the order of proposing.
    reason: empty where the trial was not chosen by a search. gain: the expected share of the
    variance of log n* that it takes away; sd: of log n* before it. beliefs: before it, none at
    the start. value: None where the trial failed or did not measure the metric. cost: None where
    it is not known; cost_so_far counts it as 0, and includes this trial.
    """

    order: int
    arm: str
    size: float | None
    seed: int
    reason: str
    gain: float | None
    sd: float | None
    beliefs: tuple[Belief, ...]
    status: str
    value: float | None
    cost: float | None
    cost_so_far: float


@dataclass(frozen=True, kw_only=True)
class Search:
    """A whole adaptive search.

    cost_name: what costs are, "device_seconds" or "examples". grid_cost: of every cell with
    `grid_seeds` seeds, predicted from the measured costs; None where an arm has none. sizes: all
    that the search chose from. stop_reason: a sentence, empty while the search goes on.
    """

    decisions: tuple[Decision, ...]
    sizes: tuple[float, ...]
    cost_name: str
    grid_cost: float | None
    grid_seeds: int
    target_ratio: float | None
    stop_reason: str

    @property
    def cost(self) -> float:
        return self.decisions[-1].cost_so_far


def read_search(study: Mapping[str, Any], table: Any, *, metric: str) -> Search | None:
    """The search behind a results table; None where no trial was chosen for a reason."""
    rows = [row for row in table.to_pylist() if row["phase"] == "confirm"]
    rows.sort(key=lambda row: row["order"])
    if not any(json.loads(row["why"]) for row in rows):
        return None
    cost_name = next((n for n in COSTS if any(is_finite(_cost(row, n)) for row in rows)), COSTS[0])
    costs = [_cost(row, cost_name) for row in rows]
    so_far = itertools.accumulate(cost or 0.0 for cost in costs)
    size_axis, design = study["size_axis"], study.get("design") or {}
    grid_seeds = design.get("grid_seeds", len(study["confirm_seeds"]))
    decisions = tuple(
        _decision(row, metric=metric, size_axis=size_axis, cost=cost, cost_so_far=total)
        for row, cost, total in zip(rows, costs, so_far, strict=True)
    )
    return Search(
        decisions=decisions,
        sizes=tuple(float(size) for size in sorted(study["axes"][size_axis])),
        cost_name=cost_name,
        grid_cost=_grid_cost(study, decisions, grid_seeds),
        grid_seeds=grid_seeds,
        target_ratio=design.get("target_ratio"),
        stop_reason=stop_reason(table),
    )


def describe_search(search: Search | None) -> dict[str, Any]:
    """The search as plain values, for report.json; no decisions where there was none."""
    if search is None:
        return {"decisions": [], "spending": None, "stop_reason": ""}
    names = ("cost_name", "cost", "grid_cost", "grid_seeds", "target_ratio")
    return {
        "decisions": [dataclasses.asdict(decision) for decision in search.decisions],
        "spending": {name: getattr(search, name) for name in names},
        "stop_reason": search.stop_reason,
    }


def _cost(row: Mapping[str, Any], name: str) -> float | None:
    cost = row.get(f"cost/{name}")
    return cost if is_finite(cost) else None


def _decision(
    row: Mapping[str, Any],
    *,
    metric: str,
    size_axis: str,
    cost: float | None,
    cost_so_far: float,
) -> Decision:
    why = json.loads(row["why"])
    value = row.get(metric) if row["status"] == "ok" else None
    return Decision(
        order=row["order"],
        arm=row["arm"],
        size=row[size_axis],
        seed=row["seed"],
        reason=why.get("reason", ""),
        gain=why.get("gain"),
        sd=why.get("sd"),
        beliefs=tuple(
            belief
            for verdict in why.get("verdicts", ())
            if math.isfinite((belief := Belief(**verdict)).ratio)
        ),
        status=row["status"],
        value=value if is_finite(value) else None,
        cost=cost,
        cost_so_far=cost_so_far,
    )


def _grid_cost(
    study: Mapping[str, Any], decisions: Sequence[Decision], grid_seeds: int
) -> float | None:
    """Of all cells with so many seeds: by arm a constant and a rate for an image."""
    sizes = np.array(study["axes"][study["size_axis"]], dtype=float)
    total = 0.0
    for arm in study["axes"]["arm"]:
        taken = [(d.size, d.cost) for d in decisions if d.arm == arm and d.cost is not None]
        if not taken:
            return None
        costs = np.array([cost for _, cost in taken])  # [T]
        sized = np.array([size for size, _ in taken if size is not None])  # [T], or none
        if not len(sized):
            total += float(costs.mean())
            continue
        (rate, constant), _ = nnls(np.stack([sized, np.ones_like(sized)], axis=1), costs)
        total += float((rate * sizes + constant).sum())
    return total * grid_seeds
