"""From a study's description and its results table to curves, thresholds and searches."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raysl.analysis.compare import CONFIDENCE, Comparison, compare, compare_at_one_size
from raysl.analysis.frontier import find_frontier, scores_by_label_size
from raysl.analysis.frontier_answer import Frontier
from raysl.analysis.levels import Noise, pooled_noise
from raysl.analysis.scores import scores_from_results
from raysl.analysis.test_set import Flags
from raysl.analysis.tuning import SearchedCell, is_finite, searched_cells
from raysl.analysis.wording import (
    count,
    listed,
    number,
    placed,
    unit_of,
)

Row = Mapping[str, Any]
Importance = Mapping[str, Mapping[str, float]]  # cell label -> parameter -> share of the variance


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """Everything that is worked out from a study's results.

    metric: of the confirmation, on test. order: the arm in question, its baseline, the others;
    also the order of colours. noise: pooled over all cells of the study. frontier: where a study
    crosses pool and label sizes; None for the frontier_reason.
    """

    metric: str
    unit: str
    size_axis: str
    order: tuple[str, ...]
    axes: tuple[str, ...]
    noise: Noise
    comparisons: tuple[Comparison, ...]
    searches: tuple[SearchedCell, ...]
    importance: Importance
    frontier: Frontier | None = None
    frontier_reason: str = ""

    @property
    def answer(self) -> str:
        """The answer to the study's question, in sentences."""
        if not any(comparison.curves for comparison in self.comparisons):
            return f"No answer yet: no confirmation trial has finished with {self.metric}."
        sentences = []
        if self.frontier is not None:
            sentences.append(f"All label sizes read together: {self.frontier.sentence()}")
        elif self.frontier_reason:
            sentences.append(self.frontier_reason)
        for comparison in self.comparisons:
            text = comparison.threshold.sentence() if comparison.threshold else comparison.reason
            sentences.append(placed(comparison.where, text))
            if comparison.threshold and self._has_several_methods and comparison.rankings:
                sentences.append(placed(comparison.where, comparison.rankings[-1].sentence()))
        return " ".join(sentences + self._best_values())

    @property
    def _has_several_methods(self) -> bool:
        """Whether several arms are each compared with the baseline at the same place."""
        return len({repr(c.where) for c in self.comparisons}) < len(self.comparisons)

    def _best_values(self) -> list[str]:
        """Where a study compares nothing, the best value of the most important parameter."""
        shares: dict[str, float] = {}
        for found in self.importance.values():
            for param, share in found.items():
                shares[param] = shares.get(param, 0.0) + share
        names = sorted(shares, key=shares.__getitem__)
        searched = [c for c in self.searches if names and c.best and names[-1] in c.best.params]
        compared = any(c.threshold or c.rankings for c in self.comparisons)
        if not searched or compared:
            return []
        values = [
            f"{number(c.best.params[names[-1]], digits=2)}"
            + ("" if c.size is None else f" at {count(c.size)}")
            for c in searched
            if c.best is not None
        ]
        unit = "" if searched[0].size is None else f" {self.unit}"
        return [f"The search found the best {names[-1]} to be {listed(values)}{unit}."]


