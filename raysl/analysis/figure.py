"""The look of every figure: one palette, plain numbers on log axes, PNG and themed SVG.

A figure is drawn once, in the colours for a white page. For an HTML page its SVG takes the page's
text colour and the custom properties --series-1 ... --series-6 instead, so that it follows the
reader's light or dark theme.
"""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from raysl.analysis.wording import count

INK = "#1a1b1c"
# Distinguishable with colour-blind eyes and at least 3:1 against white; markers differ as well.
SERIES = ("#0072b2", "#d55e00", "#007a5a", "#a2478f", "#9a6a00", "#5f6368")
MARKERS = ("o", "s", "^", "D", "v", "P")
WIDTH = 5.0  # inches: text of 9 points is still read on a phone and not huge on a desk
FONT = 9.0
Part = Literal["curves", "ranking", "checks", "steps", "search"]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One figure as PNG for files and as SVG for the page, with the sentences that it supports.

    name: of the file, without its ending. part: its place in the report: the answer's curves, the
    ranking, what checks the curves, the steps of an adaptive search, the search over parameters.
    """

    name: str
    part: Part
    caption: str
    alternative: str
    png: bytes
    svg: str


def finish(
    figure: Figure,
    name: str,
    part: Part,
    *,
    caption: str,
    alternative: str,
) -> Drawing:
    """The figure written in both formats; alternative: what it shows, for who cannot see it."""
    png = to_png(figure)
    figure.set_layout_engine("none")  # it is laid out already
    svg = to_svg(figure, name, title=alternative)
    return Drawing(name=name, part=part, caption=caption, alternative=alternative, png=png, svg=svg)


def new_axes(*, height: float = 3.4, x_label: str, y_label: str) -> tuple[Figure, Axes]:
    """A figure that no global state knows of, with one pair of axes."""
    figure, (axes,) = new_panels([(x_label, y_label)], height=height)
    return figure, axes


def new_panels(
    labels: Sequence[tuple[str, str]], *, height: float = 3.4
) -> tuple[Figure, list[Axes]]:
    """A figure with axes side by side, one for each (x label, y label)."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    found = []
    for number, (x_label, y_label) in enumerate(labels, start=1):
        axes = figure.add_subplot(1, len(labels), number)
        axes.set_xlabel(x_label, fontsize=FONT, color=INK)
        axes.set_ylabel(y_label, fontsize=FONT, color=INK)
        axes.tick_params(labelsize=FONT, labelcolor=INK, color=INK, length=3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(INK)
        axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
        axes.set_axisbelow(True)
        found.append(axes)
    return figure, found


def log_axis(
    axes: Axes,
    values: Sequence[float],
    *,
    ticks: Sequence[float] | None = None,
    padding: float = 0.05,
    characters: int = 46,
) -> None:
    """A log x axis over the values with plain numbers at them, or at the ticks.

    Where two numbers would touch, the one in the middle goes; the ends always stay. characters: how
    many fit along the axis.
    """
    low, high = math.log(min(values)), math.log(max(values))
    extra = padding * (high - low) or 0.5
    axes.set_xscale("log")
    axes.set_xlim(math.exp(low - extra), math.exp(high + extra))
    marks = sorted(set(values if ticks is None else ticks))
    kept = spaced(marks, span=high - low + 2 * extra, characters=characters)
    axes.xaxis.set_major_locator(FixedLocator(kept))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(kept, [count(value) for value in kept])


def spaced(values: Sequence[float], *, span: float, characters: int = 46) -> list[float]:
    """Those of the increasing values whose labels fit beside each other on a log axis.

    span: of the axis, in log; characters: how many fit along it.
    """

    def fit(left: float, right: float) -> bool:
        needed = (len(count(left)) + len(count(right))) / 2 + 1.5
        return math.log(right / left) / span * characters >= needed

    if len(values) < 2:
        return list(values)
    kept = [values[0]]
    for value in values[1:-1]:
        if fit(kept[-1], value) and fit(value, values[-1]):
            kept.append(value)
    return [*kept, values[-1]]


def legend(figure: Figure, axes: Axes, *, columns: int = 2) -> None:
    """A legend above the axes, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles,
            labels,
            loc="outside upper left",
            ncols=columns,
            fontsize=FONT,
            labelcolor=INK,
            frameon=False,
            handlelength=1.8,
            columnspacing=1.2,
        )


def to_png(figure: Figure) -> bytes:
    """For files: on white, 1000 pixels wide."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def to_svg(figure: Figure, name: str, *, title: str) -> str:
    """For a page: an svg element that follows its theme, its ids unique by `name`."""
    buffer = io.StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', _opening(title), text, count=1)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = text.replace(INK, "currentColor")
    for number, colour in enumerate(SERIES, start=1):
        text = text.replace(colour, f"var(--series-{number}, {colour})")
    return text.strip()


def _opening(title: str) -> str:
    from html import escape

    label = escape(title, quote=True).replace("\\", r"\\")
    return (
        rf'<svg viewBox="\1" role="img" aria-label="{label}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
