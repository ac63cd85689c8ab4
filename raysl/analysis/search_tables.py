"""The tables of both searches: over parameters in each cell, and for the threshold step by step."""

from collections.abc import Mapping
from typing import Any

from raysl.analysis.markup import Html, details, element, join, table, text
from raysl.analysis.wording import (
    arm_title,
    cell_text,
    count,
    duration,
    limits,
    metric_title,
    number,
    points,
    probability,
)

MANY = 12  # steps; a longer table is folded up


def search(content: Mapping[str, Any]) -> Html:
    if not content["search"]:
        return Html("")
    rows = []
    for cell in content["search"]:
        best = cell["best"]
        chosen = [f"{name} = {number(v)}" for name, v in best["params"].items()] if best else []
        trials = [f"{cell['num_finished']} finished"]
        trials += [
            f"{cell[key]} {word}"
            for key, word in (("num_stopped", "pruned"), ("num_failed", "failed"))
            if cell[key]
        ]
        rows.append(
            [
                cell_text(cell["cell"]),
                Html("<br>".join(text(line) for line in chosen)) if best else "none finished",
                points(best["value"]) if best else "–",
                ", ".join(trials),
            ]
        )
    metric = metric_title(content["metric"].replace("test/", "val/", 1))
    return table(
        "The search in each cell on val, and its best trial, whose parameters were confirmed.",
        ["cell", "best parameters", metric, "trials"],
        rows,
        numbers=(2,),
    )


def steps(content: Mapping[str, Any]) -> Html:
    """Every trial that a search for the threshold chose, and why it ended."""
    chosen = [decision for decision in content["decisions"] if decision["reason"]]
    if not chosen:
        return Html("")
    in_time = content["spending"]["cost_name"] == "device_seconds"
    sizes = content["study"]["axes"][content["size_axis"]]
    ends = (float(min(sizes)), float(max(sizes)))
    several = len({b["arm"] for decision in chosen for b in decision["beliefs"]}) > 1
    rows = [
        [
            decision["order"] + 1,
            arm_title(decision["arm"]),
            "any" if decision["size"] is None else count(decision["size"]),
            decision["seed"],
            decision["reason"],
            "–" if decision["gain"] is None else f"{100 * decision['gain']:.0f} %",
            _beliefs(decision, ends, named=several),
            decision["status"] if decision["value"] is None else points(decision["value"]),
            (duration if in_time else count)(decision["cost_so_far"]),
        ]
        for decision in chosen
    ]
    caption = (
        "Each trial in the order in which it was chosen: why; the share of the variance of log n* "
        "that it was expected to take away; the interval of n* known before, with the probability "
        f"that n* lies between {count(ends[0])} and {count(ends[1])}; its result; what all trials "
        "up to it cost."
    )
    header = [
        *("step", "arm", "size", "seed", "why", "expected gain", "known before"),
        *(metric_title(content["metric"]), "device time" if in_time else "images"),
    ]
    ended = content["stop_reason"]
    shown = table(caption, header, rows, numbers=(2, 3, 5, 7, 8))
    return join(
        [
            element("p", f"Why it ended: {ended}" if ended else "The search has not ended."),
            details(f"All {len(rows)} steps", shown) if len(rows) > MANY else shown,
        ]
    )


def _beliefs(decision: Mapping[str, Any], ends: tuple[float, float], *, named: bool) -> object:
    lines = []
    for belief in decision["beliefs"]:
        low, high = limits(belief["low"], belief["high"], ends)
        interval = low if low == high else f"{low} to {high}"
        title = f"{arm_title(belief['arm'])}: " if named else ""
        lines.append(f"{title}{interval} ({probability(belief['inside'])})")
    return Html("<br>".join(text(line) for line in lines)) if lines else "–"
