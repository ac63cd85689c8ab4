"""From a study's description and its results table to curves, thresholds and searches."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raysl.analysis.answer import Threshold
from raysl.analysis.levels import Curve, Noise, make_curves, pooled_noise
from raysl.analysis.scores import Score, scores_from_results
from raysl.analysis.threshold import find_threshold
from raysl.analysis.tuning import SearchedCell, is_finite, searched_cells
from raysl.analysis.wording import (
    arm_title,
    cell_text,
    count,
    listed,
    metric_title,
    number,
    points,
    unit_of,
)

CONFIDENCE = 0.90
Row = Mapping[str, Any]
Importance = Mapping[str, Mapping[str, float]]  # cell label -> parameter -> share of the variance


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The arms at one combination of further axes; `where` is empty without such axes.

    threshold: None for the `reason`, a sentence. notes: sentences beside either.
    """

    where: Mapping[str, Any]
    curves: tuple[Curve, ...]
    threshold: Threshold | None
    reason: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """Everything that is worked out from a study's results.

    metric: of the confirmation, on test. order: the arm in question, its baseline, the others;
    also the order of colours. noise: pooled over all cells of the study.
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

    @property
    def answer(self) -> str:
        """The answer to the study's question, in sentences."""
        if not any(comparison.curves for comparison in self.comparisons):
            return f"No answer yet: no confirmation trial has finished with {self.metric}."
        sentences = []
        for comparison in self.comparisons:
            text = comparison.threshold.sentence() if comparison.threshold else comparison.reason
            place = cell_text(comparison.where)
            sentences.append(f"At {place}: {text}" if place else text)
        return " ".join(sentences + self._best_values())

    def _best_values(self) -> list[str]:
        """Where a study compares nothing, the best value of the most important parameter."""
        shares: dict[str, float] = {}
        for found in self.importance.values():
            for param, share in found.items():
                shares[param] = shares.get(param, 0.0) + share
        names = sorted(shares, key=shares.__getitem__)
        searched = [c for c in self.searches if names and c.best and names[-1] in c.best.params]
        if not searched or any(comparison.threshold for comparison in self.comparisons):
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
    study: Mapping[str, Any], table: Any, *, importance: Importance | None = None
) -> Analysis:
    """Curves and thresholds of the confirmation on test, and the search on val."""
    rows = table.to_pylist()
    metric, size_axis = f"test/{study['objective']}", study["size_axis"]
    confirmed = [row for row in rows if row["phase"] == "confirm"]
    further = further_axes(study, rows)
    axes = tuple(name for name in study["axes"] if name in table.column_names)
    noise = study_noise(confirmed, metric=metric, axes=axes)
    unit = _unit(confirmed, size_axis)
    comparisons = []
    for where in combinations(further, confirmed):
        chosen: dict[str, Any] = {"metric": metric, "size_axis": size_axis, "where": where}
        scores = scores_from_results(table, **chosen)
        threshold, reason = _threshold(study, scores, metric=metric, unit=unit)
        notes = []
        healthy = scores_from_results(table, with_collapsed=False, **chosen)
        left_out = {s.where for s in scores if s.arm in (study["arm"], study["baseline"])}
        left_out -= {s.where for s in healthy}
        if threshold is not None and left_out:
            other, why = _threshold(study, healthy, metric=metric, unit=unit)
            text = other.sentence() if other else why
            notes.append(f"Without the collapsed trials ({len(left_out)}): {text}")
        comparisons.append(
            Comparison(
                where=where,
                curves=make_curves(scores, confidence=CONFIDENCE, noise=noise) if scores else (),
                threshold=threshold,
                reason=reason
                if study["baseline"]
                else _best(scores, noise, metric=metric, unit=unit),
                notes=tuple(notes),
            )
        )
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
    )


def further_axes(study: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """The axes beside the arm and the size that have more than one value."""
    names = [name for name in study["axes"] if name not in ("arm", study["size_axis"])]
    return [n for n in names if len({repr(r[n]) for r in rows if r.get(n) is not None}) > 1]


def combinations(axes: Sequence[str], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The values of further axes that occur together; one empty mapping without such axes."""
    found = []
    for row in rows:
        values = {axis: row[axis] for axis in axes}
        if None not in values.values() and values not in found:
            found.append(values)
    return found or [{}]


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


def _threshold(
    study: Mapping[str, Any], scores: Sequence[Score], *, metric: str, unit: str
) -> tuple[Threshold | None, str]:
    """The threshold, or why there is none; neither where the study asks for none."""
    arm, baseline = study["arm"], study["baseline"]
    if baseline is None or not scores:
        return None, ""
    present = {score.arm for score in scores}
    absent = [arm_title(name) for name in (arm, baseline) if name not in present]
    if absent:
        return None, f"No threshold: no trial of {listed(absent)} has finished with {metric}."
    try:
        return find_threshold(
            scores, arm=arm, baseline=baseline, confidence=CONFIDENCE, unit=unit
        ), ""
    except ValueError as error:  # too few sizes in common
        return None, f"No threshold: {error}"


def _best(scores: Sequence[Score], noise: Noise, *, metric: str, unit: str) -> str:
    """The answer of a study that compares nothing: its best cell."""
    if not scores:
        return ""
    curves = make_curves(scores, confidence=CONFIDENCE, noise=noise)
    levels = [(curve.arm, level) for curve in curves for level in curve.levels]
    arm, level = max(levels, key=lambda pair: pair[1].mean)
    place = "" if level.size is None else f" at {count(level.size)} {unit}"
    text = f"{arm_title(arm)} does best{place}: {points(level.mean)}"
    if level.low is not None and level.high is not None:
        text += f" ({100 * CONFIDENCE:g} % interval {points(level.low)} to {points(level.high)})"
    return f"{text} in {metric_title(metric)}. No baseline was named, so there is no threshold."


def _unit(confirmed: Sequence[Row], size_axis: str) -> str:
    """What the sizes count; where every image of the pool is labelled, simply images."""
    sized = [row for row in confirmed if row.get(size_axis) is not None]
    if size_axis == "pool_size" and sized and "label_size" in sized[0]:
        labels = {row["label_size"] for row in sized}
        if len(labels) > 1 and all(row["label_size"] == row[size_axis] for row in sized):
            return "images"
    return unit_of(size_axis)
