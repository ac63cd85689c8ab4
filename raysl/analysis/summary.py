"""All that a report says as plain values: the content of report.json, which the page words."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from raysl.analysis.analyse import CONFIDENCE, Analysis, Comparison, Importance, Row, group_rows
from raysl.analysis.claims import claims_sentence
from raysl.analysis.decisions import describe_search, read_search
from raysl.analysis.levels import half_width, pooled_noise
from raysl.analysis.models import ModelComparison
from raysl.analysis.tuning import SearchedCell, is_finite
from raysl.analysis.wording import arm_title, cell_text, count, listed
from raysl.config import to_dict

VERSION = 1  # of the shape of report.json


def summarise(
    study: Mapping[str, Any],
    table: Any,
    analysis: Analysis,
    *,
    num_unfinished: int,
) -> dict[str, Any]:
    """The content of report.json.

    Several values of a further axis give several comparisons; "threshold" is the first one's, and
    a curve's "arm" then carries the value, so that it names one curve.
    """
    rows = table.to_pylist()
    comparisons = [_comparison(c, metric=analysis.metric) for c in analysis.comparisons]
    return {
        "version": VERSION,
        "name": study["name"],
        "question": study["question"],
        "answer": analysis.answer,
        "metric": analysis.metric,
        "metrics": test_metrics(rows, analysis.metric),
        "unit": analysis.unit,
        "size_axis": study["size_axis"],
        "threshold": comparisons[0]["threshold"],
        "comparisons": comparisons,
        "frontier": None
        if analysis.frontier is None
        else dataclasses.asdict(analysis.frontier) | {"sentence": analysis.frontier.sentence()},
        "curves": [c for comparison in analysis.comparisons for c in _curves(comparison)],
        "cells": _cells(rows, study, analysis),
        "training": _training(rows, analysis.order),
        "search": [_search(cell, analysis.importance) for cell in analysis.searches],
        "importance": to_dict(analysis.importance),
        "failed": [_trial(row, analysis.axes) for row in rows if row["status"] == "failed"],
        "collapsed": [_trial(row, analysis.axes) for row in rows if "collapsed" in row["flags"]],
        "cost": _cost(rows, analysis.order),
        "provenance": _provenance(rows),
        "warnings": _warnings(study, rows, analysis, num_unfinished),
        "study": dict(study),
    } | describe_search(read_search(study, table, metric=analysis.metric))


def _comparison(comparison: Comparison, *, metric: str) -> dict[str, Any]:
    threshold = comparison.threshold
    known = {
        "where": dict(comparison.where),
        "notes": list(comparison.notes),
        "test_set": None
        if comparison.test_set is None
        else dataclasses.asdict(comparison.test_set) | {"sentence": comparison.test_set.sentence()},
        "rankings": [
            dataclasses.asdict(ranking) | {"sentence": ranking.sentence()}
            for ranking in comparison.rankings
        ],
        "claims": {
            "sentence": claims_sentence(comparison.claims) if comparison.claims else "",
            "claims": [dataclasses.asdict(claim) for claim in comparison.claims],
        },
        "models": _models(comparison.models),
    }
    if threshold is None:
        return known | {"threshold": None, "reason": comparison.reason}
    values = dataclasses.asdict(threshold)
    values |= {"sentence": threshold.sentence(), "interval": threshold.interval_text()}
    return known | {"threshold": values, "reason": ""}


def _models(models: ModelComparison | None) -> dict[str, Any] | None:
    if models is None:
        return None
    return dataclasses.asdict(models) | {"sentence": models.sentence(), "warning": models.warning()}


def _curves(comparison: Comparison) -> list[dict[str, Any]]:
    place = cell_text(comparison.where)
    return [
        {
            "arm": f"{curve.arm}, {place}" if place else curve.arm,
            "where": dict(comparison.where),
            "confidence": curve.confidence,
            "noise": dataclasses.asdict(curve.noise),
            "points": [dataclasses.asdict(level) for level in curve.levels],
        }
        for curve in comparison.curves
    ]


def _cells(
    rows: Sequence[Row], study: Mapping[str, Any], analysis: Analysis
) -> list[dict[str, Any]]:
    """Each cell with a confirmation trial: its trials, each test metric's mean and interval."""
    cells = group_rows([row for row in rows if row["phase"] == "confirm"], analysis.axes)
    found: list[dict[str, Any]] = [
        {
            "cell": {axis: cell[0][axis] for axis in analysis.axes},
            "num_ok": sum(row["status"] == "ok" for row in cell),
            "num_failed": sum(row["status"] == "failed" for row in cell),
            "num_collapsed": sum("collapsed" in row["flags"] for row in cell),
            "metrics": {},
        }
        for cell in cells
    ]
    for metric in test_metrics(rows, analysis.metric):
        values = [
            [r[metric] for r in cell if r["status"] == "ok" and is_finite(r[metric])]
            for cell in cells
        ]
        noise = pooled_noise([v for v in values if v])
        for entry, v in zip(found, values, strict=True):
            if v:
                mean, half = sum(v) / len(v), half_width(noise, len(v), CONFIDENCE)
                entry["metrics"][metric] = {
                    "num_seeds": len(v),
                    "mean": mean,
                    "low": None if half is None else mean - half,
                    "high": None if half is None else mean + half,
                }
    size, order = study["size_axis"], analysis.order

    def place(entry: Mapping[str, Any]) -> tuple[Any, ...]:
        cell = entry["cell"]
        further = [cell[axis] for axis in analysis.axes if axis not in ("arm", size)]
        keys = [(0, v, "") if isinstance(v, int | float) else (1, 0, str(v)) for v in further]
        return order.index(cell["arm"]), keys, cell.get(size) or 0

    return sorted(found, key=place)


