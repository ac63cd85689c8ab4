"""Figures of an adaptive search: what it cost to narrow the interval, and where its trials are."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullLocator

from raysl.analysis.answer import Threshold
from raysl.analysis.decisions import Search
from raysl.analysis.figure import FONT, INK, SERIES, legend, new_axes
from raysl.analysis.wording import arm_title, count

# Fixed colours, which do not follow the page's theme: all stand out on white and on black.
FIRST_TO_LAST = LinearSegmentedColormap.from_list("order", ("#f0c93a", "#3fa08c", "#3d6fb6"))
RATIOS = (1.1, 1.2, 1.5, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
SHADES = 24  # of the scale that explains the colours
COST_UNITS = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


def draw_spending(
    search: Search, thresholds: Sequence[Threshold], *, order: Sequence[str]
) -> Figure:
    """The ratio of the interval's ends against what was spent, a step line for each arm.

    The last of each is the answer's. Beside it the target, and what the full grid would cost.
    order: arms by colour, as in the other figures.
    """
    whole = max(search.cost, search.grid_cost or 0.0)
    divisor, x_label = cost_unit(search, whole)
    figure, axes = new_axes(x_label=x_label, y_label="upper end / lower end of the interval")
    arms = {belief.arm for d in search.decisions for belief in d.beliefs}
    shown = []
    for arm in sorted(arms, key=order.index):
        steps = ratios(search, arm, next((t for t in thresholds if t.arm == arm), None))
        shown += [ratio for _, ratio in steps]
        axes.plot(
            [cost / divisor for cost, _ in steps], [ratio for _, ratio in steps],
            color=SERIES[order.index(arm) % len(SERIES)], linewidth=1.6, drawstyle="steps-post",
            label=arm_title(arm),
        )  # fmt: skip
    if search.target_ratio:
        label = f"target {search.target_ratio:g}"
        axes.axhline(
            search.target_ratio, color=INK, linewidth=1.0, linestyle=(0, (2, 2)), label=label
        )
        shown.append(search.target_ratio)
    if search.grid_cost is not None:
        label = f"full grid, {search.grid_seeds} seeds"
        axes.axvline(search.grid_cost / divisor, color=SERIES[5], linewidth=2.0, label=label)
    axes.set_xlim(0, 1.06 * whole / divisor or 1.0)
    axes.set_yscale("log")
    top, bottom = 1.15 * max(shown, default=2.0), max(1.0, min(shown, default=1.0) / 1.15)
    axes.set_ylim(bottom, top)
    marks = [ratio for ratio in RATIOS if bottom <= ratio <= top]
    axes.yaxis.set_major_locator(FixedLocator(marks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticks(marks, [f"{mark:g}" for mark in marks])
    legend(figure, axes)
    return figure


def ratios(search: Search, arm: str, threshold: Threshold | None) -> list[tuple[float, float]]:
    """(cost, ratio of the interval's ends): before each decision, and at the end."""
    found = []
    for decision in search.decisions:
        spent = decision.cost_so_far - (decision.cost or 0.0)
        found += [(spent, belief.ratio) for belief in decision.beliefs if belief.arm == arm]
    if threshold is not None and threshold.low and threshold.high:
        found.append((search.cost, threshold.high / threshold.low))
    return found


def cost_unit(search: Search, whole: float) -> tuple[float, str]:
    """(costs of the search in one unit of the axis, its label) for costs of about this size."""
    if search.cost_name != "device_seconds":
        return 1e6, "images trained on, millions"
    seconds, name = next((u for u in COST_UNITS if whole >= 2 * u[0]), COST_UNITS[-1])
    return seconds, f"device time, {name}"


def draw_purchases(search: Search, *, order: Sequence[str], unit: str) -> Figure:
    """Each cell with its number of trials, and in it a strip for each, coloured by its order."""
    arms = [arm for arm in order if any(d.arm == arm for d in search.decisions)]
    has_flat = any(d.size is None for d in search.decisions)
    columns: list[float | None] = [*search.sizes, *([None] if has_flat else [])]
    figure, axes = new_axes(height=1.3 + 0.7 * len(arms), x_label=unit, y_label="")
    last = len(search.decisions)
    for row, arm in enumerate(arms):
        numbers: dict[float | None, list[int]] = {}
        for number, decision in enumerate(search.decisions, start=1):
            if decision.arm == arm:
                numbers.setdefault(decision.size, []).append(number)
        for column, size in enumerate(columns):
            bought = numbers.get(size, [])
            if not bought and (size is None) != (None in numbers):
                continue  # this arm has no such cell
            corner = (column - 0.42, row - 0.3)
            style: dict[str, Any] = {"fill": False, "edgecolor": INK, "linewidth": 0.6}
            axes.add_patch(Rectangle(corner, 0.84, 0.6, alpha=0.35, **style))
            height = 0.6 / max(len(bought), 1)
            for place, number in enumerate(bought):
                shade = FIRST_TO_LAST((number - 1) / max(last - 1, 1))
                bottom = row + 0.3 - (place + 1) * height  # the first at the bottom; y points down
                axes.add_patch(Rectangle((column - 0.42, bottom), 0.84, height, color=shade, lw=0))
            label = str(len(bought)) if bought else ""
            axes.text(column, row - 0.33, label, ha="center", va="bottom", fontsize=FONT, color=INK)
    axes.set_xlim(-0.7, len(columns) - 0.3)
    axes.set_ylim(len(arms) - 0.5, -1.1)
    axes.grid(False)
    axes.set_yticks(range(len(arms)), [arm_title(arm) for arm in arms])
    labels = ["any" if size is None else count(size) for size in columns]
    every = math.ceil(len(columns) * (max(map(len, labels)) + 1.5) / 46)
    kept = [i for i in range(len(columns)) if i % every == 0 or columns[i] is None]
    axes.set_xticks(kept, [labels[i] for i in kept])
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    _draw_scale(axes, len(columns), last)
    return figure


def _draw_scale(axes: Axes, num_columns: int, last: int) -> None:
    """The colours from the first trial to the last; as patches, since a page shows no images."""
    left, right, bottom, height = num_columns * 0.22 - 0.5, num_columns * 0.78 - 0.5, -0.98, 0.12
    width = (right - left) / SHADES
    for shade in range(SHADES):
        colour = FIRST_TO_LAST(shade / (SHADES - 1))
        axes.add_patch(Rectangle((left + shade * width, bottom), width, height, color=colour, lw=0))
    style: dict[str, Any] = {"va": "center", "fontsize": FONT, "color": INK}
    middle = bottom + height / 2
    axes.text(left - 0.2, middle, "first trial", ha="right", **style)
    axes.text(right + 0.2, middle, f"trial {last}", ha="left", **style)
