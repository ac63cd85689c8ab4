"""The scaling curves and the report of a study, as runs: made from report.json alone."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raysl.analysis.wording import cell_text
from raysl.mlflow_runs import Point, RunContent, safe_name, tags_of

REPORT_FILES = ("report.html", "report.json", "results.parquet", "figures/*.png")


def curve_runs(
    curves: Mapping[str, Sequence[tuple[float | None, ...]]], *, metric: str, study: str
) -> list[RunContent]:
    """A run for each arm, from its (size, mean) or (size, mean, low, high) rows.

    The mean is called curve/..., so that MLflow's chart of it holds the curves and no trials; the
    interval's ends are called interval/... An arm with one mean for all sizes (size None) is drawn
    at every size of the other arms.
    """
    sizes = sorted({row[0] for rows in curves.values() for row in rows if row[0] is not None})
    names = [
        safe_name(form.format(metric))
        for form in ("curve/{}", "interval/{}_low", "interval/{}_high")
    ]
    contents = []
    for arm, rows in curves.items():
        points: dict[Point, float] = {}
        for size, *values in rows:
            for step in sizes or [0] if size is None else [size]:
                for name, value in zip(names, values, strict=False):
                    if value is not None and math.isfinite(value):
                        points[name, int(step)] = value
        tags = {"raysl.arm": arm, "raysl.metric": metric, "raysl.study_digest": study}
        contents.append(
            RunContent(
                key=f"curve/{metric}/{arm}",
                kind="curve",
                name=f"curve: {arm}, {metric}",
                status="FINISHED",
                tags=tags_of(tags),
                points=points,
            )
        )
    return contents


def report_runs(study_directory: Path, *, study: str) -> list[RunContent]:
    """The curves of each metric in report.json, and a run with the report's files; or none."""
    path = study_directory / "report.json"
    if not path.exists():
        return []
    report = json.loads(path.read_text())
    contents = []
    for metric in report["metrics"]:
        contents += curve_runs(curves_of(report, metric), metric=metric, study=study)
    found = [file for pattern in REPORT_FILES for file in sorted(study_directory.glob(pattern))]
    note = f"{report['question']} {report['answer']}"  # the page shows one line of it
    files = RunContent(
        key="report",
        kind="report",
        name="report",
        status="FINISHED",
        tags=tags_of({"raysl.study_digest": study, "mlflow.note.content": note}),
        files={str(file.relative_to(study_directory)): file for file in found},
    )
    return [*contents, files]


def curves_of(report: Mapping[str, Any], metric: str) -> dict[str, list[tuple[float | None, ...]]]:
    """Arm -> (size, mean, low, high) rows of one metric in the content of report.json.

    The study's own metric has its curves there; the others are put together from its cells.
    """
    curves: dict[str, list[tuple[float | None, ...]]] = {}
    if metric == report["metric"]:
        for curve in report["curves"]:
            curves[curve["arm"]] = [
                (p["size"], p["mean"], p["low"], p["high"]) for p in curve["points"]
            ]
        return curves
    for comparison in report["comparisons"]:
        where, place = comparison["where"], cell_text(comparison["where"])
        for entry in report["cells"]:
            cell, level = entry["cell"], entry["metrics"].get(metric)
            # A cell that does not depend on an axis belongs to every value of it.
            fits = all(cell.get(axis) in (None, value) for axis, value in where.items())
            if level is not None and fits:
                rows = curves.setdefault(f"{cell['arm']}, {place}" if place else cell["arm"], [])
                size = cell.get(report["size_axis"])
                rows.append((size, level["mean"], level["low"], level["high"]))
    return curves
