"""Figures of a search over parameters: every trial, and the importance of each parameter."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from raysl.analysis.figure import FONT, INK, MARKERS, SERIES, legend, log_axis, new_axes
from raysl.analysis.tuning import SearchedCell, is_log_scaled, smooth
from raysl.analysis.wording import metric_title

NUM_STYLES = len(SERIES)


def draw_search(cells: Sequence[SearchedCell], *, param: str, metric: str, unit: str) -> Figure:
    """One arm's finished trials of a search over one parameter, a colour for each size.

    Lines are moving averages along the parameter; a ring marks the best trial of each size.
    """
    figure, axes = new_axes(x_label=param, y_label=metric_title(metric))
    values = [tried.params[param] for cell in cells for tried in cell.with_param(param)]
    named = any(isinstance(v, bool) or not isinstance(v, int | float) for v in values)
    names = sorted({str(value) for value in values})
    is_log = not named and is_log_scaled(values)
    if is_log:
        log_axis(axes, values, ticks=_decades(min(values), max(values)))
    elif named:
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
    for number, cell in enumerate(cells):
        tried = cell.with_param(param)
        if not tried:
            continue
        colour, marker = SERIES[number % NUM_STYLES], MARKERS[number % NUM_STYLES]
        raw = [t.params[param] for t in tried]
        beside = (number - (len(cells) - 1) / 2) * 0.12
        xs = [names.index(str(v)) + beside if named else float(v) for v in raw]
        ys = [t.value for t in tried]
        dots: dict[str, Any] = {"color": colour, "marker": marker, "s": 16, "alpha": 0.7}
        axes.scatter(xs, ys, linewidths=0, label=cell.size_title(unit), **dots)
        if not named and len(set(xs)) > 3:
            axes.plot(*smooth(xs, ys, is_log=is_log), color=colour, linewidth=1.6)
        best = int(np.argmax(ys))
        ring: dict[str, Any] = {"facecolors": "none", "edgecolors": colour, "linewidths": 1.4}
        axes.scatter(xs[best], ys[best], s=70, **ring)
    legend(figure, axes)
    return figure


def draw_importance(importance: Mapping[str, Mapping[str, float]]) -> Figure:
    """Bars of each parameter's share of the variance, a colour for each cell."""
    totals: dict[str, float] = {}
    for shares in importance.values():
        for param, share in shares.items():
            totals[param] = totals.get(param, 0.0) + share
    params = sorted(totals, key=totals.__getitem__)
    bar = 0.8 / max(len(importance), 1)
    height = 1.0 + len(params) * (0.25 + 0.14 * len(importance))
    figure, axes = new_axes(
        height=height, x_label="share of the variance in the search", y_label=""
    )
    for number, (cell, shares) in enumerate(importance.items()):
        places = [i + 0.4 - (number + 0.5) * bar for i in range(len(params))]
        axes.barh(
            places, [shares.get(param, 0.0) for param in params], height=bar * 0.9,
            color=SERIES[number % NUM_STYLES], label=cell,
        )  # fmt: skip
    axes.set_yticks(range(len(params)), params, fontsize=FONT)
    axes.tick_params(axis="y", length=0)
    axes.grid(False)
    axes.grid(axis="x", color=INK, alpha=0.12, linewidth=0.6)
    axes.set_xlim(left=0)
    legend(figure, axes)
    return figure


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between low and high."""
    marks = [
        factor * 10.0**power
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for factor in (1, 2, 5)
    ]
    return [mark for mark in marks if low <= mark <= high]
