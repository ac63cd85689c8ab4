"""Figures of the answer: scaling curves, and the difference of two arms.

Each function returns a Figure; `figure.to_png` and `figure.to_svg` write it.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from raysl.analysis.answer import Difference, FittedCurve, Threshold
from raysl.analysis.figure import INK, MARKERS, SERIES, legend, log_axis, new_axes
from raysl.analysis.levels import Curve
from raysl.analysis.wording import about, arm_title, metric_title, number

DODGE = 0.012  # of the axis, between the arms' points at one size
NUM_STYLES = len(SERIES)
DASHES = (0, (4, 2))  # where no size was measured
BEYOND = 0.3  # of the height of what was measured, that is left for what was not


def draw_curves(
    curves: Sequence[Curve],
    *,
    order: Sequence[str],
    metric: str,
    unit: str,
    threshold: Threshold | None = None,
) -> Figure:
    """A point for each seed, over the fitted curves with 50 and 90 % bands where there are any.

    Other arms get mean lines with interval bands. Flat arms are horizontal lines. order: arms by
    colour; one that is not drawn keeps its colour free.
    """
    figure, axes = new_axes(x_label=f"{unit} (log scale)", y_label=metric_title(metric))
    sized = [curve.arm for curve in curves if not curve.is_flat]
    sizes = sorted({level.size for c in curves for level in c.levels if level.size is not None})
    fits = {fit.arm: fit for fit in threshold.curves} if threshold else {}
    sizes = sorted({*sizes, *(threshold.asked if threshold else ())})
    log_axis(axes, sizes or [1.0], padding=0.08)
    for curve in sorted(curves, key=lambda c: order.index(c.arm)):
        style = order.index(curve.arm) % NUM_STYLES
        beside = [c.arm for c in curves if c.is_flat] if curve.is_flat else sized
        shift = (beside.index(curve.arm) - (len(beside) - 1) / 2) * DODGE
        if threshold is not None and curve.arm in fits:
            _draw_fit(axes, fits[curve.arm], threshold, colour=SERIES[style])
        else:
            _draw_means(axes, curve, colour=SERIES[style])
        _draw_points(axes, curve, colour=SERIES[style], marker=MARKERS[style], shift=shift)
    if threshold is not None:
        values = [value for curve in curves for level in curve.levels for value in level.values]
        shown = [value for fit in fits.values() for value in _to_show(fit, threshold)]
        _limit_height(axes, threshold, [*values, *shown])
        _draw_threshold(axes, threshold)
    if not sizes:
        axes.set_xticks([])
    legend(figure, axes)
    return figure


def _draw_fit(axes: Axes, fit: FittedCurve, threshold: Threshold, *, colour: str) -> None:
    title = arm_title(fit.arm)
    if fit.is_flat:
        low, lower, middle, upper, high = (row[0] for row in fit.quantiles)
        axes.axhline(middle, color=colour, linewidth=1.6, label=title)
        for bottom, top in ((low, high), (lower, upper)):
            axes.axhspan(bottom, top, color=colour, alpha=0.13, linewidth=0)
        return
    for start, stop, measured in _stretches(threshold):
        sizes, rows = _between(fit.sizes, fit.quantiles, start, stop)
        dashes = "-" if measured else DASHES
        label = title if measured else "_"
        axes.plot(sizes, rows[2], color=colour, linewidth=1.6, linestyle=dashes, label=label)
        for bottom, top in ((0, 4), (1, 3)):
            shade = 0.13 if measured else 0.07
            axes.fill_between(
                sizes, rows[bottom], rows[top], color=colour, alpha=shade, linewidth=0
            )


def _draw_means(axes: Axes, curve: Curve, *, colour: str) -> None:
    title = arm_title(curve.arm)
    has_band = curve.levels[0].low is not None
    lows = [level.low or 0.0 for level in curve.levels]
    highs = [level.high or 0.0 for level in curve.levels]
    means = [level.mean for level in curve.levels]
    if curve.is_flat:
        axes.axhline(means[0], color=colour, linewidth=1.6, label=title)
        if has_band:
            axes.axhspan(lows[0], highs[0], color=colour, alpha=0.15, linewidth=0)
        return
    sizes = [level.size or 0.0 for level in curve.levels]
    axes.plot(sizes, means, color=colour, linewidth=1.6, label=title)
    if has_band and len(sizes) > 1:
        axes.fill_between(sizes, lows, highs, color=colour, alpha=0.15, linewidth=0)
    elif has_band:
        axes.vlines(sizes, lows, highs, color=colour, alpha=0.3, linewidth=6)


def _draw_points(axes: Axes, curve: Curve, *, colour: str, marker: str, shift: float) -> None:
    """A point for each seed; those of a flat arm at the right edge."""
    left, right = axes.get_xlim()
    edge = blended_transform_factory(axes.transAxes, axes.transData)
    for level in curve.levels:
        dots: dict[str, Any] = {"color": colour, "marker": marker, "s": 16, "alpha": 0.7}
        place = 0.98 + shift if level.size is None else level.size * (right / left) ** shift
        if level.size is None:
            dots["transform"] = edge
        axes.scatter([place] * len(level.values), level.values, linewidths=0, **dots)


def draw_difference(threshold: Threshold, *, units: str = "points") -> Figure:
    """Arm minus baseline: fitted curve in its simultaneous band, and the means as points.

    Lines at zero and at the margin, a strip over the threshold's interval.
    """
    arm, baseline = arm_title(threshold.arm), arm_title(threshold.baseline)
    figure, axes = new_axes(
        height=3.0,
        x_label=f"{threshold.unit} (log scale)",
        y_label=f"{arm} − {baseline}, {units}",
    )
    sizes = [difference.size for difference in threshold.differences]
    log_axis(axes, [*sizes, *threshold.asked], padding=0.08)
    axes.axhline(0, color=INK, linewidth=1.0)
    means = [math.nan if d.mean is None else d.mean for d in threshold.differences]
    if threshold.margin:
        label = f"margin {number(threshold.margin)}"
        axes.axhline(threshold.margin, color=INK, linewidth=1.0, linestyle=(0, (1, 2)), label=label)
    if threshold.band:
        _draw_band(axes, threshold)
        axes.plot(sizes, means, "o", color=SERIES[0], markersize=4, label="means of the trials")
    else:
        axes.plot(
            sizes, means, color=SERIES[0], marker="o", markersize=4, linewidth=1.6, label="means"
        )
    _draw_threshold(axes, threshold)
    legend(figure, axes, columns=1)
    return figure


def _draw_band(axes: Axes, threshold: Threshold) -> None:
    sizes = [d.size for d in threshold.band]
    rows = [
        [math.nan if value is None else value for value in column]
        for column in zip(*(_band_of(d) for d in threshold.band), strict=True)
    ]
    shown = [*rows[1]]
    for start, stop, measured in _stretches(threshold):
        place, (low, middle, high) = _between(sizes, rows, start, stop)
        label = f"{100 * threshold.confidence:g} % band, all sizes together" if measured else "_"
        shade = 0.18 if measured else 0.1
        axes.fill_between(place, low, high, color=SERIES[0], alpha=shade, linewidth=0, label=label)
        style: dict[str, Any] = {"color": SERIES[0], "linewidth": 1.6}
        axes.plot(place, middle, linestyle="-" if measured else DASHES, **style)
        if measured:
            shown += [*low, *high]
    means = [d.mean for d in threshold.differences if d.mean is not None]
    _limit_height(axes, threshold, [*shown, *means, 0.0, threshold.margin])


def _band_of(difference: Difference) -> tuple[float | None, float | None, float | None]:
    return difference.band_low, difference.estimate, difference.band_high


def _draw_threshold(axes: Axes, threshold: Threshold) -> None:
    """A strip over the interval of the threshold, and a line at the point where it was found."""
    if threshold.low is None or threshold.high is None:
        return
    if threshold.kind not in ("found", "undetermined"):
        return
    left, right = axes.get_xlim()
    low = left if threshold.low <= threshold.asked[0] else threshold.low
    high = right if threshold.high >= threshold.asked[1] else threshold.high
    if (low, high) == (left, right):
        return  # anywhere: a strip over all would say nothing
    interval = threshold.interval_text()
    if threshold.kind == "undetermined" or threshold.point is None:
        label = f"undetermined: {interval}"
        axes.axvspan(low, high, color=INK, alpha=0.09, linewidth=0, label=label)
        return
    axes.axvspan(low, high, color=INK, alpha=0.09, linewidth=0)
    label = f"threshold about {about(threshold.point)} ({interval})"
    axes.axvline(threshold.point, color=INK, linewidth=1.0, linestyle=(0, (2, 2)), label=label)


def _stretches(threshold: Threshold) -> Iterator[tuple[float, float, bool]]:
    """(from, to, whether both arms were measured there) of the range that is asked for."""
    (first, last), (low, high) = threshold.sizes, threshold.asked
    if low < first:
        yield low, min(first, high), False
    if max(low, first) < min(high, last):
        yield max(low, first), min(high, last), True
    if last < high:
        yield max(last, low), high, False


def _between(
    sizes: Sequence[float], rows: Sequence[Sequence[float]], start: float, stop: float
) -> tuple[list[float], list[list[float]]]:
    """The part of some curves on one grid of sizes between two sizes, its ends interpolated."""
    chosen = [start, *(size for size in sizes if start < size < stop), stop]
    return chosen, [np.interp(np.log(chosen), np.log(sizes), row).tolist() for row in rows]


def _to_show(fit: FittedCurve, threshold: Threshold) -> list[float]:
    """The fit's median, and the ends of its 90 % band where both arms were measured."""
    found = [*fit.quantiles[2]]
    for start, stop, measured in _stretches(threshold):
        if measured:
            _, rows = _between(fit.sizes, (fit.quantiles[0], fit.quantiles[-1]), start, stop)
            found += [*rows[0], *rows[1]]
    return found


def _limit_height(axes: Axes, threshold: Threshold, values: Sequence[float]) -> None:
    """Keep bands that widen where nothing was measured from pressing the rest flat."""
    values = [value for value in values if math.isfinite(value)]
    if threshold.sizes == threshold.asked or not values:
        return
    room = BEYOND * (max(values) - min(values) or 1.0)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, min(values) - room), min(high, max(values) + room))
