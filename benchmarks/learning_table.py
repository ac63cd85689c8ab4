"""The table of `methods.py`: gain over random features, with an interval that all methods share."""

import math
import statistics
from collections import defaultdict
from typing import Any

from raysl.methods import METHODS

PROTOCOLS = ("knn_top1", "linear_top1")


def tables(lines: list[dict[str, Any]]) -> str:
    """A table for every budget: device, images of the pool and seconds."""
    budgets: dict[tuple, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        if line["data"] == "clothes":
            budgets[line["device"], line["seconds"], line["pool"]].append(line)
    for line in lines:  # the cells stand below the clothes of the same device
        for (device, seconds, _), others in budgets.items():
            if line["data"] != "clothes" and (line["device"], line["seconds"]) == (device, seconds):
                others.append(line)
    return "\n\n".join(
        f"{device}, {seconds:g} seconds, {pool:,} images:\n\n{table(found)}"
        for (device, seconds, pool), found in budgets.items()
    )


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: accuracy, gain over the random encoder in standard errors, epochs and cost.

    The standard error of a gain (paired by seed) is pooled over the methods of one encoder and
    data set, since two seeds alone do not tell it.
    """
    final = [line for line in lines if line["final"] and not line["overrides"]]
    split = "test" if final else "val"
    cells: dict[tuple[str, str, str], dict[int, dict[str, Any]]] = defaultdict(dict)
    for line in final or [line for line in lines if not line["overrides"]]:
        cells[line["data"], line["encoder"], line["method"]][line["seed"]] = line
    rows = []
    for metric in PROTOCOLS:
        gains = {cell: _gains(cells, cell, f"{split}/{metric}") for cell in cells}
        gains = {cell: gain for cell, gain in gains.items() if len(gain) > 1}
        kinds = {cell[:2] for cell in gains}  # data and encoder: seeds matter more to a ViT
        rows.append((metric, gains, {kind: _spread(gains, kind) for kind in kinds}))
    names = list(METHODS)
    head = ["method", "encoder", "data", "epochs", "images/s", *["k-NN", "gain", "linear", "gain"]]
    head.append("beats random")
    text = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for cell in sorted(cells, key=lambda cell: (cell[0] != "clothes", names.index(cell[2]))):
        data, encoder, method = cell
        if method == "random":
            text.append(f"| {method} | {encoder} | {data} | | | {_means(cells[cell], split)} | |")
            continue
        text.append(_row(cell, cells[cell], rows, split))
    spreads = "; ".join(
        f"{encoder} on {data} " + " and ".join(f"{row[2][data, encoder]:.2f}" for row in rows)
        for data, encoder in sorted(rows[0][2])
    )
    text.append("")
    text.append(f"Standard deviation of a gain over seeds, pooled over methods: {spreads} points.")
    return "\n".join(text)


def _spread(gains: dict[tuple[str, str, str], list[float]], kind: tuple[str, str]) -> float:
    """Standard deviation of a gain over seeds, pooled over the methods of one kind."""
    return math.sqrt(
        statistics.fmean(
            statistics.variance(gain) for cell, gain in gains.items() if cell[:2] == kind
        )
    )


def _gains(cells: dict, cell: tuple[str, str, str], metric: str) -> list[float]:
    """Accuracy less that of the random encoder of the same seed, a value for each seed."""
    floor = cells.get((cell[0], cell[1], "random"), {})
    if cell[2] == "random":
        return []
    return [
        line["metrics"][metric] - floor[seed]["metrics"][metric]
        for seed, line in cells[cell].items()
        if seed in floor
    ]


def _means(seeds: dict[int, dict[str, Any]], split: str) -> str:
    means = [
        statistics.fmean(line["metrics"][f"{split}/{metric}"] for line in seeds.values())
        for metric in PROTOCOLS
    ]
    return f"{means[0]:.1f} | | {means[1]:.1f}"


def _row(
    cell: tuple[str, str, str], seeds: dict[int, dict[str, Any]], rows: list, split: str
) -> str:
    data, encoder, method = cell
    lines = list(seeds.values())
    epochs = statistics.fmean(line["images"] / line["num_examples"] for line in lines)
    speed = statistics.fmean(
        line["images"] / (line["steps"] * line["seconds_per_step"]) for line in lines
    )
    parts = [f"| {method} | {encoder} | {data} | {epochs:.0f} | {speed:,.0f}"]
    beats = []
    for metric, gains, spread in rows:
        accuracy = statistics.fmean(line["metrics"][f"{split}/{metric}"] for line in lines)
        gain = gains.get(cell)
        if gain is None:
            parts.append(f"{accuracy:.1f} | ")
            continue
        error = spread[data, encoder] / math.sqrt(len(gain))
        mean = statistics.fmean(gain)
        parts.append(f"{accuracy:.1f} | {mean:+.1f} ± {2 * error:.1f}")
        beats.append(mean > 2 * error)
    verdict = {2: "both", 1: "one", 0: "no"}[sum(beats)] if len(beats) == 2 else ""
    flags = ", ".join(sorted({flag for line in lines for flag in line["flags"]}))
    return " | ".join([*parts, f"{verdict}{' (' + flags + ')' if flags else ''} |"])
