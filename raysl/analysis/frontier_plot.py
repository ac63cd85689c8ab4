"""The frontier as a figure: the grid of both sizes, coloured by who is ahead, and the line."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, NullLocator

from raysl.analysis.figure import FONT, legend, log_axis, new_axes
from raysl.analysis.frontier_answer import Frontier
from raysl.analysis.wording import arm_title, count, unit_of

# Fixed colours, which do not follow the page's theme: cells stay light under dark numbers. Orange
# and blue are told apart with colour-blind eyes, and their ends are light enough for the numbers.
BEHIND, AHEAD = "#f0a56b", "#7cbde3"
CELL_INK = "#202224"
LINE = "#8b2f78"
MAP = LinearSegmentedColormap.from_list("ahead", (BEHIND, "#ffffff", AHEAD))


def draw_frontier(frontier: Frontier) -> Figure:
    """Cells with the mean difference in points, and the frontier with its band.

    A filled dot is a claim, a hollow one the median where the answer is undetermined; an arrow
    says that the frontier lies beyond the grid.
    """
    across, up = _edges(frontier.pool_sizes), _edges(frontier.label_sizes)
    figure, axes = new_axes(
        height=1.7 + 0.4 * max(len(frontier.label_sizes), 4),
        x_label=f"{unit_of('pool_size')} (log scale)",
        y_label=f"{unit_of('label_size')} (log scale)",
    )
    log_axis(axes, frontier.pool_sizes)
    axes.set_xlim(across[0], across[-1])
    axes.set_yscale("log")
    axes.set_ylim(up[0], up[-1])
    axes.yaxis.set_major_locator(FixedLocator(frontier.label_sizes))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticks(frontier.label_sizes, [count(size) for size in frontier.label_sizes])
    axes.grid(False)
    _draw_cells(axes, frontier, across, up)
    _name(axes, "o", "#ffffff", "undetermined")
    _draw_line(axes, frontier)
    _name(axes, "<", LINE, "beyond the grid")
    _draw_points(axes, frontier)
    legend(figure, axes)
    return figure


def _draw_cells(axes: Axes, frontier: Frontier, across: list[float], up: list[float]) -> None:
    pools, labels = frontier.pool_sizes, frontier.label_sizes
    means = np.full((len(labels), len(pools)), np.nan)  # [L, P]; a cell without trials stays empty
    for cell in frontier.cells:
        means[labels.index(cell.label_size), pools.index(cell.pool_size)] = cell.mean
        mean = round(cell.mean, 1)
        axes.annotate(
            f"{mean:+.1f}".replace("-", "\N{MINUS SIGN}") if mean else "0.0",
            (cell.pool_size, cell.label_size), xytext=(0, 7), textcoords="offset points",
            color=CELL_INK, fontsize=FONT, ha="center", va="center", zorder=5,
            path_effects=[withStroke(linewidth=2.0, foreground="#ffffff")],
        )  # fmt: skip
    reach = float(np.nanmax(np.abs(means))) or 1.0  # white is zero, whichever arm is farther ahead
    axes.pcolormesh(
        across, up, means, cmap=MAP, vmin=-reach, vmax=reach, edgecolor="#ffffff", linewidth=1.0
    )
    for colour, name in ((AHEAD, frontier.arm), (BEHIND, frontier.baseline)):
        _name(axes, "s", colour, f"{arm_title(name)} ahead, in points", edge=colour)


def _draw_line(axes: Axes, frontier: Frontier) -> None:
    """The median where it lies inside the grid; a band that is open there goes to the edge."""
    first, last = frontier.pool_sizes[0], frontier.pool_sizes[-1]
    left, right = axes.get_xlim()
    labels = [place.label_size for place in frontier.line]
    inside = [p.point if first < p.point < last else math.nan for p in frontier.line]
    lows = [left if p.low <= first else p.low for p in frontier.line]
    highs = [right if p.high >= last else p.high for p in frontier.line]
    better = f" by {frontier.margin:g} points" if frontier.margin else ""
    title = f"{arm_title(frontier.arm)} pays{better} right of this line"
    axes.plot(inside, labels, color=LINE, linewidth=2.0, zorder=4, label=title)
    title = f"its {100 * frontier.confidence:g} % band"
    style: dict[str, Any] = {"color": LINE, "alpha": 0.2, "linewidth": 0, "zorder": 3}
    axes.fill_betweenx(labels, lows, highs, label=title, **style)


def _draw_points(axes: Axes, frontier: Frontier) -> None:
    left, right = axes.get_xlim()
    shift = (right / left) ** 0.025
    for point in frontier.points:
        fill = "#ffffff" if point.kind in ("undetermined", "several") else LINE
        if point.point is not None:
            place, marker = point.point, "o"
        elif point.masses.below > point.masses.above:
            place, marker = left * shift, "<"
        else:
            place, marker = right / shift, ">"
        axes.plot(place, point.label_size, marker, markersize=6, mfc=fill, mec=LINE, zorder=6)


def _name(axes: Axes, marker: str, colour: str, label: str, *, edge: str = LINE) -> None:
    """An entry of the legend for marks that are drawn one by one."""
    axes.plot([], [], marker, markersize=7, mfc=colour, mec=edge, label=label)


def _edges(sizes: Sequence[float]) -> list[float]:
    """The borders of the cells on a log axis, halfway between sizes; the ends as far out."""
    inner = [math.sqrt(a * b) for a, b in itertools.pairwise(sizes)]
    return [sizes[0] ** 2 / inner[0], *inner, sizes[-1] ** 2 / inner[-1]]