def test_metrics(rows: Sequence[Row], primary: str) -> list[str]:
    """The metric of the study, then the other top-1 accuracies on test.

    The own head comes last, since few arms have one.
    """
    names = {name for row in rows for name in row}
    others = {n for n in names if n.startswith("test/") and n.endswith("_top1")} - {primary}
    ordered = sorted(others, key=lambda name: (name == "test/head_top1", name))
    return [name for name in (primary, *ordered) if name in names]


def _training(rows: Sequence[Row], order: Sequence[str]) -> list[dict[str, Any]]:
    """How long each arm trains; fixed epochs and fixed steps answer different questions."""
    found = []
    for arm in order:
        recipes = [json.loads(row["recipe"]) for row in rows if row["arm"] == arm]
        durations = {json.dumps(recipe.get("duration"), sort_keys=True) for recipe in recipes}
        stopping = {recipe.get("early_stopping") is not None for recipe in recipes}
        if recipes and durations != {"null"}:
            found.append(
                {
                    "arm": arm,
                    "durations": [json.loads(text) for text in sorted(durations)],
                    "early_stopping": True in stopping,
                }
            )
    return found


def _search(cell: SearchedCell, importance: Importance) -> dict[str, Any]:
    best = cell.best
    return {
        "cell": dict(cell.cell),
        "num_finished": len(cell.tried),
        "num_failed": cell.num_failed,
        "num_stopped": cell.num_stopped,
        "best": None
        if best is None
        else {"digest": best.digest, "value": best.value, "params": dict(best.params)},
        "importance": to_dict(importance.get(cell.label, {})),
    }


def _trial(row: Row, axes: Sequence[str]) -> dict[str, Any]:
    names = ("digest", "phase", "seed", "attempts", "error")
    return {"cell": {axis: row[axis] for axis in axes}} | {name: row[name] for name in names}


def _cost(rows: Sequence[Row], order: Sequence[str]) -> list[dict[str, Any]]:
    """By phase and arm; a trial that failed has no measured cost."""
    found = []
    for phase in ("search", "confirm"):
        for arm in order:
            trials = [row for row in rows if (row["phase"], row["arm"]) == (phase, arm)]
            if trials:
                entry: dict[str, Any] = {"phase": phase, "arm": arm, "num_trials": len(trials)}
                for name in ("device_seconds", "seconds", "examples"):
                    costs = [row.get(f"cost/{name}") for row in trials]
                    entry[name] = sum(cost for cost in costs if cost is not None)
                costs = [row.get("cost/seconds") for row in trials]
                entry["num_without_cost"] = costs.count(None)
                found.append(entry)
    return found


def _provenance(rows: Sequence[Row]) -> dict[str, list[dict[str, Any]]]:
    """Each fact with its values and how many trials have each; failed trials state none."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        for name, value in json.loads(row["provenance"]).items():
            values = found.setdefault(name, {})
            text = json.dumps(value)
            values[text] = values.get(text, 0) + 1
    return {
        name: [{"value": json.loads(text), "num_trials": n} for text, n in values.items()]
        for name, values in found.items()
    }


def _warnings(
    study: Mapping[str, Any], rows: Sequence[Row], analysis: Analysis, num_unfinished: int
) -> list[str]:
    """Sentences about what may make the numbers other than they seem."""
    found = []
    if num_unfinished:
        found.append(f"Not finished yet: {_trials(num_unfinished)}; run the study again for them.")
    for cell in analysis.searches:
        if cell.best is None:
            text = f"No trial of the search of {cell_text(cell.cell)} has finished: its best recipe"
            frozen = cell.size is not None and cell.size == study.get("reference_size")
            also = ", meant for the other sizes too," if frozen else ""
            found.append(f"{text}{also} is not confirmed.")
    confirmed = [row for row in rows if row["phase"] == "confirm"]
    finished = [row for row in confirmed if row["status"] == "ok"]
    lacking = [row["digest"] for row in finished if not is_finite(row.get(analysis.metric))]
    if lacking:
        names = listed(lacking[:5]) + (", ..." if lacking[5:] else "")
        found.append(f"Left out for want of {analysis.metric}: {_trials(len(lacking))} ({names}).")
    failed = [row for row in confirmed if row["status"] == "failed"]
    if failed:
        arms = [arm_title(a) for a in analysis.order if a in {row["arm"] for row in failed}]
        found.append(f"Failed: {_trials(len(failed))} ({listed(arms)}), not in the means.")
    collapsed = [row for row in finished if "collapsed" in row["flags"]]
    if collapsed:
        found.append(f"Collapsed: {_trials(len(collapsed))}, included in the means.")
    versions = {json.dumps(json.loads(row["protocols"]), sort_keys=True) for row in finished}
    if len(versions) > 1:
        found.append(
            "The trials were evaluated by different versions of a protocol, whose numbers do not "
            f"mix: {'; '.join(sorted(versions))}."
        )
    differing = [name for name, values in _provenance(rows).items() if len(values) > 1]
    if differing:
        found.append(f"The trials differ in {listed(differing)}; see the provenance below.")
    return found


def _trials(number: int) -> str:
    return "1 trial" if number == 1 else f"{count(number)} trials"
