"""Figures of how far a threshold can be trusted: its posterior, the residuals, other families."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raysl.analysis.answer import Threshold
from raysl.analysis.figure import (
    FONT,
    INK,
    MARKERS,
    SERIES,
    legend,
    log_axis,
    new_axes,
    new_panels,
)
from raysl.analysis.models import ModelComparison
from raysl.analysis.wording import about, arm_title, count, probability

END_BAR = 0.09  # of the range, in log: how wide a bar for one end of it is
PANEL_CHARACTERS = 20  # that fit along one of two axes side by side
Z = 2.0  # noise sds; lines there hold 95 % of normal residuals between them


def draw_places(threshold: Threshold) -> Figure:
    """The posterior of n* in bins of equal width in log, its censored masses as bars at the ends.

    Bins within the threshold's interval are darker.
    """
    assert threshold.masses is not None
    low, high = threshold.asked
    figure, axes = new_axes(
        height=3.0, x_label=f"n*, {threshold.unit} (log scale)", y_label="probability"
    )
    sizes = sorted({low, high, *(d.size for d in threshold.differences if low < d.size < high)})
    factor = (high / low) ** END_BAR
    log_axis(axes, [low / factor**2, high * factor**2], ticks=sizes, padding=0.02)
    start, stop = threshold.low or low, threshold.high or high
    for first, last, share in threshold.places:
        is_inside = start <= math.sqrt(first * last) <= stop
        shade = 0.85 if is_inside else 0.35
        axes.bar(first, share, width=last - first, align="edge", color=SERIES[0], alpha=shade)
    ends = [
        (low / factor**1.6, low / factor**0.4, threshold.masses.below, f"below\n{count(low)}"),
        (high * factor**0.4, high * factor**1.6, threshold.masses.above, f"above\n{count(high)}"),
    ]
    top = max(0.02, *(share for _, _, share in threshold.places), *(end[2] for end in ends))
    for first, last, mass, title in ends:
        axes.bar(first, mass, width=last - first, align="edge", color=SERIES[1], alpha=0.85)
        axes.text(
            math.sqrt(first * last), mass + 0.03 * top, f"{title}\n{probability(mass)}",
            ha="center", va="bottom", fontsize=FONT, color=INK,
        )  # fmt: skip
    axes.set_yticks([tick for tick in axes.get_yticks() if tick <= 1])
    axes.set_ylim(0, 1.4 * top)
    if threshold.kind == "found" and threshold.point is not None:
        label = f"threshold about {about(threshold.point)} ({threshold.interval_text()})"
        axes.axvline(threshold.point, color=INK, linewidth=1.0, linestyle=(0, (2, 2)), label=label)
    legend(figure, axes)
    return figure


def draw_residuals(threshold: Threshold) -> Figure:
    """How far each trial lies from its curve: against the size, and against normal quantiles."""
    y_label = "distance from the curve, noise sds"
    figure, (left, right) = new_panels(
        [(f"{threshold.unit} (log scale)", y_label), ("normal quantile", "")], height=3.2
    )
    found = [r for r in threshold.residuals if math.isfinite(r.z)]
    sizes = sorted({r.size for r in found if r.size is not None}) or [1.0]
    log_axis(left, sizes, padding=0.14, characters=PANEL_CHARACTERS)
    place_of_flat = left.get_xlim()[1]
    reach = 1.1 * max(2.5, *(abs(r.z) for r in found))
    for number, arm in enumerate((threshold.arm, threshold.baseline)):
        own = [r for r in found if r.arm == arm]
        dots: dict[str, Any] = {
            "color": SERIES[number], "marker": MARKERS[number], "s": 14, "alpha": 0.7,
            "linewidths": 0, "clip_on": False,
        }  # fmt: skip
        places = [place_of_flat if r.size is None else r.size for r in own]
        left.scatter(places, [r.z for r in own], label=arm_title(arm), **dots)
        ranks = [(rank, r) for rank, r in enumerate(sorted(found, key=lambda r: r.z), start=1)]
        mine = [(normal_quantile(rank, len(found)), r.z) for rank, r in ranks if r.arm == arm]
        right.scatter([x for x, _ in mine], [y for _, y in mine], **dots)
    for axes in (left, right):
        axes.set_ylim(-reach, reach)
        axes.axhline(0, color=INK, linewidth=0.8)
    for z in (-Z, Z):
        left.axhline(z, color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
    right.plot([-reach, reach], [-reach, reach], color=INK, linewidth=0.8)
    right.set_xlim(-3, 3)
    legend(figure, left)
    return figure


def normal_quantile(rank: int, number: int) -> float:
    """Where the value of this rank, counted from 1, lies among so many normal ones."""
    return NormalDist().inv_cdf((rank - 0.5) / number)


def draw_models(comparison: ModelComparison, threshold: Threshold) -> Figure:
    """n* under each curve family, best on top, and the answer with its interval below them.

    Filled: plausible; a triangle at an end: no switch within the sizes.
    """
    assert comparison.sizes is not None
    models = comparison.models
    figure, axes = new_axes(
        height=1.3 + 0.28 * (len(models) + 1),
        x_label=f"n*, {threshold.unit} (log scale)",
        y_label="",
    )
    low, high = comparison.sizes
    sizes = [d.size for d in threshold.differences] or [low, high]
    log_axis(axes, [low, high], ticks=sizes, padding=0.06, characters=30)
    if comparison.model_uncertainty is not None:
        axes.axvspan(*comparison.model_uncertainty, color=SERIES[0], alpha=0.13, linewidth=0)
    beside = axes.get_yaxis_transform()
    for row, model in enumerate(models):
        place, marker = model.switch, "o"
        if place is None:
            place, marker = (low, "<") if model.ahead == "everywhere" else (high, ">")
        fill = SERIES[0] if model.plausible else "none"
        axes.plot(place, row, marker, markersize=6, mfc=fill, mec=SERIES[0], mew=1.3)
        behind = model.log_score - models[0].log_score
        text = "best" if row == 0 else f"{behind:.1f}".replace("-", "\N{MINUS SIGN}")
        axes.text(1.02, row, text, transform=beside, va="center", fontsize=FONT, color=INK)
    axes.text(1.02, -0.9, "log score", transform=beside, va="center", fontsize=FONT, color=INK)
    _draw_answer(axes, threshold, row=len(models))
    axes.axhline(len(models) - 0.5, color=INK, linewidth=0.6, alpha=0.4)
    axes.set_yticks(
        range(len(models) + 1), [*(model.name for model in models), "answer, with noise"]
    )
    axes.set_ylim(len(models) + 0.6, -0.6)
    axes.tick_params(axis="y", length=0)
    return figure


def _draw_answer(axes: Axes, threshold: Threshold, *, row: int) -> None:
    left, right = axes.get_xlim()
    if threshold.low is not None and threshold.high is not None:
        start = left if threshold.low <= threshold.asked[0] else threshold.low
        stop = right if threshold.high >= threshold.asked[1] else threshold.high
        axes.plot([start, stop], [row, row], color=SERIES[1], linewidth=2.0)
    if threshold.point is not None:
        axes.plot(threshold.point, row, "D", markersize=5, color=SERIES[1])


def residual_counts(threshold: Threshold) -> tuple[int, int]:
    """(trials, those of them that lie more than `Z` noise sds from their curve)."""
    found: Sequence[float] = [r.z for r in threshold.residuals if math.isfinite(r.z)]
    return len(found), int(np.sum(np.abs(found) > Z))
