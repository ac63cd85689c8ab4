"""A figure of a ranking: every arm's mean with its interval, the best on top."""

from matplotlib.figure import Figure

from raysl.analysis.figure import FONT, INK, MARKERS, SERIES, new_axes
from raysl.analysis.ranking import Ranking
from raysl.analysis.wording import arm_title, metric_title, probability

ROW = 0.26  # inches


def draw_ranking(ranking: Ranking, *, metric: str) -> Figure:
    """A row an arm: mean, 90 % interval and the probability to be within the margin of the best.

    Colour and marker change from tie group to tie group.
    """
    group = {arm: i for i, arms in enumerate(ranking.groups) for arm in arms}
    standings = ranking.standings
    figure, axes = new_axes(
        height=0.9 + ROW * len(standings), x_label=metric_title(metric), y_label=""
    )
    for row, standing in enumerate(standings):
        style = group[standing.arm] % len(SERIES)
        colour, marker = SERIES[style], MARKERS[style]
        axes.plot(standing.interval, [row, row], color=colour, linewidth=1.6)
        axes.plot([standing.mean], [row], marker=marker, color=colour, markersize=5)
        axes.annotate(
            probability(standing.p_within_margin),
            (1.0, row), xycoords=("axes fraction", "data"), xytext=(4, 0),
            textcoords="offset points", va="center", fontsize=FONT, color=INK,
        )  # fmt: skip
    axes.annotate(
        f"P(within {ranking.margin:g} of the best)",
        (1.0, -0.7), xycoords=("axes fraction", "data"), xytext=(28, 0),
        textcoords="offset points", ha="right", va="bottom", fontsize=FONT, color=INK,
    )  # fmt: skip
    axes.set_yticks(range(len(standings)), [arm_title(s.arm) for s in standings])
    axes.set_ylim(len(standings) - 0.5, -0.7)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=INK, alpha=0.12, linewidth=0.6)
    return figure