def analyse(
    study: Mapping[str, Any],
    table: Any,
    *,
    importance: Importance | None = None,
    correct: Mapping[str, Flags] | None = None,
) -> Analysis:
    """Curves and thresholds of the confirmation on test, and the search on val.

    correct: which test images each trial got right, by its digest, where trials tell it.
    """
    rows = table.to_pylist()
    metric, size_axis = f"test/{study['objective']}", study["size_axis"]
    confirmed = [row for row in rows if row["phase"] == "confirm"]
    further = further_axes(study, rows)
    axes = tuple(name for name in study["axes"] if name in table.column_names)
    noise = study_noise(confirmed, metric=metric, axes=axes)
    unit = _unit(confirmed, size_axis)
    comparisons = []
    for where in combinations(study, further):
        chosen: dict[str, Any] = {"metric": metric, "size_axis": size_axis, "where": where}
        scores = scores_from_results(table, **chosen)
        healthy = scores_from_results(table, with_collapsed=False, **chosen)
        methods = compared_arms(study)
        if len(methods) > 1 and len(study["axes"][size_axis]) == 1:
            comparisons.append(
                compare_at_one_size(study, where, scores=scores, noise=noise, unit=unit)
            )
            continue
        for arm in methods:
            comparisons.append(
                compare(
                    study, arm, where,
                    scores=[s for s in scores if s.arm == arm or s.arm not in methods],
                    healthy=healthy,
                    ranked=scores if arm == methods[0] else [],
                    noise=noise, metric=metric, unit=unit,
                    correct={f"trial {digest}": c for digest, c in (correct or {}).items()},
                )
            )  # fmt: skip
    frontier, why = _frontier(study, table, further, metric=metric)
    return Analysis(
        metric=metric,
        unit=unit,
        size_axis=size_axis,
        order=tuple(arm_order(study, rows)),
        axes=axes,
        noise=noise,
        comparisons=tuple(comparisons),
        importance=importance or {},
        searches=searched_cells(
            table, objective=study["objective"], axes=axes, size_axis=size_axis
        ),
        frontier=frontier,
        frontier_reason=why,
    )


def compared_arms(study: Mapping[str, Any]) -> tuple[str, ...]:
    """The arms whose threshold over the baseline is sought."""
    return tuple(study.get("methods") or (study["arm"],))


def further_axes(study: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """The axes beside the arm and the size that have several values and matter to some trial."""
    names = [name for name in study["axes"] if name not in ("arm", study["size_axis"])]
    several = [name for name in names if len(study["axes"][name]) > 1]
    return [name for name in several if any(row.get(name) is not None for row in rows)]


def combinations(study: Mapping[str, Any], axes: Sequence[str]) -> list[dict[str, Any]]:
    """All combinations of the values of further axes; one empty mapping without such axes.

    Those without a trial too: that a question has no answer is part of the answer.
    """
    values = itertools.product(*(study["axes"][axis] for axis in axes))
    return [dict(zip(axes, chosen, strict=True)) for chosen in values]


def arm_order(study: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """The arm in question, its baseline, then the others by name."""
    named = [arm for arm in (study["arm"], study["baseline"]) if arm]
    return named + sorted({row["arm"] for row in rows} - set(named))


def group_rows(rows: Sequence[Row], axes: Sequence[str]) -> list[list[Row]]:
    """The rows of each cell, in the order of the rows."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(json.dumps([row[axis] for axis in axes]), []).append(row)
    return list(found.values())


def study_noise(confirmed: Sequence[Row], *, metric: str, axes: Sequence[str]) -> Noise:
    """The sd between seeds, pooled over all cells of the confirmation."""
    finished = [r for r in confirmed if r["status"] == "ok" and is_finite(r.get(metric))]
    return pooled_noise([[r[metric] for r in cell] for cell in group_rows(finished, axes)])


def _frontier(
    study: Mapping[str, Any], table: Any, further: Sequence[str], *, metric: str
) -> tuple[Frontier | None, str]:
    """The frontier of a study that crosses pool and label sizes, or why there is none."""
    crossed = study["size_axis"] == "pool_size" and list(further) == ["label_size"]
    if study["baseline"] is None or not crossed:
        return None, ""
    try:
        return find_frontier(
            scores_by_label_size(table, metric=metric),
            arm=study["arm"],
            baseline=study["baseline"],
            confidence=CONFIDENCE,
        ), ""
    except ValueError as error:
        return None, f"No frontier: {error}"


def _unit(confirmed: Sequence[Row], size_axis: str) -> str:
    """What the sizes count; where every image of the pool is labelled, simply images."""
    sized = [row for row in confirmed if row.get(size_axis) is not None]
    if size_axis == "pool_size" and sized and "label_size" in sized[0]:
        labels = {row["label_size"] for row in sized}
        if len(labels) > 1 and all(row["label_size"] == row[size_axis] for row in sized):
            return "images"
    return unit_of(size_axis)
