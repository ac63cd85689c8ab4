"""Figures: scaling curves, the difference of two arms, a search, importance.

Each function returns a Figure; `figure.to_png` and `figure.to_svg` write it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from raysl.analysis.answer import Threshold
from raysl.analysis.figure import FONT, INK, MARKERS, SERIES, legend, log_axis, new_axes
from raysl.analysis.levels import Curve
from raysl.analysis.tuning import SearchedCell, is_log_scaled, smooth
from raysl.analysis.wording import about, arm_title, metric_title

DODGE = 0.012  # of the axis, between the arms' points at one size
NUM_STYLES = len(SERIES)


def draw_curves(
    curves: Sequence[Curve],
    *,
    order: Sequence[str],
    metric: str,
    unit: str,
    threshold: Threshold | None = None,
) -> Figure:
    """Mean lines with interval bands and a point for each seed; flat arms as horizontal lines.

    order: arms by colour; one that is not drawn keeps its colour free.
    """
    figure, axes = new_axes(x_label=f"{unit} (log scale)", y_label=metric_title(metric))
    sized = [curve.arm for curve in curves if not curve.is_flat]
    sizes = sorted({level.size for c in curves for level in c.levels if level.size is not None})
    log_axis(axes, sizes or [1.0], padding=0.08)
    for curve in sorted(curves, key=lambda c: order.index(c.arm)):
        style = order.index(curve.arm) % NUM_STYLES
        beside = [c.arm for c in curves if c.is_flat] if curve.is_flat else sized
        shift = (beside.index(curve.arm) - (len(beside) - 1) / 2) * DODGE
        _draw_curve(axes, curve, colour=SERIES[style], marker=MARKERS[style], shift=shift)
    if threshold is not None:
        _draw_threshold(axes, threshold)
    if not sizes:
        axes.set_xticks([])
    legend(figure, axes)
    return figure


def _draw_curve(axes: Axes, curve: Curve, *, colour: str, marker: str, shift: float) -> None:
    title = arm_title(curve.arm)
    dots: dict[str, Any] = {"color": colour, "marker": marker, "s": 16, "alpha": 0.7}
    has_band = curve.levels[0].low is not None
    lows = [level.low or 0.0 for level in curve.levels]
    highs = [level.high or 0.0 for level in curve.levels]
    means = [level.mean for level in curve.levels]
    if curve.is_flat:
        axes.axhline(means[0], color=colour, linewidth=1.6, linestyle=(0, (5, 2)), label=title)
        if has_band:
            axes.axhspan(lows[0], highs[0], color=colour, alpha=0.15, linewidth=0)
        edge = blended_transform_factory(axes.transAxes, axes.transData)
        values = curve.levels[0].values
        axes.scatter([0.98 + shift] * len(values), values, transform=edge, linewidths=0, **dots)
        return
    sizes = [level.size or 0.0 for level in curve.levels]
    axes.plot(sizes, means, color=colour, linewidth=1.6, label=title)
    left, right = axes.get_xlim()
    for size, level in zip(sizes, curve.levels, strict=True):
        place = size * (right / left) ** shift
        axes.scatter([place] * len(level.values), level.values, linewidths=0, **dots)
    if has_band and len(sizes) > 1:
        axes.fill_between(sizes, lows, highs, color=colour, alpha=0.15, linewidth=0)
    elif has_band:
        axes.vlines(sizes, lows, highs, color=colour, alpha=0.3, linewidth=6)


def draw_difference(threshold: Threshold) -> Figure:
    """Arm minus baseline with its simultaneous band, the zero line and the threshold's band."""
    arm, baseline = arm_title(threshold.arm), arm_title(threshold.baseline)
    figure, axes = new_axes(
        height=3.0,
        x_label=f"{threshold.unit} (log scale)",
        y_label=f"{arm} − {baseline}, points",
    )
    sizes = [difference.size for difference in threshold.differences]
    log_axis(axes, sizes, padding=0.08)
    axes.axhline(0, color=INK, linewidth=1.0)
    means = [difference.mean for difference in threshold.differences]
    if threshold.differences[0].band_low is not None:
        label = f"{100 * threshold.confidence:g} % band, all sizes together"
        lows = [difference.band_low or 0.0 for difference in threshold.differences]
        highs = [difference.band_high or 0.0 for difference in threshold.differences]
        axes.fill_between(sizes, lows, highs, color=SERIES[0], alpha=0.18, linewidth=0, label=label)
    axes.plot(sizes, means, color=SERIES[0], marker="o", markersize=4, linewidth=1.6, label="means")
    _draw_threshold(axes, threshold)
    legend(figure, axes, columns=1)
    return figure


def _draw_threshold(axes: Axes, threshold: Threshold) -> None:
    """A band over the interval and a line at the point, for a threshold that was found."""
    if threshold.kind != "found" or threshold.low is None or threshold.high is None:
        return
    assert threshold.point is not None
    left, right = axes.get_xlim()
    low = left if threshold.low <= threshold.sizes[0] else threshold.low
    high = right if threshold.high >= threshold.sizes[1] else threshold.high
    axes.axvspan(low, high, color=INK, alpha=0.09, linewidth=0)
    label = f"threshold about {about(threshold.point)} ({threshold.interval_text()})"
    axes.axvline(threshold.point, color=INK, linewidth=1.0, linestyle=(0, (2, 2)), label=label)


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
